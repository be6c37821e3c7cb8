package pitfalls

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/orlop/orlop/tests/etcd/wire"
	"github.com/orlop/orlop/tests/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

func (s *store) grant(id, ttl int64) {
	s.t.Helper()
	if _, err := s.Lease.LeaseGrant(s.context(), &pb.LeaseGrantRequest{ID: id, TTL: ttl}); err != nil {
		s.t.Fatalf("granting lease %d: %v", id, err)
	}
}

func (s *store) revoke(id int64) {
	s.t.Helper()
	if _, err := s.Lease.LeaseRevoke(s.context(), &pb.LeaseRevokeRequest{ID: id}); err != nil {
		s.t.Fatalf("revoking lease %d: %v", id, err)
	}
}

func leased(name string, lease int64) *pb.PutRequest {
	return &pb.PutRequest{Key: []byte(name), Value: []byte("leased"), Lease: lease}
}

// KubeBrain let keys expire without telling: watch caches would show Events that are long gone.
func TestPitfall12AKeyThatExpiresIsToldAsDeleted(t *testing.T) {
	onBoth(t, func(s *store) {
		w := s.openWatch()
		w.create(all("k", 0))
		s.grant(1, 2)
		s.putWith(leased("k", 1))
		event := w.events(2)[1]
		if event.Type != mvccpb.Event_DELETE || string(event.PrevKv.GetValue()) != "leased" {
			s.t.Fatalf("unexpected event: %v", event)
		}
		if list := s.get(prefix("k")); list.Count != 0 || list.Header.Revision != event.Kv.ModRevision {
			s.t.Fatalf("deleted at %d, and there is %v", event.Kv.ModRevision, list)
		}
	})
}

// Several stores got leases wrong at their edges: a put on one that has expired stayed for ever, of two grants of an id both
// succeeded, and a key that had been put again without its lease went with it.
func TestPitfall17LeasesAreExactAtTheirEdges(t *testing.T) {
	t.Run("a put on an expired lease", func(t *testing.T) {
		onBoth(t, func(s *store) {
			s.grant(1, 1)
			harness.Eventually(s.t, "the lease expires", func() bool {
				response, err := s.Lease.LeaseTimeToLive(s.context(), &pb.LeaseTimeToLiveRequest{ID: 1})
				return err == nil && response.TTL == -1
			})
			_, err := s.KV.Put(s.context(), leased("k", 1))
			s.fails(err, rpctypes.ErrGRPCLeaseNotFound)
			s.grant(1, 1000)
			s.putWith(leased("k", 1))
		})
	})
	t.Run("of many grants of one id, one", func(t *testing.T) {
		onBoth(t, func(s *store) {
			const clients, rounds = 8, 10
			for range rounds {
				var granted, refused atomic.Int64
				var group sync.WaitGroup
				for range clients {
					group.Go(func() {
						_, err := s.Lease.LeaseGrant(s.context(), &pb.LeaseGrantRequest{ID: 1, TTL: 1000})
						switch {
						case err == nil:
							granted.Add(1)
						case wire.SameStatus(err, rpctypes.ErrGRPCLeaseExist):
							refused.Add(1)
						}
					})
				}
				group.Wait()
				if granted.Load() != 1 || refused.Load() != clients-1 {
					s.t.Fatalf("%d grants, %d refusals of %d", granted.Load(), refused.Load(), clients)
				}
				s.revoke(1)
			}
		})
	})
	t.Run("a put without the lease", func(t *testing.T) {
		onBoth(t, func(s *store) {
			s.grant(1, 1000)
			s.putWith(leased("kept", 1))
			s.putWith(leased("gone", 1))
			s.put("kept", "on its own")
			s.revoke(1)
			if s.get(key("kept")).Count != 1 || s.get(key("gone")).Count != 0 {
				s.t.Fatal("the wrong key went with the lease")
			}
		})
	})
}
