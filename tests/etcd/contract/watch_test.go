package contract

import (
	"fmt"
	"testing"

	"github.com/orlop/orlop/tests/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

func watchKey(key string) *pb.WatchCreateRequest {
	return &pb.WatchCreateRequest{Key: []byte(key)}
}

func watchPrefix(prefix string) *pb.WatchCreateRequest {
	return &pb.WatchCreateRequest{Key: []byte(prefix), RangeEnd: endOf(prefix)}
}

func watchAll() *pb.WatchCreateRequest {
	return &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}}
}

func TestTheCreatedResponseNamesTheCurrentRevision(t *testing.T) {
	p := start(t)
	p.put.ok(put("a", "1"))
	p.put.ok(put("a", "2"))
	w := p.openWatches()
	created := w.create(watchKey("a"))
	if !created.Created || created.Header.Revision != 3 || created.WatchId != 0 {
		t.Fatalf("unexpected answer: %v", created)
	}
	p.put.ok(put("a", "3"))
	if revision := w.events(0, 1)[0].Kv.ModRevision; revision != 4 {
		t.Fatalf("the first event is at %d, expected 4", revision)
	}
}

func TestEventsOfPutsAndDeletes(t *testing.T) {
	for name, prevKv := range map[string]bool{"with the previous value": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			p := start(t)
			p.put.ok(put("old", "0"))
			w := p.openWatches()
			w.create(&pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, PrevKv: prevKv})
			p.put.ok(put("new", "1"))
			p.put.ok(put("new", "2"))
			p.put.ok(put("old", "1"))
			p.del.ok(del("new"))
			p.del.ok(del("absent"))
			p.put.ok(put("new", ""))
			p.del.ok(&pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
			events := w.events(0, 7)
			if deleted := events[3]; deleted.Type != mvccpb.Event_DELETE || deleted.Kv.ModRevision != 6 || deleted.Kv.Value != nil {
				t.Fatalf("unexpected DELETE event: %v", deleted)
			}
			w.quiet()
		})
	}
}

func TestATransactionIsOneResponse(t *testing.T) {
	p := start(t)
	p.put.ok(put("a", "0"))
	w := p.openWatches()
	w.create(&pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, PrevKv: true})
	p.txn.ok(then(opPut("c", "1"), opDel(del("a")), opPut("b", "1"), opTxn(then(opPut("d", "1")))))
	if response := w.next(); len(response.Events) != 4 {
		t.Fatalf("%d events in one response, expected 4", len(response.Events))
	}
}

func TestKeysAndRangesToWatch(t *testing.T) {
	p := start(t)
	p.seed()
	w := p.openWatches()
	for name, request := range map[string]*pb.WatchCreateRequest{
		"one key":        watchKey("a"),
		"prefix":         watchPrefix("/registry/pods/"),
		"sibling prefix": watchPrefix("/registry/pod"),
		"half open":      {Key: []byte("a"), RangeEnd: []byte("b")},
		"from key":       {Key: []byte("a"), RangeEnd: []byte{0}},
		"everything":     watchAll(),
		"no key at all":  {RangeEnd: []byte{0}},
	} {
		t.Run(name, func(t *testing.T) {
			w := p.with(t).openWatches()
			request.StartRevision, request.PrevKv = 1, true
			w.create(request)
			first := w.etcd.next()
			etcd := first.Events
			requireSame(t, "the events of a watch", etcd, w.orlop.events(0, len(etcd)))
			w.quiet()
		})
	}
	// The empty key stands for the smallest one.
	w.create(&pb.WatchCreateRequest{})
	p.put.ok(put("\x00", "smallest"))
	w.events(0, 1)
}

func TestAnEmptyRangeCannotBeWatched(t *testing.T) {
	p := start(t)
	w := p.openWatches()
	for _, request := range []*pb.WatchCreateRequest{
		{Key: []byte("b"), RangeEnd: []byte("a")},
		{Key: []byte("a"), RangeEnd: []byte("a")},
	} {
		refused := w.create(request)
		if !refused.Created || !refused.Canceled || refused.WatchId != broadcastID || refused.CancelReason != "mvcc: watcher range is empty" {
			t.Fatalf("unexpected answer: %v", refused)
		}
	}
	w.create(watchKey("a"))
}

func TestWatchIdsAreGivenOrChosen(t *testing.T) {
	p := start(t)
	w := p.openWatches()
	for _, want := range []int64{0, 1, 2} {
		if id := w.create(watchAll()).WatchId; id != want {
			t.Fatalf("watch id %d, expected %d", id, want)
		}
	}
	if id := w.create(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: 4}).WatchId; id != 4 {
		t.Fatalf("watch id %d, expected the 4 that was asked for", id)
	}
	refused := w.create(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: 4})
	if !refused.Created || !refused.Canceled || refused.WatchId != broadcastID ||
		refused.CancelReason != "mvcc: duplicate watch ID provided on the WatchStream" {
		t.Fatalf("unexpected answer to a duplicate watch id: %v", refused)
	}
	// 3 is free, 4 is taken, so 5 is next.
	for _, want := range []int64{3, 5} {
		if id := w.create(watchKey("a")).WatchId; id != want {
			t.Fatalf("watch id %d, expected %d", id, want)
		}
	}
	w.cancel(4)
	w.next()
	if id := w.create(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: 4}).WatchId; id != 4 {
		t.Fatalf("an id is free again after its watcher was cancelled, got %d", id)
	}
	w.create(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: 1 << 40})
	w.create(&pb.WatchCreateRequest{Key: []byte("a"), WatchId: -7})
}

func TestACancelledWatcherIsSilent(t *testing.T) {
	p := start(t)
	w := p.openWatches()
	w.create(watchKey("a"))
	w.create(watchKey("a"))
	w.cancel(0)
	cancelled := w.next()
	if !cancelled.Canceled || cancelled.WatchId != 0 || cancelled.CompactRevision != 0 {
		t.Fatalf("unexpected answer: %v", cancelled)
	}
	p.put.ok(put("a", "1"))
	w.events(1, 1)
	w.quiet()
	w.cancel(0)
	w.cancel(99)
	w.quiet()
}

func TestFilters(t *testing.T) {
	p := start(t)
	w := p.openWatches()
	for i, filters := range [][]pb.WatchCreateRequest_FilterType{
		{pb.WatchCreateRequest_NOPUT},
		{pb.WatchCreateRequest_NODELETE},
		{pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE},
	} {
		request := watchAll()
		request.Filters = filters
		if id := w.create(request).WatchId; id != int64(i) {
			t.Fatalf("watch id %d, expected %d", id, i)
		}
	}
	p.put.ok(put("a", "1"))
	if event := w.events(1, 1)[0]; event.Type != mvccpb.Event_PUT {
		t.Fatalf("unexpected event: %v", event)
	}
	p.del.ok(del("a"))
	if event := w.events(0, 1)[0]; event.Type != mvccpb.Event_DELETE {
		t.Fatalf("unexpected event: %v", event)
	}
	w.quiet()
	past := watchAll()
	past.Filters, past.StartRevision = []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT}, 1
	w.create(past)
	w.events(3, 1)
}

func TestAWatchStartsAtAnyRevisionOfThePast(t *testing.T) {
	p := start(t)
	p.seed()
	for revision := int64(1); revision <= 17; revision++ {
		t.Run(fmt.Sprint(revision), func(t *testing.T) {
			w := p.with(t).openWatches()
			request := watchAll()
			request.StartRevision, request.PrevKv = revision, true
			w.create(request)
			w.events(0, int(17-max(revision, 2)+1))
			w.quiet()
		})
	}
}

func TestAWatchInTheFutureWaitsForItsRevision(t *testing.T) {
	p := start(t)
	w := p.openWatches()
	request := watchAll()
	request.StartRevision = 4
	if created := w.create(request); created.Canceled || created.Header.Revision != 1 {
		t.Fatalf("unexpected answer: %v", created)
	}
	p.put.ok(put("a", "2"))
	p.put.ok(put("a", "3"))
	w.quiet()
	p.put.ok(put("a", "4"))
	p.put.ok(put("a", "5"))
	if events := w.events(0, 2); events[0].Kv.ModRevision != 4 {
		t.Fatalf("the first event is at %d, expected 4", events[0].Kv.ModRevision)
	}
}

func TestANegativeStartRevisionIsRefused(t *testing.T) {
	p := start(t)
	w := p.openWatches()
	request := watchAll()
	request.StartRevision = -1
	refused := w.create(request)
	if !refused.Created || !refused.Canceled || refused.WatchId != broadcastID || refused.CancelReason == "" {
		t.Fatalf("unexpected answer: %v", refused)
	}
	if id := w.create(watchAll()).WatchId; id != 0 {
		t.Fatalf("the stream goes on with watch id 0, got %d", id)
	}
}

func TestAWatchBelowTheCompactionIsCancelledWithItsRevision(t *testing.T) {
	p := start(t)
	p.seed()
	p.compact.ok(&pb.CompactionRequest{Revision: 10})
	w := p.openWatches()
	request := watchAll()
	request.StartRevision = 9
	if created := w.create(request); created.Canceled {
		t.Fatalf("a compacted start is told by a second response: %v", created)
	}
	cancelled := w.next()
	if !cancelled.Canceled || cancelled.CompactRevision != 10 || cancelled.WatchId != 0 {
		t.Fatalf("unexpected answer: %v", cancelled)
	}
	w.quiet()
}

// Kubernetes ends a watch that gets a change without its previous value, with an internal error. At the compaction's own
// revision etcd sends just that; Orlop cancels the watch as compacted, and names the first revision that has them.
func TestAChangeNeverComesWithoutThePreviousValue(t *testing.T) {
	p := start(t)
	p.put.ok(put("a", "1"))
	p.put.ok(put("b", "1"))
	p.del.ok(del("a"))
	p.compact.ok(&pb.CompactionRequest{Revision: 4, Physical: true})
	for range 10 {
		w := p.orlop.openWatch(t)
		request := watchAll()
		request.StartRevision, request.PrevKv = 4, true
		w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}})
		w.next()
		response := w.next()
		if !response.Canceled || response.CompactRevision != 5 || len(response.Events) != 0 {
			t.Fatalf("not cancelled as compacted: %v", response)
		}
	}
}

// A watcher that has received everything does not mind a compaction at the current revision.
func TestACompactionLeavesUpToDateWatchersAlone(t *testing.T) {
	p := start(t)
	w := p.openWatches()
	w.create(&pb.WatchCreateRequest{Key: []byte("idle")})
	w.create(&pb.WatchCreateRequest{Key: []byte("a"), PrevKv: true})
	for i := range 5 {
		p.put.ok(put("a", fmt.Sprint(i)))
		w.events(1, 1)
	}
	p.compact.ok(&pb.CompactionRequest{Revision: 6, Physical: true})
	p.put.ok(put("a", "after"))
	w.events(1, 1)
	p.put.ok(put("idle", "after"))
	w.events(0, 1)
}

func TestHundredsOfWatchersShareAStream(t *testing.T) {
	const count = 300
	p := start(t)
	w := p.openWatches()
	for i := range count {
		if id := w.create(watchKey(fmt.Sprintf("k%03d", i))).WatchId; id != int64(i) {
			t.Fatalf("watch id %d, expected %d", id, i)
		}
	}
	for i := range count {
		p.put.ok(put(fmt.Sprintf("k%03d", i), "v"))
		w.events(int64(i), 1)
	}
	w.quiet()
}

func TestTheSameKeyWatchedTwiceTellsBoth(t *testing.T) {
	p := start(t)
	w := p.openWatches()
	w.create(watchKey("a"))
	w.create(&pb.WatchCreateRequest{Key: []byte("a"), PrevKv: true})
	p.put.ok(put("a", "1"))
	p.put.ok(put("a", "2"))
	for _, stream := range []*watchStream{w.etcd, w.orlop} {
		seen := map[int64]int{}
		for range 4 {
			for _, event := range stream.next().Events {
				seen[event.Kv.ModRevision]++
			}
			if seen[2] == 2 && seen[3] == 2 {
				break
			}
		}
		if seen[2] != 2 || seen[3] != 2 {
			t.Fatalf("%s: events per revision %v, expected two each", stream.name, seen)
		}
	}
}

// Two values and their predecessors, too much for one response of the default size, in one revision.
func TestBigEventsAreFragmentedOnlyWhenAsked(t *testing.T) {
	p := start(t)
	value := string(make([]byte, 600<<10))
	p.txn.ok(then(opPut("a", value), opPut("b", value)))
	whole, parts := p.openWatches(), p.openWatches()
	request := watchAll()
	request.PrevKv = true
	whole.create(request)
	request.Fragment = true
	parts.create(request)
	p.txn.ok(then(opPut("a", value), opPut("b", value)))
	if response := whole.next(); len(response.Events) != 2 || response.Fragment {
		t.Fatalf("%d events, fragment %v; expected one whole response", len(response.Events), response.Fragment)
	}
	first, second := parts.next(), parts.next()
	if !first.Fragment || len(first.Events) != 1 || second.Fragment || len(second.Events) != 1 {
		t.Fatalf("expected two fragments of one event, the last one unmarked; got %v with %d and %v with %d",
			first.Fragment, len(first.Events), second.Fragment, len(second.Events))
	}
	p.put.ok(put("c", "small"))
	if response := parts.next(); response.Fragment {
		t.Fatal("a small response is not a fragment")
	}
}

func TestARequestOfNoKnownKindIsIgnored(t *testing.T) {
	p := start(t)
	w := p.openWatches()
	w.send(&pb.WatchRequest{})
	w.create(watchKey("a"))
	p.put.ok(put("a", "1"))
	w.events(0, 1)
}

func TestHistorySurvivesACrash(t *testing.T) {
	p := start(t)
	p.seed()
	p.compact.ok(&pb.CompactionRequest{Revision: 6})
	p.each(func(s *side) { s.store.Kill9(); s.store.Restart() })
	w := p.openWatches()
	request := watchAll()
	request.StartRevision, request.PrevKv = 7, true
	w.create(request)
	w.events(0, 11)
	compacted := watchAll()
	compacted.StartRevision = 5
	w.create(compacted)
	if cancelled := w.next(); cancelled.CompactRevision != 6 {
		t.Fatalf("the compacted revision was forgotten: %v", cancelled)
	}
}

func TestProgressIsNotifiedInIntervals(t *testing.T) {
	p := start(t, harness.Flags("--watch-progress-notify-interval", "100ms"))
	p.put.ok(put("a", "1"))
	p.each(func(s *side) {
		w := s.openWatch(t)
		w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{
			Key: []byte("other"), ProgressNotify: true,
		}}})
		w.next()
		for _, want := range []int64{2, 2} {
			if progress := w.next(); len(progress.Events) != 0 || progress.Header.Revision != want || progress.WatchId != 0 {
				t.Fatalf("%s: expected progress to %d, got %v", s.name, want, progress)
			}
		}
	})
	// A change that the watcher does not see moves its progress all the same.
	p.put.ok(put("a", "2"))
	p.each(func(s *side) {
		w := s.openWatch(t)
		request := &pb.WatchCreateRequest{Key: []byte("other"), ProgressNotify: true, StartRevision: 2}
		w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}})
		w.next()
		if progress := w.next(); len(progress.Events) != 0 || progress.Header.Revision != 3 {
			t.Fatalf("%s: expected progress to 3, got %v", s.name, progress)
		}
	})
}

func TestProgressIsTrueWhenAsked(t *testing.T) {
	p := start(t)
	w := p.openWatches()
	w.create(watchKey("a"))
	w.create(watchKey("b"))
	for revision := int64(2); revision < 12; revision++ {
		p.put.ok(put("a", "v"))
		w.events(0, 1)
		w.askProgress()
		progress := w.next()
		if progress.WatchId != broadcastID || progress.Header.Revision != revision || len(progress.Events) != 0 {
			t.Fatalf("expected progress to %d for the whole stream, got %v", revision, progress)
		}
	}
	// One watcher that waits for a revision of the future holds the answer for all.
	future := watchKey("c")
	future.StartRevision = 100
	w.create(future)
	w.askProgress()
	w.quiet()
}

func TestProgressOfAStreamWithoutWatchersIsNotTold(t *testing.T) {
	w := start(t).openWatches()
	w.askProgress()
	w.quiet()
}

// etcd forgets a question that it cannot answer yet; Orlop answers it when it can. Neither tells a watcher of progress
// below its start.
func TestProgressAskedTooEarly(t *testing.T) {
	p := start(t)
	w := p.openWatches()
	future := watchAll()
	future.StartRevision = 3
	w.create(future)
	w.askProgress()
	p.put.ok(put("a", "2"))
	w.quiet()
	p.put.ok(put("a", "3"))
	w.events(0, 1)
	w.askProgress()
	if progress := w.next(); progress.WatchId != broadcastID || progress.Header.Revision != 3 {
		t.Fatalf("expected progress to 3, got %v", progress)
	}
}
