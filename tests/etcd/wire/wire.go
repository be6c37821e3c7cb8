// Package wire has the generated gRPC clients of etcd's API on one store. They send what they are told to, once: the Go
// client's retries, checks and splitting of requests would hide what a store answers.
package wire

import (
	"crypto/tls"
	"testing"

	"github.com/orlop/orlop/tests/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// Answers may be as large as the store likes, requests larger than it accepts.
const messageBytesMax = 1 << 31

// Client is a connection to one store, with a client of each service.
type Client struct {
	Conn  *grpc.ClientConn
	KV    pb.KVClient
	Watch pb.WatchClient
	Lease pb.LeaseClient
	Maint pb.MaintenanceClient
}

// Connect returns a new connection to a store, which is closed when the test ends. Calls wait for the store to be there
// only if they ask for it.
func Connect(t testing.TB, store *harness.Store) *Client {
	t.Helper()
	return ConnectWith(t, store, store.TLS)
}

// ConnectWith is Connect with another TLS configuration than the store's; nil is without TLS.
func ConnectWith(t testing.TB, store *harness.Store, config *tls.Config) *Client {
	t.Helper()
	secured := insecure.NewCredentials()
	if config != nil {
		secured = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient(store.Addr(),
		grpc.WithTransportCredentials(secured),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(messageBytesMax),
			grpc.MaxCallSendMsgSize(messageBytesMax),
		),
	)
	if err != nil {
		t.Fatalf("connecting to %s: %v", store.Endpoint, err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &Client{
		Conn:  conn,
		KV:    pb.NewKVClient(conn),
		Watch: pb.NewWatchClient(conn),
		Lease: pb.NewLeaseClient(conn),
		Maint: pb.NewMaintenanceClient(conn),
	}
}

// SameStatus says whether two errors are one to a client: of the same code and text. No error is equal to none.
func SameStatus(a, b error) bool {
	return status.Code(a) == status.Code(b) && status.Convert(a).Message() == status.Convert(b).Message()
}

// IsUnavailable says whether a client of etcd that gets this error tries again.
func IsUnavailable(err error) bool { return status.Code(err) == codes.Unavailable }
