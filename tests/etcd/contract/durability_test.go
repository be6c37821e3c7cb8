package contract

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func requireUnavailable(t *testing.T, what string, err error) {
	t.Helper()
	if status.Code(err) != codes.Unavailable || rpctypes.ErrorDesc(err) == rpctypes.ErrorDesc(rpctypes.ErrGRPCNoLeader) {
		t.Errorf("%s ended with %v, expected Unavailable", what, err)
	}
}

// Writers at full speed, killed in the middle: what was acknowledged is there, at the revision that was told, and no
// revision is given out twice.
func TestNoAcknowledgedWriteIsLostInACrash(t *testing.T) {
	const rounds, writers, untilKill = 3, 16, 200
	p := start(t)
	s := p.orlop
	acknowledged := map[string]int64{}
	for round := range rounds {
		// The connection is up again before the writers, who give up at the first error, begin.
		if _, err := p.rng.send(s, get("absent")); err != nil {
			t.Fatal(err)
		}
		var (
			wg    sync.WaitGroup
			mu    sync.Mutex
			count int
			full  = make(chan struct{})
		)
		for writer := range writers {
			wg.Go(func() {
				for i := 0; ; i++ {
					key := fmt.Sprintf("r%d-w%d-%d", round, writer, i)
					response, err := s.kv.Put(context.Background(), put(key, "v"), grpc.WaitForReady(false))
					if err != nil {
						return
					}
					mu.Lock()
					acknowledged[key] = response.Header.Revision
					if count++; count == untilKill {
						close(full)
					}
					mu.Unlock()
				}
			})
		}
		<-full
		s.store.Kill9()
		wg.Wait()
		s.store.Restart()
	}
	stored, err := p.rng.send(s, everything())
	if err != nil {
		t.Fatal(err)
	}
	revisions := map[int64]string{}
	for _, kv := range stored.Kvs {
		if other, taken := revisions[kv.ModRevision]; taken {
			t.Fatalf("%s and %s share revision %d", other, kv.Key, kv.ModRevision)
		}
		revisions[kv.ModRevision] = string(kv.Key)
	}
	for key, revision := range acknowledged {
		if revisions[revision] != key {
			t.Errorf("%s was acknowledged at revision %d, where %q is", key, revision, revisions[revision])
		}
	}
	if highest := stored.Header.Revision; int64(len(revisions)) != highest-1 {
		t.Errorf("%d keys at revision %d: revisions have holes", len(revisions), highest)
	}
}

// The same after a stop in good order, where nothing may even be in doubt.
func TestEverythingIsThereAfterARestart(t *testing.T) {
	p := start(t)
	p.seed()
	p.each(func(s *side) { s.store.Restart() })
	for revision := int64(1); revision <= 17; revision++ {
		p.rng.ok(listAt("/registry/", revision))
		p.rng.ok(listAt("a", revision))
	}
	p.put.ok(put("a", "after"))
	p.rng.ok(everything())
}
