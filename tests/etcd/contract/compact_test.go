package contract

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

func TestCompactionKeepsWhatIsReadAtItsRevisionAndLater(t *testing.T) {
	for name, physical := range map[string]bool{"logical": false, "physical": true} {
		t.Run(name, func(t *testing.T) {
			p := start(t)
			p.seed()
			p.compact.ok(&pb.CompactionRequest{Revision: 14, Physical: physical})
			for revision := int64(14); revision <= 17; revision++ {
				p.rng.ok(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: revision})
			}
			for revision := int64(1); revision < 14; revision++ {
				p.rng.fails(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: revision}, rpctypes.ErrGRPCCompacted)
			}
			p.rng.ok(everything())
		})
	}
}

func TestCompactionErrors(t *testing.T) {
	p := start(t)
	p.seed()
	p.compact.fails(&pb.CompactionRequest{Revision: 1000}, rpctypes.ErrGRPCFutureRev)
	p.compact.ok(&pb.CompactionRequest{Revision: 5})
	p.compact.fails(&pb.CompactionRequest{Revision: 5}, rpctypes.ErrGRPCCompacted)
	p.compact.fails(&pb.CompactionRequest{Revision: 4}, rpctypes.ErrGRPCCompacted)
	p.compact.fails(&pb.CompactionRequest{Revision: 0}, rpctypes.ErrGRPCCompacted)
	p.compact.fails(&pb.CompactionRequest{Revision: -1}, rpctypes.ErrGRPCCompacted)
	p.compact.ok(&pb.CompactionRequest{Revision: 17})
	p.compact.fails(&pb.CompactionRequest{Revision: 18}, rpctypes.ErrGRPCFutureRev)
}

// Compacting at the current revision leaves the store usable, the next write gets the next revision.
func TestCompactionAtTheCurrentRevision(t *testing.T) {
	p := start(t)
	p.seed()
	p.del.ok(del("a"))
	p.compact.ok(&pb.CompactionRequest{Revision: 18, Physical: true})
	p.rng.ok(everything())
	p.rng.ok(&pb.RangeRequest{Key: []byte("a"), Revision: 18})
	if revision := p.put.ok(put("a", "anew")).Header.Revision; revision != 19 {
		t.Fatalf("revision %d, expected 19", revision)
	}
	p.rng.ok(get("a"))
}

func TestAKeyDeletedBelowACompactionStaysDeleted(t *testing.T) {
	p := start(t)
	p.put.ok(put("a", "1"))
	p.put.ok(put("a", "2"))
	p.del.ok(del("a"))
	p.put.ok(put("b", "1"))
	p.compact.ok(&pb.CompactionRequest{Revision: 4, Physical: true})
	p.defragment.ok(&pb.DefragmentRequest{})
	p.each(func(s *side) { s.store.Kill9(); s.store.Restart() })
	p.rng.ok(get("a"))
	p.rng.ok(&pb.RangeRequest{Key: []byte("a"), Revision: 4})
	p.rng.fails(&pb.RangeRequest{Key: []byte("a"), Revision: 3}, rpctypes.ErrGRPCCompacted)
}
