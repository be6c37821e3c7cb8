package etcdctl

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/orlop/orlop/tests/harness"
)

// both are an etcd and an Orlop for the commands that run until they are stopped.
func both(t *testing.T, opts ...harness.Option) []*session {
	t.Helper()
	t.Parallel()
	return []*session{newSession(t, harness.StartEtcd(t, opts...)), newSession(t, harness.StartOrlop(t, opts...))}
}

// do runs commands that must succeed.
func (s *session) do(t *testing.T, commands ...string) {
	t.Helper()
	for _, text := range commands {
		if result := s.run(t, command{text: text}); result.ExitCode != 0 {
			t.Fatalf("etcdctl %s: %+v", text, result)
		}
	}
}

func TestWatch(t *testing.T) {
	stores := both(t)
	for _, s := range stores {
		s.do(t, "put a 1", "put ab 1", "put a 2", "del a", "put a 3", "put b 1", "del ab")
	}
	watches := map[string]struct {
		args  string
		lines int
	}{
		"key":                {"watch a --rev 1", 12},
		"key, from later on": {"watch a --rev 5", 5},
		"prefix":             {"watch a --prefix --rev 1", 18},
		"range":              {"watch a b --rev 1", 18},
		"previous values":    {"watch a --prefix --rev 1 --prev-kv", 22},
		"json":               {"watch b --rev 1 -w json", 1},
		"fields":             {"watch b --rev 1 -w fields", 11},
		"hex":                {"watch b --rev 1 --hex", 3},
		"executes":           {`watch a --rev 1 -- sh -c "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE"`, 16},
	}
	for name, watch := range watches {
		t.Run(name, func(t *testing.T) {
			var outputs []string
			for _, s := range stores {
				p := spawn(t, s.store, split(t, watch.args)...)
				outputs = append(outputs, p.lines(watch.lines))
				p.interrupt()
			}
			if diff := cmp.Diff(outputs[0], outputs[1]); diff != "" {
				t.Errorf("etcdctl %s (- etcd, + orlop):\n%s", watch.args, diff)
			}
		})
	}
}

// A watch that starts at the next revision sees what is written after it, whenever it gets there.
func TestAWatchFollowsWhatIsWritten(t *testing.T) {
	var outputs []string
	for _, s := range both(t) {
		p := spawn(t, s.store, "watch", "a", "--prefix", "--rev", "2", "--prev-kv")
		s.do(t, "put a 1", "put a 2", "put other 1", "del a", "put a3 1")
		outputs = append(outputs, p.lines(16))
		p.interrupt()
	}
	if diff := cmp.Diff(outputs[0], outputs[1]); diff != "" {
		t.Errorf("(- etcd, + orlop):\n%s", diff)
	}
}

func TestInteractiveWatchAndProgress(t *testing.T) {
	for _, s := range both(t) {
		s.do(t, "put a 1", "put b 2")
		p := spawn(t, s.store, "watch", "-i")
		// One after the other: etcdctl prints each watch from a goroutine of its own, so the lines of two
		// watches that have something to say at once mix.
		for _, step := range []struct{ line, answer string }{
			{"watch a --rev 1", "PUT\na\n1\n"},
			{"watch b --rev 1", "PUT\nb\n2\n"},
			{"nonsense", "Invalid command nonsense"},
			{"progress", "progress notify: 3"},
		} {
			if _, err := fmt.Fprintln(p.stdin, step.line); err != nil {
				t.Fatal(err)
			}
			p.seen(step.answer)
		}
		p.interrupt()
	}
}

func TestWatchNotifiesProgress(t *testing.T) {
	for _, s := range both(t, harness.Flags("--watch-progress-notify-interval", "100ms")) {
		s.do(t, "put a 1")
		p := spawn(t, s.store, "watch", "other", "--progress-notify")
		p.seen("progress notify: 2")
		s.do(t, "put a 2")
		p.seen("progress notify: 3")
		p.interrupt()
	}
}

func TestALockIsHeldByOneAndHandedOn(t *testing.T) {
	for _, s := range both(t) {
		holder := spawn(t, s.store, "lock", "mutex")
		holder.seen("mutex/")
		waiter := spawn(t, s.store, "lock", "mutex", "echo", "mine now")
		harness.Eventually(t, "both stand in line", func() bool {
			return strings.Contains(s.run(t, command{text: "get mutex --prefix --count-only -w fields"}).Stdout, `"Count" : 2`)
		})
		if text := waiter.output(); text != "" {
			t.Fatalf("the lock is taken, yet the second one got it: %q", text)
		}
		holder.interrupt()
		waiter.seen("mine now")
		if code := waiter.wait(); code != 0 {
			t.Fatalf("exit code %d", code)
		}
		if left := s.run(t, command{text: "get mutex --prefix"}); left.Stdout != "" {
			t.Fatalf("a lock is left behind: %q", left.Stdout)
		}
	}
}

func TestALockIsLostWithItsLease(t *testing.T) {
	for _, s := range both(t) {
		holder := spawn(t, s.store, "lock", "mutex", "--ttl", "2")
		holder.seen("mutex/")
		// A process that is killed cannot unlock: its lease runs out.
		_ = holder.cmd.Process.Kill()
		waiter := spawn(t, s.store, "lock", "mutex", "echo", "mine now")
		waiter.seen("mine now")
	}
}

func TestAnElectionHasOneLeaderAndObservers(t *testing.T) {
	for _, s := range both(t) {
		first := spawn(t, s.store, "elect", "office", "alice")
		first.seen("alice")
		observer := spawn(t, s.store, "elect", "office", "--listen")
		observer.seen("alice")
		second := spawn(t, s.store, "elect", "office", "bob")
		harness.Eventually(t, "both are candidates", func() bool {
			return strings.Contains(s.run(t, command{text: "get office --prefix --count-only -w fields"}).Stdout, `"Count" : 2`)
		})
		if text := second.output(); text != "" {
			t.Fatalf("there is a leader, yet the second one won: %q", text)
		}
		first.interrupt()
		second.seen("bob")
		observer.seen("bob")
		second.interrupt()
		observer.interrupt()
	}
}

func TestALeaseIsKeptAlive(t *testing.T) {
	for _, s := range both(t) {
		s.do(t, "lease grant 3", "put a 1 --lease=$LEASE1")
		p := spawn(t, s.store, "lease", "keep-alive", s.leases[0])
		p.lines(4)
		if text := p.output(); strings.Count(text, "lease ID keepalived with TTL(3)\n") < 4 {
			t.Fatalf("unexpected output: %q", text)
		}
		s.do(t, "get a")
		p.interrupt()
		harness.Eventually(t, "the key is gone with its lease", func() bool {
			return s.run(t, command{text: "get a"}).Stdout == ""
		})
	}
}

// A mirror copies what is there and follows what comes, in both directions between the two kinds of store.
func TestMirrors(t *testing.T) {
	stores := both(t)
	for _, direction := range [][2]*session{{stores[0], stores[1]}, {stores[1], stores[0]}} {
		from, to := direction[0], direction[1]
		prefix := "from-" + strings.TrimPrefix(from.store.Addr(), "127.0.0.1:") + "/"
		from.do(t, "put "+prefix+"a before", "put "+prefix+"b before")
		p := spawn(t, from.store, "make-mirror", to.store.Addr(), "--prefix", prefix)
		has := func(key, value string) func() bool {
			return func() bool {
				return to.run(t, command{text: "get " + prefix + key + " --print-value-only"}).Stdout == value
			}
		}
		harness.Eventually(t, "the old keys are there", has("b", "before\n"))
		from.do(t, "put "+prefix+"a after", "del "+prefix+"b", "put "+prefix+"c new")
		harness.Eventually(t, "a new value is there", has("a", "after\n"))
		harness.Eventually(t, "a new key is there", has("c", "new\n"))
		harness.Eventually(t, "a deleted key is gone", has("b", ""))
		p.interrupt()
	}
}

func TestMemberList(t *testing.T) {
	for _, s := range both(t) {
		result := s.run(t, command{text: "member list"})
		fields := strings.Split(strings.TrimSpace(result.Stdout), ", ")
		if result.ExitCode != 0 || len(fields) != 6 || fields[1] != "started" || fields[4] != "http://ENDPOINT" || fields[5] != "false" {
			t.Errorf("unexpected member list: %+v", result)
		}
		raw := harness.Run(t, "", s.etcdctl, "--endpoints", s.store.Addr(), "member", "list", "-w", "json")
		var list struct {
			Members []struct {
				ID         uint64   `json:"ID"`
				Name       string   `json:"name"`
				ClientURLs []string `json:"clientURLs"`
			} `json:"members"`
		}
		if err := json.Unmarshal([]byte(raw.Stdout), &list); err != nil || len(list.Members) != 1 || list.Members[0].ID == 0 {
			t.Errorf("unexpected member list: %s %v", raw.Stdout, err)
		}
	}
}

// What Orlop does not do it says in a sentence, and etcdctl passes it on.
func TestWhatIsNotSupportedSaysSo(t *testing.T) {
	t.Parallel()
	s := newSession(t, harness.StartOrlop(t))
	for _, text := range []string{
		"member add new --peer-urls=http://127.0.0.1:1",
		"member remove 1234",
		"member update 1234 --peer-urls=http://127.0.0.1:1",
		"member promote 1234",
		"move-leader 1234",
		"downgrade enable 3.6",
		"auth enable",
		"user list",
		"user add root:password",
		"role list",
		"role add root",
	} {
		t.Run(text, func(t *testing.T) {
			result := s.run(t, command{text: text})
			message := result.Stderr
			if result.ExitCode == 0 {
				t.Errorf("exit code 0: %+v", result)
			}
			if !strings.Contains(message, "Error: ") || len(strings.Fields(message)) < 5 || strings.Contains(strings.ToLower(message), "unknown") {
				t.Errorf("the message does not explain what is not supported: %q", message)
			}
		})
	}
}
