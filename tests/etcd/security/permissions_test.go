package security

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/orlop/orlop/tests/etcd/wire"
	"github.com/orlop/orlop/tests/harness"
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const permissions = `
[apiserver]
read = ["/registry/"]
write = ["/registry/", "compact_rev_key"]

[reader]
read = ["/registry/pods/"]

[keeper]
read = [""]
write = [""]
admin = true

["*"]
read = ["/public/"]
`

// permitted is a store with permissions, and connections of named clients.
type permitted struct {
	*scene
	store   *harness.Store
	clients map[string]*wire.Client
	isEtcd  bool
}

func startPermitted(t *testing.T, opts ...harness.Option) *permitted {
	t.Helper()
	s := newScene(t)
	file := s.put("permissions.toml", []byte(permissions))
	flags := append(slices.Clone(s.flags), "--client-permissions-file", file)
	p := &permitted{scene: s, clients: map[string]*wire.Client{}}
	opts = append(opts, harness.TLS(s.trust(s.client("keeper"))), harness.Flags(flags...))
	p.store = harness.StartOrlop(t, opts...)
	for _, name := range []string{"apiserver", "reader", "keeper", "stranger"} {
		p.clients[name] = wire.ConnectWith(t, p.store, s.trust(s.client(name)))
	}
	return p
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
	t.Cleanup(cancel)
	return ctx
}

// denied says whether an error is etcd's for what is not permitted; any other error fails the test.
func denied(t *testing.T, err error) bool {
	t.Helper()
	if err != nil && !wire.SameStatus(err, rpctypes.ErrGRPCPermissionDenied) {
		t.Fatalf("unexpected answer: %v", err)
	}
	return err != nil
}

func key(name string) []byte { return []byte(name) }

func put(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key)}}}
}

func read(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: []byte(key)}}}
}

func remove(key, end string) *pb.RequestOp {
	request := &pb.DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: request}}
}

func nested(ops ...*pb.RequestOp) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: &pb.TxnRequest{Failure: ops}}}
}

// everywhere runs a test on one server, on one of two, which has the other carry out what changes something, and on the
// real etcd.
func everywhere(t *testing.T, run func(t *testing.T, p *permitted)) {
	t.Run("alone", func(t *testing.T) { run(t, startPermitted(t)) })
	t.Run("in a fleet", func(t *testing.T) { run(t, startPermitted(t, harness.Fleet(t))) })
	t.Run("etcd", func(t *testing.T) { run(t, startPermittedEtcd(t)) })
}

// startPermittedEtcd returns a real etcd with users and roles that permit the same. etcd takes the common name of a
// certificate for the name of a user.
func startPermittedEtcd(t *testing.T) *permitted {
	t.Helper()
	s := newScene(t)
	p := &permitted{scene: s, clients: map[string]*wire.Client{}, isEtcd: true}
	root := s.trust(s.client("root"))
	p.store = harness.StartEtcd(t, harness.TLS(root), harness.Flags(append(s.flags, "--enable-grpc-gateway=false")...))
	auth := pb.NewAuthClient(wire.ConnectWith(t, p.store, root).Conn)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	user := func(name, role string) {
		t.Helper()
		options := &authpb.UserAddOptions{NoPassword: true}
		_, err := auth.UserAdd(deadline(t), &pb.AuthUserAddRequest{Name: name, Options: options})
		must(err)
		_, err = auth.UserGrantRole(deadline(t), &pb.AuthUserGrantRoleRequest{User: name, Role: role})
		must(err)
	}
	grant := func(role string, kind authpb.Permission_Type, from, to string) {
		t.Helper()
		permission := &authpb.Permission{PermType: kind, Key: key(from), RangeEnd: key(to)}
		_, err := auth.RoleGrantPermission(deadline(t), &pb.AuthRoleGrantPermissionRequest{Name: role, Perm: permission})
		must(err)
	}
	for _, name := range []string{"root", "apiserver", "reader", "stranger"} {
		_, err := auth.RoleAdd(deadline(t), &pb.AuthRoleAddRequest{Name: name})
		must(err)
		user(name, name)
	}
	user("keeper", "root")
	grant("apiserver", authpb.Permission_READWRITE, "/registry/", "/registry0")
	grant("apiserver", authpb.Permission_WRITE, "compact_rev_key", "compact_rev_kez")
	grant("reader", authpb.Permission_READ, "/registry/pods/", "/registry/pods0")
	grant("stranger", authpb.Permission_READ, "/public/", "/public0")
	_, err := auth.AuthEnable(deadline(t), &pb.AuthEnableRequest{})
	must(err)
	for _, name := range []string{"apiserver", "reader", "keeper", "stranger"} {
		p.clients[name] = wire.ConnectWith(t, p.store, s.trust(s.client(name)))
	}
	return p
}

func TestEachClientDoesWhatTheFileSaysAndNothingElse(t *testing.T) {
	everywhere(t, eachClientDoesWhatTheFileSays)
}

func eachClientDoesWhatTheFileSays(t *testing.T, p *permitted) {
	if _, err := p.clients["keeper"].KV.Put(deadline(t), &pb.PutRequest{Key: key("/registry/pods/a")}); err != nil {
		t.Fatal(err)
	}
	type call func(c *wire.Client) error
	ranged := func(from, to string) call {
		return func(c *wire.Client) error {
			request := &pb.RangeRequest{Key: key(from), RangeEnd: key(to)}
			_, err := c.KV.Range(deadline(t), request)
			stream, streamErr := c.KV.RangeStream(deadline(t), request)
			if streamErr == nil {
				_, streamErr = stream.Recv()
			}
			if denied(t, err) != denied(t, streamErr) {
				t.Errorf("Range and RangeStream do not agree: %v, %v", err, streamErr)
			}
			return err
		}
	}
	txn := func(request *pb.TxnRequest) call {
		return func(c *wire.Client) error { _, err := c.KV.Txn(deadline(t), request); return err }
	}
	writes := func(request *pb.PutRequest) call {
		return func(c *wire.Client) error { _, err := c.KV.Put(deadline(t), request); return err }
	}
	deletes := func(request *pb.DeleteRangeRequest) call {
		return func(c *wire.Client) error { _, err := c.KV.DeleteRange(deadline(t), request); return err }
	}
	compare := &pb.Compare{Key: key("/secret"), Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{}}
	cases := []struct {
		what    string
		call    call
		allowed string
	}{
		{"read a key", ranged("/registry/pods/a", ""), "apiserver reader keeper"},
		{"read a prefix", ranged("/registry/pods/", "/registry/pods0"), "apiserver reader keeper"},
		{"read beyond a prefix", ranged("/registry/pods/", "/registry/q"), "apiserver keeper"},
		{"read everything", ranged("\x00", "\x00"), "keeper"},
		{"read on without end", ranged("/registry/pods/", "\x00"), "keeper"},
		{"read a neighbour", ranged("/registry/podtemplates/a", ""), "apiserver keeper"},
		{"read what everybody may", ranged("/public/a", ""), "keeper stranger"},
		{"write a key", writes(&pb.PutRequest{Key: key("/registry/pods/a")}), "apiserver keeper"},
		{"write a single key", writes(&pb.PutRequest{Key: key("compact_rev_key")}), "apiserver keeper"},
		{"write and see what was there", writes(&pb.PutRequest{Key: key("compact_rev_key"), PrevKv: true}), "keeper"},
		{"write what everybody reads", writes(&pb.PutRequest{Key: key("/public/a")}), "keeper"},
		{"delete", deletes(&pb.DeleteRangeRequest{Key: key("/registry/x")}), "apiserver keeper"},
		{"delete more than is one's own", deletes(&pb.DeleteRangeRequest{Key: key("/registry/x"), RangeEnd: key("/registry1")}), "keeper"},
		{"delete and see what was there", deletes(&pb.DeleteRangeRequest{Key: key("compact_rev_key"), PrevKv: true}), "keeper"},
		{"an empty transaction", txn(&pb.TxnRequest{}), "apiserver reader keeper stranger"},
		{"a transaction", txn(&pb.TxnRequest{Success: []*pb.RequestOp{put("/registry/x"), read("/registry/y")}}), "apiserver keeper"},
		{"a transaction with a foreign condition", txn(&pb.TxnRequest{Compare: []*pb.Compare{compare}}), "keeper"},
		{"one whose other branch reads what it may not", txn(&pb.TxnRequest{Failure: []*pb.RequestOp{read("/secret")}}), "keeper"},
		{"one whose other branch deletes what it may not", txn(&pb.TxnRequest{Failure: []*pb.RequestOp{remove("/registry/", "\x00")}}), "keeper"},
		{"one deep in another", txn(&pb.TxnRequest{Success: []*pb.RequestOp{nested(nested(put("/secret")))}}), "keeper"},
		{"the server's state", func(c *wire.Client) error {
			_, err := c.Maint.Status(deadline(t), &pb.StatusRequest{})
			return err
		}, "apiserver reader keeper stranger"},
		{"the members", func(c *wire.Client) error {
			_, err := pb.NewClusterClient(c.Conn).MemberList(deadline(t), &pb.MemberListRequest{})
			return err
		}, "apiserver reader keeper stranger"},
		{"the alarms", func(c *wire.Client) error {
			_, err := c.Maint.Alarm(deadline(t), &pb.AlarmRequest{})
			return err
		}, "apiserver reader keeper stranger"},
		{"an alarm", func(c *wire.Client) error {
			action := pb.AlarmRequest_DEACTIVATE
			_, err := c.Maint.Alarm(deadline(t), &pb.AlarmRequest{Action: action, Alarm: pb.AlarmType_NOSPACE})
			return err
		}, "keeper"},
		{"a compaction", func(c *wire.Client) error {
			_, err := c.KV.Compact(deadline(t), &pb.CompactionRequest{Revision: 1})
			if status.Convert(err).Message() == rpctypes.ErrGRPCCompacted.Error() {
				return nil
			}
			return err
		}, "keeper"},
		{"a defragmentation", func(c *wire.Client) error {
			_, err := c.Maint.Defragment(deadline(t), &pb.DefragmentRequest{})
			return err
		}, "keeper"},
		{"a hash of everything", func(c *wire.Client) error {
			_, err := c.Maint.HashKV(deadline(t), &pb.HashKVRequest{})
			return err
		}, "keeper"},
		{"a hash", func(c *wire.Client) error {
			_, err := c.Maint.Hash(deadline(t), &pb.HashRequest{})
			return err
		}, "keeper"},
	}
	for _, c := range cases {
		for name, client := range p.clients {
			want := slices.Contains(strings.Fields(c.allowed), name)
			if got := !denied(t, c.call(client)); got != want {
				t.Errorf("%s, by %s: allowed: %v", c.what, name, got)
			}
		}
	}
	if response, err := p.clients["keeper"].KV.Range(deadline(t), &pb.RangeRequest{Key: key("/secret")}); err != nil || response.Count != 0 {
		t.Errorf("no branch that ran writes /secret: %v %v", response, err)
	}
}

func TestALeaseIsWhoseKeysHangOnIt(t *testing.T) {
	everywhere(t, aLeaseIsWhoseKeysHangOnIt)
}

func aLeaseIsWhoseKeysHangOnIt(t *testing.T, p *permitted) {
	apiserver, reader, keeper := p.clients["apiserver"], p.clients["reader"], p.clients["keeper"]
	if _, err := reader.Lease.LeaseGrant(deadline(t), &pb.LeaseGrantRequest{ID: 7, TTL: 600}); denied(t, err) == p.isEtcd {
		t.Errorf("a lease for who can write nothing, which only etcd grants: %v", err)
	}
	for id := range int64(2) {
		if _, err := apiserver.Lease.LeaseGrant(deadline(t), &pb.LeaseGrantRequest{ID: id + 1, TTL: 600}); err != nil {
			t.Fatal(err)
		}
	}
	hang := func(c *wire.Client, key string, lease int64) error {
		_, err := c.KV.Put(deadline(t), &pb.PutRequest{Key: []byte(key), Lease: lease})
		return err
	}
	revoke := func(c *wire.Client, lease int64) error {
		_, err := c.Lease.LeaseRevoke(deadline(t), &pb.LeaseRevokeRequest{ID: lease})
		return err
	}
	renew := func(c *wire.Client, lease int64) error {
		stream, err := c.Lease.LeaseKeepAlive(deadline(t))
		if err != nil {
			return err
		}
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: lease}); err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	}
	ask := func(c *wire.Client, lease int64) error {
		_, err := c.Lease.LeaseTimeToLive(deadline(t), &pb.LeaseTimeToLiveRequest{ID: lease, Keys: true})
		return err
	}
	list := func(c *wire.Client) error {
		_, err := c.Lease.LeaseLeases(deadline(t), &pb.LeaseLeasesRequest{})
		return err
	}
	if err := hang(apiserver, "/registry/pods/a", 1); err != nil {
		t.Fatal(err)
	}
	if denied(t, renew(apiserver, 1)) || denied(t, ask(apiserver, 1)) || denied(t, ask(reader, 1)) || denied(t, list(reader)) {
		t.Error("a lease of a client's own keys was kept from it")
	}
	if !denied(t, renew(reader, 1)) || !denied(t, revoke(reader, 1)) {
		t.Error("who may only read its keys changed a lease")
	}
	if err := hang(keeper, "/secret", 1); err != nil {
		t.Fatal(err)
	}
	if !denied(t, hang(apiserver, "/registry/pods/b", 1)) || !denied(t, revoke(apiserver, 1)) ||
		!denied(t, renew(apiserver, 1)) || !denied(t, ask(apiserver, 1)) || !denied(t, list(apiserver)) {
		t.Error("a lease with somebody else's keys was used")
	}
	if denied(t, revoke(apiserver, 2)) || denied(t, revoke(keeper, 1)) {
		t.Error("a lease could not be revoked")
	}
}

// watcher is a stream of watchers.
type watcher struct {
	t *testing.T
	pb.Watch_WatchClient
}

func startWatcher(t *testing.T, c *wire.Client) *watcher {
	t.Helper()
	stream, err := c.Watch.Watch(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	return &watcher{t, stream}
}

func (w *watcher) create(key, end string) *pb.WatchResponse {
	w.t.Helper()
	create := &pb.WatchCreateRequest{Key: []byte(key), RangeEnd: []byte(end)}
	request := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}
	if err := w.Send(request); err != nil {
		w.t.Fatal(err)
	}
	return w.next()
}

func (w *watcher) next() *pb.WatchResponse {
	w.t.Helper()
	response, err := w.Recv()
	if err != nil {
		w.t.Fatal(err)
	}
	return response
}

// As etcd says it to who may not watch.
var notPermitted = rpctypes.ErrGRPCPermissionDenied.Error()

func TestWatchersSeeOnlyWhatTheirClientMayRead(t *testing.T) {
	everywhere(t, watchersSeeOnlyWhatTheirClientMayRead)
}

func watchersSeeOnlyWhatTheirClientMayRead(t *testing.T, p *permitted) {
	w := startWatcher(t, p.clients["reader"])
	for _, wide := range [][2]string{{"/registry/", "/registry0"}, {"", "\x00"}, {"/secret", ""}} {
		refused := w.create(wide[0], wide[1])
		if !refused.Created || !refused.Canceled || refused.WatchId != -1 || refused.CancelReason != notPermitted {
			t.Errorf("watching %q: %v", wide, refused)
		}
	}
	if created := w.create("/registry/pods/", "/registry/pods0"); created.Canceled {
		t.Fatalf("refused: %v", created)
	}
	for _, name := range []string{"/registry/secrets/a", "/registry/pods/a"} {
		if _, err := p.clients["keeper"].KV.Put(deadline(t), &pb.PutRequest{Key: key(name)}); err != nil {
			t.Fatal(err)
		}
	}
	if seen := w.next(); len(seen.Events) != 1 || string(seen.Events[0].Kv.Key) != "/registry/pods/a" {
		t.Errorf("saw %v", seen)
	}
}

// A client that writes a name into its headers is still the one that its certificate names.
func TestNobodyCanClaimAName(t *testing.T) {
	everywhere(t, func(t *testing.T, p *permitted) {
		name := hex.EncodeToString([]byte("keeper"))
		claiming := metadata.AppendToOutgoingContext(deadline(t), "orlop-client", name)
		_, err := p.clients["reader"].KV.Put(claiming, &pb.PutRequest{Key: key("/secret")})
		if !denied(t, err) {
			t.Error("a client was taken for the one that it claims to be")
		}
		_, err = p.clients["reader"].KV.Range(claiming, &pb.RangeRequest{Key: key("/secret")})
		if !denied(t, err) {
			t.Error("a client was taken for the one that it claims to be")
		}
	})
}

// A change of the file counts within a moment, for watchers that are open too; a file that is wrong changes nothing.
func TestTheFileIsReadAgain(t *testing.T) {
	p := startPermitted(t)
	reader, keeper := p.clients["reader"], p.clients["keeper"]
	reads := func() bool {
		_, err := reader.KV.Range(deadline(t), &pb.RangeRequest{Key: key("/registry/pods/a")})
		return !denied(t, err)
	}
	w, other := startWatcher(t, reader), startWatcher(t, reader)
	first, second := w.create("/registry/pods/", "/registry/pods0"), other.create("/registry/pods/a", "")
	if first.Canceled || second.Canceled || !reads() {
		t.Fatal("the reader may not read")
	}
	p.put("permissions.toml", []byte("[reader]\nread = '/registry/pods/'\n"))
	eventuallyLogged(t, p.store, "reader: read: expected a list of prefixes")
	if !reads() {
		t.Error("a wrong file was used")
	}
	p.put("permissions.toml", []byte(strings.Replace(permissions, "/registry/pods/", "/registry/services/", 1)))
	harness.Eventually(t, "the reader may no longer read", func() bool { return !reads() })
	if _, err := keeper.KV.Put(deadline(t), &pb.PutRequest{Key: key("/registry/pods/a"), Value: key("secret")}); err != nil {
		t.Fatal(err)
	}
	for _, watcher := range []*watcher{w, other} {
		last := watcher.next()
		if !last.Canceled || len(last.Events) != 0 || last.CancelReason != notPermitted {
			t.Errorf("a watcher that lost its permission got %v", last)
		}
	}
	if created := w.create("/registry/services/", "/registry/services0"); created.Canceled {
		t.Errorf("the stream is of no use any more: %v", created)
	}
}

func TestPermissionsThatCannotBeUsedAreNamedAtTheStart(t *testing.T) {
	s := newScene(t)
	for content, want := range map[string]string{
		"[a]\nreed = []\n":    "permissions.toml: a: reed: expected read, write or admin",
		"[a]\n\nread = [1,\n": "permissions.toml: line ",
	} {
		file := s.put("permissions.toml", []byte(content))
		flags := append(slices.Clone(s.flags), "--client-permissions-file", file)
		end := harness.NewOrlop(t, harness.TLS(s.trust()), harness.Flags(flags...)).TryRestart()
		if end == nil || end.ExitCode != 1 || !strings.Contains(end.Stderr, want) {
			t.Errorf("ended with %+v, expected %q", end, want)
		}
	}
}

// Requests of a client that may do something keep their time: what others are refused costs nothing.
func TestRefusalsHarmNobody(t *testing.T) {
	p := startPermitted(t)
	stranger := p.clients["stranger"]
	h := startHealthy(t, p.store)
	begun := time.Now()
	for i := range 2000 {
		_, err := stranger.KV.Put(deadline(t), &pb.PutRequest{Key: key(fmt.Sprintf("/registry/%d", i))})
		if !denied(t, err) {
			t.Fatal("allowed")
		}
	}
	t.Logf("2000 refusals took %v", time.Since(begun))
	h.goesOn()
}
