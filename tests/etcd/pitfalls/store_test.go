package pitfalls

import (
	"context"
	"testing"
	"time"

	"github.com/orlop/orlop/tests/etcd/wire"
	"github.com/orlop/orlop/tests/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Generous: a request takes milliseconds, a busy machine may take its time.
const requestDeadline = 30 * time.Second

// store is a running store with plain clients.
type store struct {
	*harness.Store
	*wire.Client
	t *testing.T
}

// onBoth runs the same test against Orlop and against etcd.
func onBoth(t *testing.T, test func(*store), opts ...harness.Option) {
	t.Run("orlop", func(t *testing.T) { onOrlop(t, test, opts...) })
	t.Run("etcd", func(t *testing.T) {
		t.Parallel()
		test(connect(t, harness.StartEtcd(t, opts...)))
	})
}

// onOrlop is for what etcd itself does not keep to.
func onOrlop(t *testing.T, test func(*store), opts ...harness.Option) {
	t.Parallel()
	test(connect(t, harness.StartOrlop(t, opts...)))
}

func connect(t *testing.T, process *harness.Store) *store {
	return &store{Store: process, Client: wire.Connect(t, process), t: t}
}

// reconnect is for after a restart: the old connection would wait before it tries again.
func (s *store) reconnect() { s.Client = wire.Connect(s.t, s.Store) }

func (s *store) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
	s.t.Cleanup(cancel)
	return ctx
}

func (s *store) put(key, value string) int64 {
	s.t.Helper()
	return s.putWith(&pb.PutRequest{Key: []byte(key), Value: []byte(value)})
}

func (s *store) putWith(request *pb.PutRequest) int64 {
	s.t.Helper()
	response, err := s.KV.Put(s.context(), request)
	if err != nil {
		s.t.Fatalf("putting %q: %v", request.Key, err)
	}
	return response.Header.Revision
}

func (s *store) del(key string) int64 {
	s.t.Helper()
	response, err := s.KV.DeleteRange(s.context(), &pb.DeleteRangeRequest{Key: []byte(key)})
	if err != nil {
		s.t.Fatalf("deleting %q: %v", key, err)
	}
	return response.Header.Revision
}

func (s *store) get(request *pb.RangeRequest) *pb.RangeResponse {
	s.t.Helper()
	response, err := s.KV.Range(s.context(), request)
	if err != nil {
		s.t.Fatalf("reading %v: %v", request, err)
	}
	return response
}

func (s *store) compact(revision int64, physical bool) {
	s.t.Helper()
	if _, err := s.KV.Compact(s.context(), &pb.CompactionRequest{Revision: revision, Physical: physical}); err != nil {
		s.t.Fatalf("compacting at %d: %v", revision, err)
	}
}

func (s *store) fails(err, want error) {
	s.t.Helper()
	if err == nil || !wire.SameStatus(err, want) {
		s.t.Fatalf("got %v, expected %v", err, want)
	}
}

func key(name string) *pb.RangeRequest { return &pb.RangeRequest{Key: []byte(name)} }

func prefix(of string) *pb.RangeRequest {
	return &pb.RangeRequest{Key: []byte(of), RangeEnd: []byte(clientv3.GetPrefixRangeEnd(of))}
}

func opPut(name, value string) *pb.RequestOp {
	put := &pb.PutRequest{Key: []byte(name), Value: []byte(value)}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}}
}

func opRange(request *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: request}}
}

// watch is a stream of watches on one store.
type watch struct {
	*store
	stream pb.Watch_WatchClient
	cancel context.CancelFunc
}

func (s *store) openWatch() *watch {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s.t.Cleanup(cancel)
	stream, err := s.Watch.Watch(ctx)
	if err != nil {
		s.t.Fatalf("opening a watch stream: %v", err)
	}
	return &watch{store: s, stream: stream, cancel: cancel}
}

// all watches the keys with a prefix, with previous values, from a revision on.
func all(of string, from int64) *pb.WatchCreateRequest {
	span := prefix(of)
	return &pb.WatchCreateRequest{Key: span.Key, RangeEnd: span.RangeEnd, StartRevision: from, PrevKv: true}
}

// create asks for a watcher and returns the id that it gets.
func (w *watch) create(request *pb.WatchCreateRequest) int64 {
	w.t.Helper()
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}})
	created := w.next()
	if !created.Created || created.Canceled {
		w.t.Fatalf("not created: %v", created)
	}
	return created.WatchId
}

func (w *watch) askProgress() {
	w.t.Helper()
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
}

func (w *watch) send(request *pb.WatchRequest) {
	w.t.Helper()
	if err := w.stream.Send(request); err != nil {
		w.t.Fatalf("sending %v: %v", request, err)
	}
}

func (w *watch) next() *pb.WatchResponse {
	w.t.Helper()
	response, err := w.receive()
	if err != nil {
		w.t.Fatalf("the watch stream ended, or nothing came within %v: %v", requestDeadline, err)
	}
	return response
}

// receive ends the stream when nothing comes for too long.
func (w *watch) receive() (*pb.WatchResponse, error) {
	timer := time.AfterFunc(requestDeadline, w.cancel)
	defer timer.Stop()
	return w.stream.Recv()
}

// events reads until there are so many.
func (w *watch) events(n int) []*mvccpb.Event {
	w.t.Helper()
	var events []*mvccpb.Event
	for len(events) < n {
		response := w.next()
		if response.Canceled {
			w.t.Fatalf("cancelled after %d of %d events: %v", len(events), n, response)
		}
		events = append(events, response.Events...)
	}
	if len(events) > n {
		w.t.Fatalf("%d events, expected %d: %v", len(events), n, events)
	}
	return events
}
