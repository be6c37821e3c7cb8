package contract

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orlop/orlop/tests/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

// Generous: a request takes milliseconds, a busy machine may take its time.
const requestDeadline = 30 * time.Second

// Answers may be as large as the store likes, requests larger than it accepts.
const messageBytesMax = 64 << 20

// side is one store and the generated gRPC clients on it, without the Go client's retries and checks.
type side struct {
	name  string
	store *harness.Store
	conn  *grpc.ClientConn
	kv    pb.KVClient
	watch pb.WatchClient
	lease pb.LeaseClient
	maint pb.MaintenanceClient
	clust pb.ClusterClient
	auth  pb.AuthClient
}

// pair is an Orlop and an etcd that receive the same requests.
type pair struct {
	t     *testing.T
	orlop *side
	etcd  *side

	rng        rpc[*pb.RangeRequest, *pb.RangeResponse]
	put        rpc[*pb.PutRequest, *pb.PutResponse]
	del        rpc[*pb.DeleteRangeRequest, *pb.DeleteRangeResponse]
	txn        rpc[*pb.TxnRequest, *pb.TxnResponse]
	compact    rpc[*pb.CompactionRequest, *pb.CompactionResponse]
	grant      rpc[*pb.LeaseGrantRequest, *pb.LeaseGrantResponse]
	revoke     rpc[*pb.LeaseRevokeRequest, *pb.LeaseRevokeResponse]
	timeToLive rpc[*pb.LeaseTimeToLiveRequest, *pb.LeaseTimeToLiveResponse]
	leases     rpc[*pb.LeaseLeasesRequest, *pb.LeaseLeasesResponse]
	alarm      rpc[*pb.AlarmRequest, *pb.AlarmResponse]
	defragment rpc[*pb.DefragmentRequest, *pb.DefragmentResponse]
	hashKV     rpc[*pb.HashKVRequest, *pb.HashKVResponse]

	authStatus   rpc[*pb.AuthStatusRequest, *pb.AuthStatusResponse]
	authenticate rpc[*pb.AuthenticateRequest, *pb.AuthenticateResponse]
}

// start starts two empty stores. The options go to both.
func start(t *testing.T, opts ...harness.Option) *pair {
	t.Helper()
	t.Parallel()
	orlop := connect(t, "orlop", harness.StartOrlop(t, opts...))
	etcd := connect(t, "etcd", harness.StartEtcd(t, opts...))
	return bind(t, orlop, etcd)
}

// with returns the same two stores for a subtest.
func (p *pair) with(t *testing.T) *pair {
	return bind(t, p.orlop, p.etcd)
}

func bind(t *testing.T, orlop, etcd *side) *pair {
	p := &pair{t: t, orlop: orlop, etcd: etcd}
	kv := func(s *side) pb.KVClient { return s.kv }
	lease := func(s *side) pb.LeaseClient { return s.lease }
	maint := func(s *side) pb.MaintenanceClient { return s.maint }
	auth := func(s *side) pb.AuthClient { return s.auth }
	p.rng = unary(p, "Range", kv, pb.KVClient.Range)
	p.put = unary(p, "Put", kv, pb.KVClient.Put)
	p.del = unary(p, "DeleteRange", kv, pb.KVClient.DeleteRange)
	p.txn = unary(p, "Txn", kv, pb.KVClient.Txn)
	p.compact = unary(p, "Compact", kv, pb.KVClient.Compact)
	p.grant = unary(p, "LeaseGrant", lease, pb.LeaseClient.LeaseGrant)
	p.revoke = unary(p, "LeaseRevoke", lease, pb.LeaseClient.LeaseRevoke)
	p.timeToLive = unary(p, "LeaseTimeToLive", lease, pb.LeaseClient.LeaseTimeToLive)
	p.leases = unary(p, "LeaseLeases", lease, pb.LeaseClient.LeaseLeases)
	p.alarm = unary(p, "Alarm", maint, pb.MaintenanceClient.Alarm)
	p.defragment = unary(p, "Defragment", maint, pb.MaintenanceClient.Defragment)
	p.authStatus = unary(p, "AuthStatus", auth, pb.AuthClient.AuthStatus)
	p.authenticate = unary(p, "Authenticate", auth, pb.AuthClient.Authenticate)
	p.hashKV = unary(p, "HashKV", maint, pb.MaintenanceClient.HashKV)
	return p
}

func connect(t *testing.T, name string, store *harness.Store) *side {
	t.Helper()
	conn, err := grpc.NewClient(store.Addr(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(messageBytesMax),
			grpc.MaxCallSendMsgSize(messageBytesMax),
			// A store that restarts is waited for, so that tests need no retries of their own.
			grpc.WaitForReady(true),
		),
	)
	if err != nil {
		t.Fatalf("connecting to %s: %v", name, err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &side{
		name:  name,
		store: store,
		conn:  conn,
		kv:    pb.NewKVClient(conn),
		watch: pb.NewWatchClient(conn),
		lease: pb.NewLeaseClient(conn),
		maint: pb.NewMaintenanceClient(conn),
		clust: pb.NewClusterClient(conn),
		auth:  pb.NewAuthClient(conn),
	}
}

// each runs the same on both stores.
func (p *pair) each(run func(s *side)) {
	p.t.Helper()
	run(p.etcd)
	run(p.orlop)
}

// rpc is one method, called on both stores.
type rpc[Q, R proto.Message] struct {
	pair *pair
	name string
	call func(*side, context.Context, Q) (R, error)
}

func unary[C any, Q, R proto.Message](
	p *pair,
	name string,
	client func(*side) C,
	call func(C, context.Context, Q, ...grpc.CallOption) (R, error),
) rpc[Q, R] {
	return rpc[Q, R]{pair: p, name: name, call: func(s *side, ctx context.Context, request Q) (R, error) {
		return call(client(s), ctx, request)
	}}
}

// ok requires that both stores answer, with the same response, and returns Orlop's.
func (r rpc[Q, R]) ok(request Q) R {
	r.pair.t.Helper()
	etcd, err := r.send(r.pair.etcd, request)
	if err != nil {
		r.pair.t.Fatalf("%s(%v) on etcd: %v", r.name, request, err)
	}
	return r.answersLike(etcd, request)
}

// same requires the same outcome of both stores, an answer or an error.
func (r rpc[Q, R]) same(request Q) {
	r.pair.t.Helper()
	etcd, want := r.send(r.pair.etcd, request)
	if want == nil {
		r.answersLike(etcd, request)
		return
	}
	_, got := r.send(r.pair.orlop, request)
	requireStatus(r.pair.t, fmt.Sprintf("%s(%v) on orlop", r.name, request), want, got)
}

// answersLike requires that Orlop answers as etcd did, and returns the answer.
func (r rpc[Q, R]) answersLike(etcd R, request Q) R {
	r.pair.t.Helper()
	orlop, err := r.send(r.pair.orlop, request)
	if err != nil {
		r.pair.t.Fatalf("%s(%v) on orlop: %v", r.name, request, err)
	}
	normalised, reference := proto.CloneOf(orlop), proto.CloneOf(etcd)
	clearIdentity(r.pair.t, "orlop", normalised)
	clearIdentity(r.pair.t, "etcd", reference)
	requireSame(r.pair.t, fmt.Sprintf("%s(%v)", r.name, request), reference, normalised)
	return orlop
}

// fails requires that both stores refuse with exactly this status.
func (r rpc[Q, R]) fails(request Q, want error) {
	r.pair.t.Helper()
	r.pair.each(func(s *side) {
		r.pair.t.Helper()
		_, err := r.send(s, request)
		requireStatus(r.pair.t, fmt.Sprintf("%s(%v) on %s", r.name, request, s.name), want, err)
	})
}

func (r rpc[Q, R]) send(s *side, request Q) (R, error) {
	ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
	defer cancel()
	return r.call(s, ctx, proto.CloneOf(request))
}

func requireStatus(t *testing.T, what string, want, got error) {
	t.Helper()
	if got == nil {
		t.Fatalf("%s succeeded, expected %v", what, want)
	}
	if status.Code(got) != status.Code(want) || status.Convert(got).Message() != status.Convert(want).Message() {
		t.Fatalf("%s:\n got %v\nwant %v", what, got, want)
	}
}

func requireSame(t *testing.T, what string, etcd, orlop any) {
	t.Helper()
	if diff := cmp.Diff(etcd, orlop, protocmp.Transform()); diff != "" {
		t.Fatalf("%s: orlop answers differently (- etcd, + orlop):\n%s", what, diff)
	}
}

// clearIdentity clears what names the store in a response's header, after checking that it is there.
func clearIdentity(t *testing.T, name string, response proto.Message) {
	t.Helper()
	withHeader, ok := response.(interface{ GetHeader() *pb.ResponseHeader })
	if !ok || withHeader.GetHeader() == nil {
		return
	}
	header := withHeader.GetHeader()
	if header.ClusterId == 0 || header.MemberId == 0 || header.RaftTerm == 0 {
		t.Fatalf("%s: a response header must name cluster, member and term: %v", name, header)
	}
	header.ClusterId, header.MemberId, header.RaftTerm = 0, 0, 0
}
