package etcdctl

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/orlop/orlop/tests/harness"
)

// command is one line of a script, with its standard input.
type command struct {
	line  int
	text  string
	stdin string
}

func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.script")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts in testdata: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".script")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			commands := parse(t, file)
			etcd := newSession(t, harness.StartEtcd(t))
			orlop := newSession(t, harness.StartOrlop(t))
			for _, c := range commands {
				want, got := etcd.run(t, c), orlop.run(t, c)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s:%d: etcdctl %s (- etcd, + orlop):\n%s", file, c.line, c.text, diff)
				}
			}
		})
	}
}

func parse(t *testing.T, file string) []command {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var commands []command
	for i, line := range strings.Split(string(text), "\n") {
		switch {
		case strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "|"):
			if len(commands) == 0 {
				t.Fatalf("%s:%d: input without a command", file, i+1)
			}
			commands[len(commands)-1].stdin += strings.TrimPrefix(strings.TrimPrefix(line, "|"), " ") + "\n"
		default:
			commands = append(commands, command{line: i + 1, text: line})
		}
	}
	return commands
}

// session runs commands on one store and remembers the leases that it granted.
type session struct {
	store   *harness.Store
	etcdctl string
	leases  []string
}

func newSession(t *testing.T, store *harness.Store) *session {
	t.Helper()
	return &session{store: store, etcdctl: harness.Binary(t, harness.EtcdctlBin)}
}

// output is what a user sees of a command, without what must differ between two stores.
type output struct {
	ExitCode int
	Stdout   string
	Stderr   string
}

var grantedLease = regexp.MustCompile(`lease ([0-9a-f]{16}) granted`)

func (s *session) run(t *testing.T, c command) output {
	t.Helper()
	text := c.text
	for i, lease := range s.leases {
		text = strings.ReplaceAll(text, fmt.Sprintf("$LEASE%d", i+1), lease)
	}
	args := append([]string{"--endpoints", s.store.Addr()}, split(t, text)...)
	result := harness.Run(t, c.stdin, s.etcdctl, args...)
	if match := grantedLease.FindStringSubmatch(result.Stdout); match != nil {
		s.leases = append(s.leases, match[1])
	}
	return output{
		ExitCode: result.ExitCode,
		Stdout:   normalise(s.store, c.text, result.Stdout),
		Stderr:   normalise(s.store, c.text, result.Stderr),
	}
}

// split cuts a line into arguments as a shell does: at white space, except in single or double quotes.
func split(t *testing.T, text string) []string {
	t.Helper()
	var (
		args    []string
		current strings.Builder
		quote   rune
		open    bool
	)
	for _, r := range text {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			current.WriteRune(r)
		case r == '\'' || r == '"':
			quote, open = r, true
		case unicode.IsSpace(r):
			if open {
				args = append(args, current.String())
			}
			current.Reset()
			open = false
		default:
			current.WriteRune(r)
			open = true
		}
	}
	if quote != 0 {
		t.Fatalf("an open quote in %q", text)
	}
	if open {
		args = append(args, current.String())
	}
	return args
}
