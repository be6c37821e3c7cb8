package ledger

import (
	"errors"
	"fmt"
	"slices"
	"sort"
)

// ErrLost is an acknowledged write that is not there.
var ErrLost = errors.New("an acknowledged write is lost")

// Of each kind of problem no more than this many are told.
const problemsMax = 10

// Lease is a lease as a store shows it. TTL is what it was granted.
type Lease struct {
	Exists bool
	TTL    int64
	Keys   []string
}

// Observation is what a store shows at one moment, when nobody writes.
type Observation struct {
	// Revision is the store's, Compacted that below which nothing is kept (0: nothing was compacted).
	Revision, Compacted int64
	// From is where the watch began that told the events: the whole rest of history.
	From   int64
	Events []Event
	// State are all keys in their order.
	State  []KV
	Leases map[int64]Lease
}

// Judge compares what a store shows with what it has promised, and takes it as what is known from now on: what may have
// happened and is not there must not appear later. It returns every breach that it finds.
func (l *Ledger) Judge(seen Observation) []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	j := &judgement{Ledger: l, seen: seen}
	j.numbers()
	if len(j.problems) == 0 {
		j.eventsInOrder()
	}
	if len(j.problems) == 0 {
		j.unseen()
		j.fresh()
	}
	if len(j.problems) == 0 {
		j.keys()
		j.leasesAndKeys()
	}
	clear(l.acknowledged)
	clear(l.perhaps)
	return j.problems
}

type judgement struct {
	*Ledger
	seen     Observation
	problems []error
}

func (j *judgement) report(problem error) {
	if len(j.problems) < problemsMax {
		j.problems = append(j.problems, problem)
	}
}

// numbers judges the store's revision and that of its compaction.
func (j *judgement) numbers() {
	for revision, call := range j.acknowledged {
		if revision > j.seen.Revision {
			j.report(fmt.Errorf("%w: revision %d (%v); the store is at %d", ErrLost, revision, call.write, j.seen.Revision))
		}
	}
	if j.seen.Revision < j.verified() {
		j.report(fmt.Errorf("%w: the store was at revision %d and is at %d", ErrLost, j.verified(), j.seen.Revision))
	}
	if c := j.seen.Compacted; c < j.compacted || c > j.compactSent {
		j.report(fmt.Errorf("the store is compacted at %d; acknowledged was %d, asked for %d", c, j.compacted, j.compactSent))
	}
}

// eventsInOrder judges that each revision is told once, in order, and that what was seen before is told again unchanged.
func (j *judgement) eventsInOrder() {
	expected := j.seen.From
	for i := 0; i < len(j.seen.Events); {
		revision, events := j.seen.group(i)
		i += len(events)
		if revision != expected {
			j.report(fmt.Errorf("the watch tells revision %d where %d was to come", revision, expected))
			return
		}
		expected++
		if revision <= j.verified() && !slices.Equal(events, j.history[revision-FirstRevision]) {
			j.report(fmt.Errorf("revision %d was %v and is %v", revision, j.history[revision-FirstRevision], events))
		}
	}
	if last := j.seen.Revision; expected != last+1 && last >= j.seen.From {
		j.report(fmt.Errorf("the watch ends before revision %d; the store is at %d", expected, last))
	}
}

// group returns the events of one revision, in the order of their keys.
func (o *Observation) group(from int) (int64, []Event) {
	revision := o.Events[from].Mod
	end := from
	for end < len(o.Events) && o.Events[end].Mod == revision {
		end++
	}
	events := slices.Clone(o.Events[from:end])
	sort.Slice(events, func(i, k int) bool { return events[i].Key < events[k].Key })
	return revision, events
}

// unseen takes over what was compacted before anybody looked: it is known from the answers.
func (j *judgement) unseen() {
	for revision := j.verified() + 1; revision < j.seen.From && revision <= j.seen.Revision; revision++ {
		call := j.acknowledged[revision]
		if call == nil {
			j.report(fmt.Errorf("revision %d is compacted, and nobody knows what it was", revision))
			return
		}
		j.accept(call.write.effects(j.state, revision))
	}
}

// fresh judges what is new since the last observation.
func (j *judgement) fresh() {
	for i := 0; i < len(j.seen.Events); {
		revision, events := j.seen.group(i)
		i += len(events)
		if revision <= j.verified() {
			continue
		}
		if call := j.acknowledged[revision]; call != nil {
			if want := call.write.effects(j.state, revision); !slices.Equal(events, want) {
				j.report(fmt.Errorf("%w: revision %d was acknowledged as %v and is %v", ErrLost, revision, want, events))
			}
		} else if !j.claim(revision, events) {
			j.report(fmt.Errorf("revision %d was sent by nobody, or is not whole: %v", revision, events))
		}
		j.accept(events)
	}
}

// claim finds the call without an answer that did this, which then cannot have done anything else.
func (j *judgement) claim(revision int64, events []Event) bool {
	for call := range j.perhaps {
		if slices.Equal(events, call.write.effects(j.state, revision)) {
			delete(j.perhaps, call)
			return true
		}
	}
	return false
}

func (j *judgement) accept(events []Event) {
	j.history = append(j.history, events)
	apply(j.state, events)
}

// keys judges that the keys are what all changes together make of them.
func (j *judgement) keys() {
	want := sorted(j.state)
	if slices.Equal(j.seen.State, want) {
		return
	}
	found := map[string]KV{}
	for _, kv := range j.seen.State {
		found[kv.Key] = kv
	}
	for _, kv := range want {
		if found[kv.Key] != kv {
			j.report(fmt.Errorf("%w: the key is %+v, its changes make it %+v", ErrLost, found[kv.Key], kv))
		}
		delete(found, kv.Key)
	}
	for _, kv := range found {
		j.report(fmt.Errorf("the key %+v was deleted, or never put", kv))
	}
	if len(j.seen.State) != len(want) {
		j.report(fmt.Errorf("%d keys are listed, there are %d", len(j.seen.State), len(want)))
	}
}

// leasesAndKeys judges that leases are there with their keys, and gone with them.
func (j *judgement) leasesAndKeys() {
	keys := map[int64][]string{}
	for _, kv := range sorted(j.state) {
		if kv.LeaseID != 0 {
			keys[kv.LeaseID] = append(keys[kv.LeaseID], kv.Key)
		}
	}
	for id, lease := range j.leases {
		seen := j.seen.Leases[id]
		switch {
		case lease.revoked && (seen.Exists || len(keys[id]) > 0):
			j.report(fmt.Errorf("lease %d was revoked and is there, keys %v", id, keys[id]))
		case lease.granted && !lease.revoked && !seen.Exists:
			j.report(fmt.Errorf("%w: lease %d is gone", ErrLost, id))
		case seen.Exists && (seen.TTL != lease.ttl || !slices.Equal(seen.Keys, keys[id])):
			j.report(fmt.Errorf("lease %d (TTL %d, keys %v) is shown as %+v", id, lease.ttl, keys[id], seen))
		}
		// What was found is what is known from now on.
		lease.granted = lease.granted || seen.Exists
		if !seen.Exists {
			delete(j.leases, id)
		}
	}
}
