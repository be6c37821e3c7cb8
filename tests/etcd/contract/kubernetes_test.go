package contract

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"google.golang.org/grpc/metadata"
)

// The requests below are the ones that kube-apiserver sends, and nearly all that it sends.

func (s *side) kubernetes(t *testing.T) *kubernetes.Client {
	t.Helper()
	client, err := kubernetes.New(clientv3.Config{Endpoints: []string{s.store.Endpoint}, DialTimeout: requestDeadline})
	if err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// sameAnswer runs a step with each store's client and requires equal results.
func sameAnswer[R any](t *testing.T, etcd, orlop *kubernetes.Client, step func(context.Context, kubernetes.Interface) (R, error)) R {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
	defer cancel()
	want, err := step(ctx, etcd.Kubernetes)
	if err != nil {
		t.Fatalf("etcd: %v", err)
	}
	got, err := step(ctx, orlop.Kubernetes)
	if err != nil {
		t.Fatalf("orlop: %v", err)
	}
	requireSame(t, "a Kubernetes request", want, got)
	return got
}

func TestTheKubernetesClientsLifeOfAnObject(t *testing.T) {
	p := start(t)
	etcd, orlop := p.etcd.kubernetes(t), p.orlop.kubernetes(t)
	const key = "/registry/pods/default/web"
	put := func(value string, revision int64, onFailure bool) kubernetes.PutResponse {
		t.Helper()
		return sameAnswer(t, etcd, orlop, func(ctx context.Context, k kubernetes.Interface) (kubernetes.PutResponse, error) {
			return k.OptimisticPut(ctx, key, []byte(value), revision, kubernetes.PutOptions{GetOnFailure: onFailure})
		})
	}
	remove := func(revision int64) kubernetes.DeleteResponse {
		t.Helper()
		return sameAnswer(t, etcd, orlop, func(ctx context.Context, k kubernetes.Interface) (kubernetes.DeleteResponse, error) {
			return k.OptimisticDelete(ctx, key, revision, kubernetes.DeleteOptions{GetOnFailure: true})
		})
	}
	created := put("1", 0, false)
	if !created.Succeeded || created.Revision != 2 {
		t.Fatalf("create: %+v", created)
	}
	if again := put("1", 0, false); again.Succeeded {
		t.Fatalf("a second create: %+v", again)
	}
	updated := put("2", created.Revision, true)
	if conflict := put("3", created.Revision, true); conflict.Succeeded || string(conflict.KV.GetValue()) != "2" {
		t.Fatalf("an update at an old revision returns the current object: %+v", conflict)
	}
	if conflict := remove(created.Revision); conflict.Succeeded || conflict.KV.GetModRevision() != updated.Revision {
		t.Fatalf("a delete at an old revision returns the current object: %+v", conflict)
	}
	if removed := remove(updated.Revision); !removed.Succeeded || removed.Revision != 4 {
		t.Fatalf("delete: %+v", removed)
	}
	if gone := put("4", updated.Revision, true); gone.Succeeded || gone.KV != nil {
		t.Fatalf("an update of what is gone: %+v", gone)
	}
	for _, revision := range []int64{0, 2, 3, 4} {
		sameAnswer(t, etcd, orlop, func(ctx context.Context, k kubernetes.Interface) (kubernetes.GetResponse, error) {
			return k.Get(ctx, key, kubernetes.GetOptions{Revision: revision})
		})
	}
}

func TestTheKubernetesClientsListsAndCounts(t *testing.T) {
	p := start(t)
	etcd, orlop := p.etcd.kubernetes(t), p.orlop.kubernetes(t)
	for i := range 30 {
		p.put.ok(put(fmt.Sprintf("/registry/pods/ns%d/pod-%02d", i%3, i), "v"))
	}
	p.put.ok(put("/registry/podtemplates/default/x", "v"))
	const prefix = "/registry/pods/"
	var listed int64
	options := kubernetes.ListOptions{Limit: 7}
	for {
		page := sameAnswer(t, etcd, orlop, func(ctx context.Context, k kubernetes.Interface) (kubernetes.ListResponse, error) {
			return k.List(ctx, prefix, options)
		})
		listed += int64(len(page.Kvs))
		if page.Count <= int64(len(page.Kvs)) {
			break
		}
		if options.Revision == 0 {
			options.Revision = page.Revision
		}
		options.Continue = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
	count := sameAnswer(t, etcd, orlop, func(ctx context.Context, k kubernetes.Interface) (int64, error) {
		return k.Count(ctx, prefix, kubernetes.CountOptions{})
	})
	if listed != 30 || count != 30 {
		t.Fatalf("%d listed, %d counted, expected 30", listed, count)
	}
	// The current revision is read from a key that never exists.
	current := get("/registry/pods")
	current.Limit = 1
	if revision := p.rng.ok(current).Header.Revision; revision != 32 {
		t.Fatalf("revision %d, expected 32", revision)
	}
}

// The compactors of several kube-apiservers agree by the version of one key.
func TestTheCompactorsTransaction(t *testing.T) {
	p := start(t)
	const key = "compact_rev_key"
	attempt := func(version, revision int64) *pb.TxnResponse {
		t.Helper()
		return p.txn.ok(&pb.TxnRequest{
			Compare: []*pb.Compare{{
				Key: []byte(key), Target: pb.Compare_VERSION, Result: pb.Compare_EQUAL,
				TargetUnion: &pb.Compare_Version{Version: version},
			}},
			Success: []*pb.RequestOp{opPut(key, strconv.FormatInt(revision, 10))},
			Failure: []*pb.RequestOp{opRange(get(key))},
		})
	}
	if !attempt(0, 0).Succeeded {
		t.Fatal("the first attempt creates the key")
	}
	for version := int64(1); version < 4; version++ {
		p.put.ok(put("a", "v"))
		if lost := attempt(version-1, 0); lost.Succeeded || lost.Responses[0].GetResponseRange().Kvs[0].Version != version {
			t.Fatalf("the slower one learns the version: %v", lost)
		}
		won := attempt(version, version)
		if !won.Succeeded {
			t.Fatalf("version %d is current", version)
		}
		p.compact.ok(&pb.CompactionRequest{Revision: won.Header.Revision - 1})
		p.compact.fails(&pb.CompactionRequest{Revision: won.Header.Revision - 1}, rpctypes.ErrGRPCCompacted)
	}
}

// The watch of a resource: prefix, previous values, progress, and the metadata that asks for a leader.
func TestTheWatchOfAResource(t *testing.T) {
	p := start(t)
	p.put.ok(put("/registry/pods/a", "1"))
	for _, s := range []*side{p.etcd, p.orlop} {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		client := s.kubernetes(t)
		events := client.Watch(clientv3.WithRequireLeader(ctx), "/registry/pods/",
			clientv3.WithPrefix(), clientv3.WithRev(2), clientv3.WithPrevKV(), clientv3.WithProgressNotify())
		if response := <-events; len(response.Events) != 1 || response.Events[0].Type != mvccpb.Event_PUT {
			t.Fatalf("%s: %+v", s.name, response)
		}
		if err := client.RequestProgress(clientv3.WithRequireLeader(ctx)); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if response := <-events; !response.IsProgressNotify() || response.Header.Revision != 2 {
			t.Fatalf("%s: expected progress to 2, got %+v", s.name, response)
		}
	}
}

// A watch through the Go client goes on over a crash of the store: nothing is lost, nothing comes twice.
func TestAClientsWatchGoesOnOverACrash(t *testing.T) {
	const rounds, writes = 3, 40
	p := start(t)
	s := p.orlop
	client := s.kubernetes(t)
	ctx, cancel := context.WithTimeout(context.Background(), 4*requestDeadline)
	defer cancel()
	watch := client.Watch(ctx, "k", clientv3.WithPrefix(), clientv3.WithRev(1))
	var acknowledged int64
	for range rounds {
		for range writes {
			response, err := p.put.send(s, put(fmt.Sprintf("k%d", acknowledged%7), strconv.FormatInt(acknowledged, 10)))
			if err != nil {
				t.Fatal(err)
			}
			acknowledged = response.Header.Revision
		}
		s.store.Kill9()
		s.store.Restart()
	}
	next := int64(2)
	for response := range watch {
		if err := response.Err(); err != nil {
			t.Fatalf("the watch ended: %v", err)
		}
		for _, event := range response.Events {
			if event.Kv.ModRevision != next {
				t.Fatalf("event at %d, expected %d", event.Kv.ModRevision, next)
			}
			next++
		}
		if next > acknowledged {
			return
		}
	}
	t.Fatalf("the watch ended at %d of %d", next, acknowledged)
}

// Streams end with Unavailable when the store is told to stop: the one code after which clients resume by themselves.
func TestAStopEndsStreamsWithUnavailable(t *testing.T) {
	p := start(t)
	w := p.orlop.openWatch(t)
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: watchKey("a")}})
	w.next()
	ctx := metadata.AppendToOutgoingContext(context.Background(), rpctypes.MetadataRequireLeaderKey, rpctypes.MetadataHasLeader)
	alive, err := p.orlop.lease.LeaseKeepAlive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := alive.Send(&pb.LeaseKeepAliveRequest{ID: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := alive.Recv(); err != nil {
		t.Fatal(err)
	}
	p.orlop.store.Stop()
	requireUnavailable(t, "the watch stream", <-w.ended)
	_, err = alive.Recv()
	requireUnavailable(t, "the keep-alive stream", err)
}
