package pitfalls

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/orlop/orlop/tests/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// etcd#15220: progress was told before events at or below it were sent. A consistent list from the watch cache would lack
// objects that exist.
func TestPitfall02ProgressNeverComesBeforeAnEvent(t *testing.T) {
	const writes = 400
	onBoth(t, func(s *store) {
		w := s.openWatch()
		w.create(all("k", 0))
		var group sync.WaitGroup
		group.Go(func() {
			for i := range writes {
				if _, err := s.KV.Put(s.context(), &pb.PutRequest{Key: fmt.Append(nil, "k", i%7)}); err != nil {
					s.t.Errorf("writing: %v", err)
				}
			}
		})
		claimed := int64(0)
		for seen := 0; seen < writes; {
			w.askProgress()
			response := w.next()
			for _, event := range response.Events {
				if event.Kv.ModRevision <= claimed {
					s.t.Fatalf("an event at %d after progress to %d", event.Kv.ModRevision, claimed)
				}
			}
			if seen += len(response.Events); len(response.Events) == 0 {
				claimed = max(claimed, response.Header.Revision)
			}
		}
		group.Wait()
	})
}

// Two events of one transaction in two responses: a client that loses its connection in between resumes behind both and
// never hears of the second.
func TestPitfall03TheEventsOfOneTransactionComeTogether(t *testing.T) {
	const ops, rounds = 100, 20
	onBoth(t, func(s *store) {
		live := s.openWatch()
		live.create(all("k", 0))
		var group sync.WaitGroup
		group.Go(func() {
			for round := range rounds {
				var puts []*pb.RequestOp
				for i := range ops {
					puts = append(puts, opPut(fmt.Sprintf("k%03d", i), strings.Repeat("x", 1000+round)))
				}
				if _, err := s.KV.Txn(s.context(), &pb.TxnRequest{Success: puts}); err != nil {
					s.t.Errorf("writing: %v", err)
				}
			}
		})
		requireWhole := func(w *watch) {
			for seen := 0; seen < rounds; {
				response := w.next()
				perRevision := map[int64]int{}
				for _, event := range response.Events {
					perRevision[event.Kv.ModRevision]++
				}
				for revision, events := range perRevision {
					if events != ops {
						s.t.Fatalf("a response has %d events of revision %d, which has %d", events, revision, ops)
					}
					seen++
				}
			}
		}
		requireWhole(live)
		group.Wait()
		past := s.openWatch()
		past.create(all("k", 2))
		requireWhole(past)
	})
}

// kine PR#759: revisions that were given to writes which then failed left a gap, and every watcher waited at it. Here writes
// fail in all the ways that they can between those that do not.
func TestPitfall05WatchersDoNotStandStillBehindFailedWrites(t *testing.T) {
	onBoth(t, func(s *store) {
		w := s.openWatch()
		w.create(all("k", 0))
		last := s.put("k", "0")
		w.events(1)
		for i := range 50 {
			if _, err := s.KV.Put(s.context(), &pb.PutRequest{Key: []byte("k"), Lease: 404}); err == nil {
				s.t.Fatal("a put with a lease that is not there succeeded")
			}
			never := &pb.Compare{Key: []byte("k"), Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: 0}}
			response, err := s.KV.Txn(s.context(), &pb.TxnRequest{Compare: []*pb.Compare{never}, Success: []*pb.RequestOp{opPut("k", "never")}})
			if err != nil || response.Succeeded {
				s.t.Fatalf("unexpected answer: %v %v", response, err)
			}
			s.del("absent")
			revision := s.put("k", fmt.Sprint(i))
			if event := w.events(1)[0]; event.Kv.ModRevision != revision || revision != last+1 {
				s.t.Fatalf("the put at %d, after %d, came as %v", revision, last, event)
			}
			last = revision
		}
	})
}

// kine#220: compaction removed deletions that a slow watcher had not been told yet. An informer would keep a deleted object
// for ever. A watcher that does not read is told each of them later, with what was deleted, or that it came too late.
//
// etcd 3.7.3 itself does not keep to this: it looks up the previous value when it sends, so that compaction takes it away.
func TestPitfall06CompactionDoesNotPassDeletionsThatWereNotTold(t *testing.T) {
	const keys, valueBytes = 150, 200 << 10
	onOrlop(t, func(s *store) {
		value := strings.Repeat("x", valueBytes)
		for i := range keys {
			s.put(fmt.Sprintf("k%03d", i), value)
		}
		w := s.openWatch()
		w.create(all("k", 0))
		var last int64
		for i := range keys {
			last = s.del(fmt.Sprintf("k%03d", i))
		}
		s.compact(last, true)
		s.compactAgain()
		next := last - keys + 1
		for next <= last {
			response := w.next()
			if response.Canceled {
				if response.CompactRevision == 0 {
					s.t.Fatalf("cancelled without a compacted revision: %v", response)
				}
				return
			}
			for _, event := range response.Events {
				if event.Type != mvccpb.Event_DELETE || event.Kv.ModRevision != next || len(event.PrevKv.GetValue()) != valueBytes {
					s.t.Fatalf("expected the deletion at %d with what was deleted, got %.200s", next, fmt.Sprint(event))
				}
				next++
			}
		}
	})
}

// compactAgain lets go of what the last compaction still kept.
func (s *store) compactAgain() {
	s.t.Helper()
	s.compact(s.put("other", "1"), true)
}

// etcd#19179, etcd#18089: a watch from exactly the compacted revision on did not tell the deletion at it.
func TestPitfall07AWatchFromTheCompactedRevisionOnTellsTheDeletionThere(t *testing.T) {
	onBoth(t, func(s *store) {
		s.put("k1", "1")
		s.put("k2", "1")
		deleted := s.del("k1")
		s.put("k3", "1")
		s.compact(deleted, true)
		for range 2 {
			w := s.openWatch()
			request := all("k", deleted)
			request.PrevKv = false
			w.create(request)
			if event := w.events(2)[0]; event.Type != mvccpb.Event_DELETE || event.Kv.ModRevision != deleted {
				s.t.Fatalf("expected the deletion at %d, got %v", deleted, event)
			}
			w.cancel()
			s.Kill9()
			s.Restart()
			s.reconnect()
		}
	})
}

// etcd#20221: a watch from a revision of the future on was told older events and progress below its start. A client that
// resumes behind a progress that went back sees events twice, and believes the past.
func TestPitfall08AWatchOfTheFutureIsToldNothingBelowItsStart(t *testing.T) {
	onBoth(t, func(s *store) {
		now := s.put("k", "1")
		start := now + 4
		w := s.openWatch()
		request := all("k", start)
		request.ProgressNotify = true
		w.create(request)
		other := s.openWatch()
		other.create(&pb.WatchCreateRequest{Key: []byte("other"), ProgressNotify: true})
		w.askProgress()
		for s.put("k", "below") < start-1 {
		}
		// Two intervals of progress pass for the other one, whose revision is below the start.
		for range 2 {
			if progress := other.next(); progress.Header.Revision >= start {
				s.t.Fatalf("unexpected progress: %v", progress)
			}
		}
		s.put("k", "at")
		for {
			response := w.next()
			if response.Header.Revision < start {
				s.t.Fatalf("a watch from %d on was told %v", start, response)
			}
			if len(response.Events) > 0 {
				if revision := response.Events[0].Kv.ModRevision; revision != start {
					s.t.Fatalf("the first event is at %d, expected %d", revision, start)
				}
				return
			}
		}
	}, harness.Flags("--watch-progress-notify-interval", "100ms"))
}

// etcd#17780: after a crash within a compaction the revision was lower than before. Clients that hold a higher one are
// refused, or are shown another history under the same numbers.
func TestPitfall09TheRevisionDoesNotGoBackInACrashWithinACompaction(t *testing.T) {
	const rounds, keys = 4, 40
	onBoth(t, func(s *store) {
		for round := range rounds {
			for i := range keys {
				s.put(fmt.Sprintf("k%d", i), fmt.Sprint(round))
			}
			var last int64
			// The newest revisions are deletions: all that is left of them is what compaction removes.
			for i := range keys {
				last = s.del(fmt.Sprintf("k%d", i))
			}
			s.compact(last, false)
			s.Kill9()
			s.Restart()
			s.reconnect()
			list := s.get(prefix("k"))
			if list.Header.Revision != last || list.Count != 0 {
				s.t.Fatalf("after the crash the revision is %d, and there are %d keys; expected %d and none", list.Header.Revision, list.Count, last)
			}
			if revision := s.put("k", "after"); revision != last+1 {
				s.t.Fatalf("the next write is at %d, expected %d", revision, last+1)
			}
			s.del("k")
		}
	})
}

// etcd#15271: a watch that was resumed at another member was told events again that it had been told. Here the store is
// killed in the middle of writing, and each watch resumes where it was.
func TestPitfall11AWatchThatResumesAfterACrashGoesOnWhereItWas(t *testing.T) {
	const crashes, eventsBetween = 3, 100
	onBoth(t, func(s *store) {
		// Of each acknowledged write, its revision and key.
		acknowledged := map[int64]string{}
		seen := map[int64]string{}
		next := int64(2)
		for crash := range crashes {
			w := s.openWatch()
			w.create(all("k", next))
			done := make(chan map[int64]string)
			client := s.Client
			go func() {
				written := map[int64]string{}
				for i := 0; ; i++ {
					name := fmt.Sprintf("k%d-%d", crash, i)
					response, err := client.KV.Put(s.context(), &pb.PutRequest{Key: []byte(name)})
					if err != nil {
						done <- written
						return
					}
					written[response.Header.Revision] = name
				}
			}()
			killed := false
			for count := 0; ; {
				response, err := w.receive()
				if err != nil {
					if code := status.Code(err); !killed || code != codes.Unavailable {
						s.t.Fatalf("the watch ended with %v", err)
					}
					break
				}
				next = record(s.t, seen, response.Events, next)
				if count += len(response.Events); count >= eventsBetween && !killed {
					s.Kill9()
					killed = true
				}
			}
			for revision, name := range <-done {
				acknowledged[revision] = name
			}
			s.Restart()
			s.reconnect()
		}
		w := s.openWatch()
		w.create(all("k", next))
		last := s.put("k last", "1")
		for next <= last {
			next = record(s.t, seen, w.next().Events, next)
		}
		for revision, name := range acknowledged {
			if seen[revision] != name {
				s.t.Errorf("%s was acknowledged at %d, where the watch saw %q", name, revision, seen[revision])
			}
		}
	})
}

// record notes events, which must begin at the next revision and have no gaps, and returns the revision behind them.
func record(t *testing.T, seen map[int64]string, events []*mvccpb.Event, next int64) int64 {
	t.Helper()
	for _, event := range events {
		if event.Kv.ModRevision != next {
			t.Fatalf("an event at %d, expected the one at %d", event.Kv.ModRevision, next)
		}
		seen[next] = string(event.Kv.Key)
		next++
	}
	return next
}

// mem_etcd served one watch on a stream and forgot the second. kube-apiserver's client puts several on one.
func TestPitfall15ASecondWatchOnAStreamIsServedToo(t *testing.T) {
	onBoth(t, func(s *store) {
		w := s.openWatch()
		first, second, same := w.create(all("a", 0)), w.create(all("b", 0)), w.create(all("a", 0))
		s.put("a", "1")
		s.put("b", "1")
		s.put("a", "2")
		want := map[int64]int{first: 2, second: 1, same: 2}
		for left := 5; left > 0; {
			response := w.next()
			want[response.WatchId] -= len(response.Events)
			left -= len(response.Events)
		}
		for id, missing := range want {
			if missing != 0 {
				s.t.Errorf("watcher %d: %d events are missing", id, missing)
			}
		}
	})
}
