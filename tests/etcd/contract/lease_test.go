package contract

import (
	"context"
	"slices"
	"testing"

	"github.com/orlop/orlop/tests/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// The longest TTL that etcd grants.
const leaseTTLMax = 9_000_000_000

// ttlOf returns what a store knows of a lease, its keys in order.
func (s *side) ttlOf(t *testing.T, id int64) *pb.LeaseTimeToLiveResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
	defer cancel()
	response, err := s.lease.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
	if err != nil {
		t.Fatalf("%s: LeaseTimeToLive(%d): %v", s.name, id, err)
	}
	slices.SortFunc(response.Keys, slices.Compare[[]byte])
	return response
}

func (s *side) keepAlive(t *testing.T, id int64) *pb.LeaseKeepAliveResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
	defer cancel()
	stream, err := s.lease.LeaseKeepAlive(ctx)
	if err != nil {
		t.Fatalf("%s: LeaseKeepAlive: %v", s.name, err)
	}
	if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
		t.Fatalf("%s: LeaseKeepAlive(%d): %v", s.name, id, err)
	}
	response, err := stream.Recv()
	if err != nil {
		t.Fatalf("%s: LeaseKeepAlive(%d): %v", s.name, id, err)
	}
	return response
}

// sameTTL compares what both stores know of a lease; the remaining seconds may have moved on.
func (p *pair) sameTTL(id int64) *pb.LeaseTimeToLiveResponse {
	p.t.Helper()
	etcd, orlop := p.etcd.ttlOf(p.t, id), p.orlop.ttlOf(p.t, id)
	for _, response := range []*pb.LeaseTimeToLiveResponse{etcd, orlop} {
		clearIdentity(p.t, "a store", response)
		if response.TTL > response.GrantedTTL {
			p.t.Fatalf("more time is left than was granted: %v", response)
		}
		if response.TTL > 0 {
			response.TTL = 1
		}
	}
	requireSame(p.t, "LeaseTimeToLive", etcd, orlop)
	return orlop
}

func leasedPut(key string, lease int64) *pb.PutRequest {
	return &pb.PutRequest{Key: []byte(key), Value: []byte("leased"), Lease: lease}
}

func TestLeasesAreGrantedWithinLimits(t *testing.T) {
	p := start(t)
	p.grant.ok(&pb.LeaseGrantRequest{ID: 1, TTL: 1000})
	p.grant.fails(&pb.LeaseGrantRequest{ID: 1, TTL: 1000}, rpctypes.ErrGRPCLeaseExist)
	p.grant.ok(&pb.LeaseGrantRequest{ID: 2, TTL: leaseTTLMax})
	p.grant.fails(&pb.LeaseGrantRequest{ID: 3, TTL: leaseTTLMax + 1}, rpctypes.ErrGRPCLeaseTTLTooLarge)
	// Very short leases are prolonged to what a fail-over can honour.
	for id, ttl := range map[int64]int64{4: 1, 5: 0, 6: -1} {
		if granted := p.grant.ok(&pb.LeaseGrantRequest{ID: id, TTL: ttl}).TTL; granted < 1 {
			t.Fatalf("a lease of %d s was granted", granted)
		}
	}
	p.grant.ok(&pb.LeaseGrantRequest{ID: -5, TTL: 1000})
	p.sameTTL(2)
	p.sameTTL(-5)
}

func TestALeaseWithoutAnIdGetsOne(t *testing.T) {
	p := start(t)
	p.each(func(s *side) {
		seen := map[int64]bool{}
		for range 20 {
			response, err := p.grant.send(s, &pb.LeaseGrantRequest{TTL: 1000})
			if err != nil {
				t.Fatal(err)
			}
			if response.ID <= 0 || seen[response.ID] || response.TTL != 1000 {
				t.Fatalf("%s: not a positive and new lease id: %v", s.name, response)
			}
			seen[response.ID] = true
		}
	})
}

func TestLeasesAreListed(t *testing.T) {
	p := start(t)
	if leases := p.leases.ok(&pb.LeaseLeasesRequest{}).Leases; len(leases) != 0 {
		t.Fatalf("leases of an empty store: %v", leases)
	}
	for _, id := range []int64{30, 10, 20} {
		p.grant.ok(&pb.LeaseGrantRequest{ID: id, TTL: 1000})
	}
	p.revoke.ok(&pb.LeaseRevokeRequest{ID: 20})
	p.each(func(s *side) {
		response, err := p.leases.send(s, &pb.LeaseLeasesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		var ids []int64
		for _, lease := range response.Leases {
			ids = append(ids, lease.ID)
		}
		slices.Sort(ids)
		if !slices.Equal(ids, []int64{10, 30}) {
			t.Fatalf("%s: leases %v, expected 10 and 30", s.name, ids)
		}
	})
}

func TestAnUnknownLeaseIsNotFound(t *testing.T) {
	p := start(t)
	p.revoke.fails(&pb.LeaseRevokeRequest{ID: 404}, rpctypes.ErrGRPCLeaseNotFound)
	p.put.fails(leasedPut("a", 404), rpctypes.ErrGRPCLeaseNotFound)
	if unknown := p.sameTTL(404); unknown.TTL != -1 || unknown.ID != 404 {
		t.Fatalf("the time to live of an unknown lease is -1: %v", unknown)
	}
	p.each(func(s *side) {
		if response := s.keepAlive(t, 404); response.TTL != 0 || response.ID != 404 {
			t.Fatalf("%s: a keep-alive of an unknown lease answers TTL 0: %v", s.name, response)
		}
	})
}

func TestRevokingDeletesTheKeysOfALease(t *testing.T) {
	p := start(t)
	p.grant.ok(&pb.LeaseGrantRequest{ID: 1, TTL: 1000})
	p.put.ok(leasedPut("leased", 1))
	p.put.ok(put("free", "1"))
	p.sameTTL(1)
	w := p.openWatches()
	w.create(&pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, PrevKv: true})
	p.revoke.ok(&pb.LeaseRevokeRequest{ID: 1})
	event := w.events(0, 1)[0]
	if event.Type != mvccpb.Event_DELETE || string(event.PrevKv.GetValue()) != "leased" {
		t.Fatalf("unexpected event: %v", event)
	}
	p.rng.ok(everything())
	p.put.fails(leasedPut("again", 1), rpctypes.ErrGRPCLeaseNotFound)
	p.revoke.fails(&pb.LeaseRevokeRequest{ID: 1}, rpctypes.ErrGRPCLeaseNotFound)
	p.grant.ok(&pb.LeaseGrantRequest{ID: 1, TTL: 1000})
}

// etcd deletes all keys of a lease in one revision, Orlop in several: each key goes with one DELETE event all the same,
// and none is left when the revoke is answered.
func TestRevokingALeaseOfManyKeys(t *testing.T) {
	const keys = 300
	p := start(t)
	p.grant.ok(&pb.LeaseGrantRequest{ID: 1, TTL: 1000})
	var written []string
	for i := range keys {
		written = append(written, "k"+string(rune('0'+i/100))+string(rune('0'+i/10%10))+string(rune('0'+i%10)))
		p.put.ok(leasedPut(written[i], 1))
	}
	p.each(func(s *side) {
		w := s.openWatch(t)
		w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
			Key: []byte{0}, RangeEnd: []byte{0}, PrevKv: true,
		}}})
		w.next()
		if _, err := p.revoke.send(s, &pb.LeaseRevokeRequest{ID: 1}); err != nil {
			t.Fatal(err)
		}
		left, err := p.rng.send(s, everything())
		if err != nil || left.Count != 0 {
			t.Fatalf("%s: %d keys are left (%v)", s.name, left.GetCount(), err)
		}
		var deleted []string
		for _, event := range w.events(0, keys) {
			if event.Type != mvccpb.Event_DELETE || event.PrevKv == nil {
				t.Fatalf("%s: unexpected event %v", s.name, event)
			}
			deleted = append(deleted, string(event.Kv.Key))
		}
		slices.Sort(deleted)
		if !slices.Equal(deleted, written) {
			t.Fatalf("%s: the deleted keys are not the written ones: %q", s.name, deleted)
		}
	})
}

func TestAKeyHangsOnItsLastLeaseOnly(t *testing.T) {
	p := start(t)
	p.grant.ok(&pb.LeaseGrantRequest{ID: 1, TTL: 1000})
	p.grant.ok(&pb.LeaseGrantRequest{ID: 2, TTL: 1000})
	p.put.ok(leasedPut("detached", 1))
	p.put.ok(leasedPut("moved", 1))
	p.put.ok(leasedPut("kept", 1))
	p.put.ok(put("detached", "now free"))
	p.put.ok(leasedPut("moved", 2))
	p.put.ok(&pb.PutRequest{Key: []byte("kept"), Value: []byte("new"), IgnoreLease: true})
	p.sameTTL(1)
	p.sameTTL(2)
	p.revoke.ok(&pb.LeaseRevokeRequest{ID: 1})
	p.rng.ok(everything())
	p.del.ok(del("moved"))
	if keys := p.sameTTL(2).Keys; len(keys) != 0 {
		t.Fatalf("a deleted key hangs on no lease: %q", keys)
	}
	p.put.ok(put("moved", "created without a lease"))
	p.revoke.ok(&pb.LeaseRevokeRequest{ID: 2})
	p.rng.ok(everything())
}

func TestAnExpiredLeaseDeletesItsKeysWithEvents(t *testing.T) {
	p := start(t)
	w := p.openWatches()
	w.create(&pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, PrevKv: true})
	p.grant.ok(&pb.LeaseGrantRequest{ID: 1, TTL: 2})
	p.put.ok(leasedPut("a", 1))
	events := w.events(0, 2)
	if expired := events[1]; expired.Type != mvccpb.Event_DELETE || string(expired.PrevKv.GetValue()) != "leased" {
		t.Fatalf("unexpected event: %v", expired)
	}
	p.rng.ok(everything())
	p.put.fails(leasedPut("b", 1), rpctypes.ErrGRPCLeaseNotFound)
	p.sameTTL(1)
}

// The lease that is kept alive outlives one of twice its time.
func TestAKeptLeaseLives(t *testing.T) {
	const kept, clock = 1, 2
	p := start(t)
	p.each(func(s *side) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for id, ttl := range map[int64]int64{kept: 4, clock: 8} {
				if _, err := p.grant.send(s, &pb.LeaseGrantRequest{ID: id, TTL: ttl}); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := p.put.send(s, leasedPut("kept", kept)); err != nil {
				t.Fatal(err)
			}
			harness.Eventually(t, "the lease of twice the time expires", func() bool {
				if response := s.keepAlive(t, kept); response.TTL != 4 {
					t.Fatalf("the kept lease has %d s, expected 4 again", response.TTL)
				}
				return s.ttlOf(t, clock).TTL == -1
			})
			response, err := p.rng.send(s, get("kept"))
			if err != nil || response.Count != 1 {
				t.Fatalf("the key of the kept lease is gone: %v %v", response, err)
			}
		})
	})
}

// Nothing but the granted time is durable: a restart, however long it took, gives every lease all of it again.
func TestARestartGivesALeaseItsFullTimeAgain(t *testing.T) {
	p := start(t)
	p.grant.ok(&pb.LeaseGrantRequest{ID: 1, TTL: 1000})
	p.put.ok(leasedPut("a", 1))
	p.each(func(s *side) {
		harness.Eventually(t, "six seconds of the lease are gone", func() bool {
			return s.ttlOf(t, 1).TTL < 994
		})
		s.store.Kill9()
		s.store.Restart()
		if left := s.ttlOf(t, 1).TTL; left < 995 {
			t.Fatalf("%s: %d s are left after the restart, expected about 1000", s.name, left)
		}
	})
	p.sameTTL(1)
	p.revoke.ok(&pb.LeaseRevokeRequest{ID: 1})
	p.rng.ok(everything())
}

func TestLeasesInTransactions(t *testing.T) {
	p := start(t)
	p.grant.ok(&pb.LeaseGrantRequest{ID: 1, TTL: 1000})
	p.txn.ok(then(opPutWith(leasedPut("a", 1)), opPut("b", "1"), opTxn(then(opPutWith(leasedPut("c", 1))))))
	p.sameTTL(1)
	p.txn.ok(then(opDel(del("a")), opPut("c", "detached")))
	if keys := p.sameTTL(1).Keys; len(keys) != 0 {
		t.Fatalf("no key hangs on the lease any more: %q", keys)
	}
}
