package migrate

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/orlop/orlop/tests/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

// Generous: a request takes milliseconds, a busy machine may take its time.
const requestDeadline = 60 * time.Second

// client is a store and plain gRPC clients on it.
type client struct {
	t     *testing.T
	ctx   context.Context
	store *harness.Store
	kv    pb.KVClient
	lease pb.LeaseClient
	watch pb.WatchClient
}

func connect(t *testing.T, store *harness.Store) *client {
	t.Helper()
	sizes := grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1 << 30))
	conn, err := grpc.NewClient(store.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()), sizes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ctx, cancel := context.WithTimeout(context.Background(), 3*requestDeadline)
	t.Cleanup(cancel)
	return &client{t, ctx, store, pb.NewKVClient(conn), pb.NewLeaseClient(conn), pb.NewWatchClient(conn)}
}

func (c *client) put(key, value string, lease int64) int64 {
	c.t.Helper()
	response, err := c.kv.Put(c.ctx, &pb.PutRequest{Key: []byte(key), Value: []byte(value), Lease: lease})
	if err != nil {
		c.t.Fatalf("putting %q: %v", key, err)
	}
	return response.Header.Revision
}

func (c *client) grant(id, ttl int64) {
	c.t.Helper()
	if _, err := c.lease.LeaseGrant(c.ctx, &pb.LeaseGrantRequest{ID: id, TTL: ttl}); err != nil {
		c.t.Fatalf("granting lease %d: %v", id, err)
	}
}

func (c *client) txn(ops ...*pb.RequestOp) int64 {
	c.t.Helper()
	response, err := c.kv.Txn(c.ctx, &pb.TxnRequest{Success: ops})
	if err != nil {
		c.t.Fatalf("transaction: %v", err)
	}
	return response.Header.Revision
}

func putOp(key, value string, lease int64) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{
		RequestPut: &pb.PutRequest{Key: []byte(key), Value: []byte(value), Lease: lease},
	}}
}

func deleteOp(key string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(key)},
	}}
}

// lease is a lease as clients see it, without how much of it is left.
type lease struct {
	ID, GrantedTTL int64
	Keys           []string
}

// state is everything that a client can see of a store.
type state struct {
	Revision int64
	KVs      []*mvccpb.KeyValue
	Leases   []lease
}

func (c *client) state() state {
	c.t.Helper()
	all, err := c.kv.Range(c.ctx, &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil {
		c.t.Fatalf("reading everything: %v", err)
	}
	leases, err := c.lease.LeaseLeases(c.ctx, &pb.LeaseLeasesRequest{})
	if err != nil {
		c.t.Fatalf("listing leases: %v", err)
	}
	s := state{Revision: all.Header.Revision, KVs: all.Kvs}
	for _, status := range leases.Leases {
		told, err := c.lease.LeaseTimeToLive(c.ctx, &pb.LeaseTimeToLiveRequest{ID: status.ID, Keys: true})
		if err != nil {
			c.t.Fatalf("asking for lease %d: %v", status.ID, err)
		}
		of := lease{ID: told.ID, GrantedTTL: told.GrantedTTL}
		for _, key := range told.Keys {
			of.Keys = append(of.Keys, string(key))
		}
		sort.Strings(of.Keys)
		s.Leases = append(s.Leases, of)
	}
	sort.Slice(s.Leases, func(i, j int) bool { return s.Leases[i].ID < s.Leases[j].ID })
	return s
}

func mustEqual(t *testing.T, what string, got, want state) {
	t.Helper()
	// A difference is shown by cmp, which takes a minute to find none in a large store.
	same := func(a, b *mvccpb.KeyValue) bool { return proto.Equal(a, b) }
	if slices.EqualFunc(got.KVs, want.KVs, same) {
		got.KVs, want.KVs = nil, nil
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		if len(diff) > 4000 {
			diff = diff[:4000] + "…"
		}
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

// changesAt returns what a watch from this revision on is told of it, in the order of keys.
func (c *client) changesAt(revision int64) []string {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	stream, err := c.watch.Watch(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	create := &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: revision}
	request := &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}}
	if err := stream.Send(request); err != nil {
		c.t.Fatal(err)
	}
	// The end of what is to be told.
	var changes []string
	last := c.put("the end", "", 0)
	for {
		response, err := stream.Recv()
		if err != nil || response.Canceled {
			c.t.Fatalf("watching from %d: %v %v", revision, response, err)
		}
		for _, event := range response.Events {
			if event.Kv.ModRevision == last {
				sort.Strings(changes)
				return changes
			}
			changes = append(changes, fmt.Sprintf("%s %s %d", event.Type, event.Kv.Key, event.Kv.ModRevision))
		}
	}
}

// refusesBefore asserts that nothing below this revision can be read.
func (c *client) refusesBefore(revision int64) {
	c.t.Helper()
	_, err := c.kv.Range(c.ctx, &pb.RangeRequest{Key: []byte("a"), Revision: revision - 1})
	if err == nil || !strings.Contains(err.Error(), "compacted") {
		c.t.Errorf("reading at %d, before the snapshot's revision: %v, expected that it is compacted", revision-1, err)
	}
}

// fill does some hundreds of random operations, a large value and leases among them. The last one puts one key anew and
// deletes another.
func (c *client) fill(seed uint64) {
	c.t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	leases := []int64{0, 0, 0, 77, -5, 1 << 40}
	for _, id := range leases[3:] {
		c.grant(id, 1000+id%7)
	}
	c.grant(99, 500)
	anyKey := func() string { return fmt.Sprintf("/registry/%c/%d", 'a'+rune(random.IntN(4)), random.IntN(60)) }
	anyValue := func() string { return strings.Repeat("v\x00\xff", random.IntN(400)) }
	anyLease := func() int64 { return leases[random.IntN(len(leases))] }
	for range 400 {
		switch random.IntN(6) {
		case 0:
			c.txn(deleteOp(anyKey()))
		case 1:
			c.txn(putOp(anyKey(), anyValue(), anyLease()), deleteOp("\x00"+anyKey()), putOp("\x00"+anyKey()+"\x00", "", 0))
		default:
			c.put(anyKey(), anyValue(), anyLease())
		}
	}
	c.put("large", strings.Repeat("0123456789abcdef", 1<<16), 0)
	c.txn(putOp("going", "1", 0), putOp("staying", "1", 77))
	c.txn(putOp("staying", "2", 77), deleteOp("going"))
}

// save has the real etcdctl save a snapshot.
func save(t *testing.T, store *harness.Store) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "snapshot.db")
	run(t, harness.EtcdctlBin, "--endpoints", store.Addr(), "snapshot", "save", file)
	return file
}

// run runs a program that has to succeed, and returns its standard output.
func run(t *testing.T, binary string, args ...string) string {
	t.Helper()
	result := harness.Run(t, "", harness.Binary(t, binary), args...)
	if result.ExitCode != 0 {
		t.Fatalf("%s %q: exit code %d\n%s", binary, args, result.ExitCode, result.Output())
	}
	return result.Stdout
}

// startImported imports a snapshot into a new directory and starts an Orlop on it.
func startImported(t *testing.T, file string, flags ...string) *client {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "imported")
	args := append([]string{"import", "-o", "json", "--from-snapshot", file, "--data-dir", dir}, flags...)
	said := run(t, harness.OrlopBin, args...)
	var imported struct{ Keys, Leases, Revision int64 }
	if err := json.Unmarshal([]byte(said), &imported); err != nil {
		t.Fatalf("it printed %q: %v", said, err)
	}
	c := connect(t, harness.StartOrlop(t, harness.DataDir(dir)))
	if s := c.state(); imported.Keys != int64(len(s.KVs)) || imported.Revision != s.Revision {
		t.Errorf("it said %+v; there are %d keys at revision %d", imported, len(s.KVs), s.Revision)
	}
	return c
}

// startRestored restores a snapshot with the real etcdutl and starts a real etcd on it.
func startRestored(t *testing.T, file string) *client {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "restored")
	peer := fmt.Sprintf("http://127.0.0.1:%d", harness.FreePort(t))
	run(t, harness.EtcdutlBin, "snapshot", "restore", file, "--data-dir", dir, "--name", "reference",
		"--initial-cluster", "reference="+peer, "--initial-advertise-peer-urls", peer)
	return connect(t, harness.StartEtcd(t, harness.DataDir(dir)))
}
