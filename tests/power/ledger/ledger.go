// Package ledger keeps what was asked of a store and what it answered, and judges by it what the store shows after it
// came back: every acknowledged write is there at its revision, of the others each is there as a whole or not at all,
// and there is nothing that nobody sent.
//
// It knows no store and no wire: the observation is an argument.
package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"sort"
	"sync"
)

// FirstRevision is that of the first write to a store.
const FirstRevision = 2

// KV is a key as a store shows it.
type KV struct {
	Key, Value                    string
	Create, Mod, Version, LeaseID int64
}

// Event is one change of one key. Of a deletion there are only Key and Mod.
type Event struct {
	KV
	IsDelete bool
}

// Put is the part of a write that puts a key.
type Put struct {
	Key, Value string
	LeaseID    int64
}

// Write is what one call asks for: all of it or nothing, at one revision.
type Write struct {
	// Expect are the revisions at which keys must have been changed last, 0 for a key that must not exist. Otherwise
	// nothing happens.
	Expect  map[string]int64
	Puts    []Put
	Deletes []string
	// Revoke is a lease whose keys are deleted.
	Revoke int64
}

// Fingerprint stands for a value: itself if it is short, else its hash.
func Fingerprint(value []byte) string {
	if len(value) <= 64 {
		return string(value)
	}
	sum := sha256.Sum256(value)
	return hex.EncodeToString(sum[:])
}

// Call is one call under way, or without an answer. The zero outcome is "perhaps".
type Call struct {
	ledger *Ledger
	write  Write
}

// Ledger is of one store over all its lives. Its methods may be called concurrently.
type Ledger struct {
	mu sync.Mutex
	// What was seen at the last observation: the changes of each revision, the first at FirstRevision.
	history [][]Event
	state   map[string]KV
	// What was acknowledged since then, by revision, and what may have happened.
	acknowledged map[int64]*Call
	perhaps      map[*Call]bool
	// Every lease that a grant was sent for.
	leases map[int64]*lease
	// The highest compaction that was sent, and that was acknowledged.
	compactSent, compacted int64
	answers                int
}

type lease struct {
	ttl              int64
	granted, revoked bool
}

// New returns the ledger of an empty store.
func New() *Ledger {
	return &Ledger{
		state:        map[string]KV{},
		acknowledged: map[int64]*Call{},
		perhaps:      map[*Call]bool{},
		leases:       map[int64]*lease{},
	}
}

// Begin notes a write before it is sent.
func (l *Ledger) Begin(write Write) *Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	call := &Call{ledger: l, write: write}
	l.perhaps[call] = true
	if write.Revoke != 0 {
		l.leases[write.Revoke].revoked = true
	}
	return call
}

// Acknowledge notes that the store said that the write happened at this revision.
func (c *Call) Acknowledge(revision int64) {
	c.ledger.mu.Lock()
	defer c.ledger.mu.Unlock()
	delete(c.ledger.perhaps, c)
	c.ledger.acknowledged[revision] = c
	c.ledger.answers++
}

// Refuse notes that the store said that the write did not happen, or changed nothing.
func (c *Call) Refuse() {
	c.ledger.mu.Lock()
	defer c.ledger.mu.Unlock()
	delete(c.ledger.perhaps, c)
	c.ledger.answers++
}

// Grant notes a grant before it is sent; the answer is to be called when it was acknowledged.
func (l *Ledger) Grant(id, ttl int64) (granted func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	sent := &lease{ttl: ttl}
	l.leases[id] = sent
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		sent.granted = true
		l.answers++
	}
}

// Compact notes a compaction before it is sent; the answer is to be called when it was acknowledged.
func (l *Ledger) Compact(revision int64) (compacted func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.compactSent = max(l.compactSent, revision)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.compacted = max(l.compacted, revision)
		l.answers++
	}
}

// Copy returns an independent ledger of the same store, for tests that go on from one disk more than once. No call may
// be under way.
func (l *Ledger) Copy() *Ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	twin := New()
	twin.history = slices.Clone(l.history)
	twin.state = maps.Clone(l.state)
	twin.acknowledged, twin.perhaps = maps.Clone(l.acknowledged), maps.Clone(l.perhaps)
	for id, was := range l.leases {
		is := *was
		twin.leases[id] = &is
	}
	twin.compactSent, twin.compacted, twin.answers = l.compactSent, l.compacted, l.answers
	return twin
}

// Answers returns how many calls were answered so far.
func (l *Ledger) Answers() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answers
}

// KnownThrough returns the highest revision up to which every change is known: later ones must not be compacted, as
// nobody could say any more whether they are what was sent.
func (l *Ledger) KnownThrough() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	revision := l.verified()
	for l.acknowledged[revision+1] != nil {
		revision++
	}
	return revision
}

// Leases returns the ids of all leases that a grant was sent for, and of those that a revocation was sent for.
func (l *Ledger) Leases() (sent, revoked []int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, lease := range l.leases {
		sent = append(sent, id)
		if lease.revoked {
			revoked = append(revoked, id)
		}
	}
	return sent, revoked
}

// StateAt returns the keys at a revision that was observed, in their order.
func (l *Ledger) StateAt(revision int64) []KV {
	l.mu.Lock()
	defer l.mu.Unlock()
	state := map[string]KV{}
	for _, events := range l.history[:revision-FirstRevision+1] {
		apply(state, events)
	}
	return sorted(state)
}

// verified is the last revision that was observed.
func (l *Ledger) verified() int64 {
	return int64(len(l.history)) + FirstRevision - 1
}

func apply(state map[string]KV, events []Event) {
	for _, event := range events {
		if event.IsDelete {
			delete(state, event.Key)
		} else {
			state[event.Key] = event.KV
		}
	}
}

func sorted(state map[string]KV) []KV {
	kvs := make([]KV, 0, len(state))
	for _, kv := range state {
		kvs = append(kvs, kv)
	}
	sort.Slice(kvs, func(i, j int) bool { return kvs[i].Key < kvs[j].Key })
	return kvs
}

// effects returns what the write does to a state, in the order of the keys; nothing if its condition does not hold.
func (w *Write) effects(state map[string]KV, revision int64) []Event {
	for key, mod := range w.Expect {
		if state[key].Mod != mod {
			return nil
		}
	}
	var events []Event
	gone := func(key string) {
		events = append(events, Event{KV: KV{Key: key, Mod: revision}, IsDelete: true})
	}
	for _, put := range w.Puts {
		kv := KV{Key: put.Key, Value: put.Value, Create: revision, Mod: revision, Version: 1, LeaseID: put.LeaseID}
		if old, exists := state[put.Key]; exists {
			kv.Create, kv.Version = old.Create, old.Version+1
		}
		events = append(events, Event{KV: kv})
	}
	for _, key := range w.Deletes {
		if _, exists := state[key]; exists {
			gone(key)
		}
	}
	if w.Revoke != 0 {
		for key, kv := range state {
			if kv.LeaseID == w.Revoke {
				gone(key)
			}
		}
	}
	sort.Slice(events, func(i, j int) bool { return events[i].Key < events[j].Key })
	return events
}
