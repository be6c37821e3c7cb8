package badinput

import (
	"context"
	"testing"
	"time"

	"github.com/orlop/orlop/tests/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

const (
	requestDeadline = 30 * time.Second
	answerBytesMax  = 64 << 20
)

// store is a running Orlop with plain gRPC clients, which send what they are told to.
type store struct {
	*harness.Store
	t     *testing.T
	conn  *grpc.ClientConn
	kv    pb.KVClient
	lease pb.LeaseClient
	watch pb.WatchClient
	maint pb.MaintenanceClient
}

func start(t *testing.T, opts ...harness.Option) *store {
	t.Helper()
	t.Parallel()
	process := harness.StartOrlop(t, opts...)
	conn, err := grpc.NewClient(process.Addr(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(answerBytesMax)),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &store{
		Store: process,
		t:     t,
		conn:  conn,
		kv:    pb.NewKVClient(conn),
		lease: pb.NewLeaseClient(conn),
		watch: pb.NewWatchClient(conn),
		maint: pb.NewMaintenanceClient(conn),
	}
}

// with returns the same store for a subtest.
func (s *store) with(t *testing.T) *store {
	same := *s
	same.t = t
	return &same
}

func (s *store) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
	s.t.Cleanup(cancel)
	return ctx
}

func (s *store) put(key, value string) error {
	_, err := s.kv.Put(s.context(), &pb.PutRequest{Key: []byte(key), Value: []byte(value)})
	return err
}

// mustPut writes what must be there later.
func (s *store) mustPut(key, value string) {
	s.t.Helper()
	if err := s.put(key, value); err != nil {
		s.t.Fatalf("put %s: %v", key, err)
	}
}

func (s *store) get(key string) (string, error) {
	response, err := s.kv.Range(s.context(), &pb.RangeRequest{Key: []byte(key)})
	if err != nil || len(response.Kvs) == 0 {
		return "", err
	}
	return string(response.Kvs[0].Value), nil
}

// mustHave requires that a key still has its value.
func (s *store) mustHave(key, value string) {
	s.t.Helper()
	got, err := s.get(key)
	if err != nil || got != value {
		s.t.Fatalf("%s is %.40q (%v), expected %.40q", key, got, err, value)
	}
}

func requireStatus(t *testing.T, want, got error) {
	t.Helper()
	if status.Code(got) != status.Code(want) || status.Convert(got).Message() != status.Convert(want).Message() {
		t.Fatalf("\n got %v\nwant %v", got, want)
	}
}
