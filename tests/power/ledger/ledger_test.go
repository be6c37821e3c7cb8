package ledger

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// store is the smallest store that keeps what it is told: the honest witness that the tests then falsify.
type store struct {
	state  map[string]KV
	events []Event
	at     int64
}

func (s *store) do(write Write) int64 {
	events := write.effects(s.state, s.at+1)
	if len(events) > 0 {
		s.at++
	}
	apply(s.state, events)
	s.events = append(s.events, events...)
	return s.at
}

func (s *store) observe() Observation {
	return Observation{
		Revision: s.at, From: FirstRevision, Events: slices.Clone(s.events), State: sorted(s.state),
		Leases: map[int64]Lease{7: {Exists: true, TTL: 60, Keys: []string{"leased"}}},
	}
}

// story is a ledger and a store that did what it says: puts, a deletion, a transaction, a condition and a lease.
func story() (*Ledger, *store) {
	l, s := New(), &store{state: map[string]KV{}, at: 1}
	l.Grant(7, 60)()
	for _, write := range []Write{
		{Puts: []Put{{Key: "a", Value: "1"}}},
		{Puts: []Put{{Key: "b", Value: "2"}, {Key: "c", Value: "3"}}},
		{Deletes: []string{"b"}},
		{Expect: map[string]int64{"a": 2}, Puts: []Put{{Key: "a", Value: "4"}}},
		{Puts: []Put{{Key: "leased", Value: "5", LeaseID: 7}}},
	} {
		l.Begin(write).Acknowledge(s.do(write))
	}
	return l, s
}

func requireProblem(t *testing.T, problems []error, is error, text string) {
	t.Helper()
	for _, problem := range problems {
		if (is == nil || errors.Is(problem, is)) && strings.Contains(problem.Error(), text) {
			return
		}
	}
	t.Fatalf("no problem with %q: %v", text, problems)
}

func TestAStoreThatKeepsItsWordIsBelieved(t *testing.T) {
	l, s := story()
	for range 2 {
		if problems := l.Judge(s.observe()); len(problems) > 0 {
			t.Fatal(problems)
		}
	}
	if got := l.StateAt(3); len(got) != 3 || got[1].Key != "b" {
		t.Fatal(got)
	}
}

func TestALostWriteIsFound(t *testing.T) {
	l, s := story()
	seen := s.observe()
	seen.Revision--
	requireProblem(t, l.Judge(seen), ErrLost, "revision 6")
}

func TestAWriteThatIsThereInPartIsFound(t *testing.T) {
	l, s := story()
	seen := s.observe()
	seen.Events = slices.Delete(seen.Events, 1, 2)
	requireProblem(t, l.Judge(seen), ErrLost, "revision 3")
}

func TestARevisionThatIsToldTwiceOrLeftOutIsFound(t *testing.T) {
	l, s := story()
	seen := s.observe()
	seen.Events = append(seen.Events[:1:1], seen.Events...)
	seen.Events[1].Mod = 3
	requireProblem(t, l.Judge(seen), nil, "revision 3")
	l, s = story()
	seen = s.observe()
	seen.Events = slices.Delete(seen.Events, 3, 4)
	requireProblem(t, l.Judge(seen), nil, "where 4 was to come")
}

func TestAKeyThatIsNotWhatItsChangesMakeItIsFound(t *testing.T) {
	l, s := story()
	seen := s.observe()
	seen.State[0].Version++
	requireProblem(t, l.Judge(seen), ErrLost, "the key is")
	l, s = story()
	seen = s.observe()
	seen.State = append(seen.State, KV{Key: "z"})
	requireProblem(t, l.Judge(seen), nil, "never put")
}

func TestALeaseThatIsGoneOrHasOtherKeysIsFound(t *testing.T) {
	l, s := story()
	seen := s.observe()
	seen.Leases = nil
	requireProblem(t, l.Judge(seen), ErrLost, "lease 7")
	l, s = story()
	seen = s.observe()
	seen.Leases[7] = Lease{Exists: true, TTL: 60}
	requireProblem(t, l.Judge(seen), nil, "lease 7")
}

func TestWhatHadNoAnswerMayBeThereAsAWholeOrNotAtAll(t *testing.T) {
	write := Write{Puts: []Put{{Key: "x", Value: "6"}, {Key: "y", Value: "7"}}}
	for _, happened := range []bool{false, true} {
		l, s := story()
		l.Begin(write)
		if happened {
			s.do(write)
		}
		if problems := l.Judge(s.observe()); len(problems) > 0 {
			t.Fatal(problems)
		}
		// What was not there once must not appear later.
		s.do(write)
		requireProblem(t, l.Judge(s.observe()), nil, "sent by nobody")
	}
	l, s := story()
	l.Begin(write)
	s.do(Write{Puts: write.Puts[:1]})
	requireProblem(t, l.Judge(s.observe()), nil, "not whole")
}

func TestARefusedWriteMustNotAppear(t *testing.T) {
	l, s := story()
	write := Write{Puts: []Put{{Key: "x", Value: "6"}}}
	l.Begin(write).Refuse()
	s.do(write)
	requireProblem(t, l.Judge(s.observe()), nil, "sent by nobody")
}

func TestAPastThatChangesIsFound(t *testing.T) {
	l, s := story()
	if problems := l.Judge(s.observe()); len(problems) > 0 {
		t.Fatal(problems)
	}
	s.events[0].Value = "other"
	requireProblem(t, l.Judge(s.observe()), nil, "revision 2 was")
}

func TestACompactionIsKeptAndNotGuessed(t *testing.T) {
	l, s := story()
	l.Compact(4)()
	if l.KnownThrough() != 6 {
		t.Fatal(l.KnownThrough())
	}
	seen := s.observe()
	requireProblem(t, l.Judge(seen), nil, "compacted at 0")
	l, s = story()
	l.Compact(4)()
	seen = s.observe()
	seen.Compacted, seen.From, seen.Events = 4, 4, seen.Events[3:]
	if problems := l.Judge(seen); len(problems) > 0 {
		t.Fatal(problems)
	}
}

func TestARevocationTakesItsKeysAlong(t *testing.T) {
	l, s := story()
	l.Begin(Write{Revoke: 7})
	seen := s.observe()
	requireProblem(t, l.Judge(seen), nil, "was revoked")
	l, s = story()
	revoke := Write{Revoke: 7}
	l.Begin(revoke)
	s.do(revoke)
	seen = s.observe()
	seen.Leases = nil
	if problems := l.Judge(seen); len(problems) > 0 {
		t.Fatal(problems)
	}
}
