package harness

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// A store starts in well under a second; the rest is room for a machine that is busy with other tests.
	readyDeadline = 60 * time.Second
	// Orlop promises to be gone 5 s after SIGTERM; twice that leaves room for a busy machine.
	stopDeadline = 10 * time.Second
	pollInterval = 10 * time.Millisecond
	logTailBytes = 8 << 10
)

type exitRule int

const (
	exitsWithZero exitRule = iota
	// etcd ends itself with the signal that it received.
	exitsOnSignal
)

// Store is a running store process.
type Store struct {
	// Endpoint is the URL that clients connect to.
	Endpoint string
	// DataDir holds the store's files.
	DataDir string
	// TLS is how clients connect, nil without TLS.
	TLS *tls.Config
	// Pid is the process id of the store while it runs.
	Pid int

	t       testing.TB
	kind    string
	binary  string
	args    []string
	env     []string
	exitsOn exitRule
	logPath string
	cmd     *exec.Cmd
	exited  chan struct{}
}

// Addr returns the host and port of the endpoint.
func (s *Store) Addr() string {
	return strings.TrimPrefix(strings.TrimPrefix(s.Endpoint, "http://"), "https://")
}

// Kill9 ends the process with SIGKILL, as a crash would, and waits until it is gone.
func (s *Store) Kill9() {
	s.t.Helper()
	s.signal(syscall.SIGKILL)
	s.awaitExit(stopDeadline)
}

// Stop asks the process to end (SIGTERM) and asserts that it does so in time and, for Orlop, with exit code 0.
func (s *Store) Stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	s.awaitExit(stopDeadline)
	state := s.cmd.ProcessState
	if s.exitsOn == exitsWithZero && state.ExitCode() != 0 {
		s.t.Fatalf("%s ended after SIGTERM with %q, expected exit code 0", s.kind, state)
	}
}

// Signal sends a signal to the process.
func (s *Store) Signal(signal os.Signal) {
	s.t.Helper()
	s.signal(signal)
}

// TrySignal sends a signal to a process that may have ended by itself: then the error is os.ErrProcessDone.
func (s *Store) TrySignal(signal os.Signal) error {
	return s.cmd.Process.Signal(signal)
}

// Restart starts the process again on the same port and data directory and returns when it is ready. A process that
// still runs is stopped first.
func (s *Store) Restart() {
	s.t.Helper()
	if s.running() {
		s.Stop()
	}
	if end := s.TryRestart(); end != nil {
		s.t.Fatalf("%s ended before it was ready: exit code %d", s.kind, end.ExitCode)
	}
}

// TryRestart starts the process again and returns nil when it is ready, or what it left behind when it ended instead.
// Both output streams are then in Stderr.
func (s *Store) TryRestart() *Result {
	s.t.Helper()
	from := 0
	if _, err := os.Stat(s.logPath); err == nil {
		from = len(s.Log())
	}
	s.Spawn()
	if s.awaitReady() {
		return nil
	}
	return &Result{ExitCode: s.cmd.ProcessState.ExitCode(), Stderr: s.Log()[from:]}
}

// Exited is closed when the process that was started last is gone.
func (s *Store) Exited() <-chan struct{} {
	return s.exited
}

// AwaitExit waits until the process is gone and returns its exit code, -1 after a signal.
func (s *Store) AwaitExit() int {
	s.t.Helper()
	s.awaitExit(stopDeadline)
	return s.cmd.ProcessState.ExitCode()
}

// IsReady asks the process once whether it serves.
func (s *Store) IsReady() bool {
	response, err := s.httpClient(time.Second).Get(s.Endpoint + "/readyz")
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Running says whether the process has not ended yet.
func (s *Store) Running() bool {
	return s.running()
}

// Log returns everything that the store has written to its standard output and error so far.
func (s *Store) Log() string {
	s.t.Helper()
	text, err := os.ReadFile(s.logPath)
	if err != nil {
		s.t.Fatalf("reading the log of %s: %v", s.kind, err)
	}
	return string(text)
}

func prepare(t testing.TB, s *Store) *Store {
	t.Helper()
	s.t = t
	s.logPath = filepath.Join(t.TempDir(), s.kind+".log")
	t.Cleanup(s.cleanUp)
	return s
}

func start(t testing.TB, s *Store) *Store {
	t.Helper()
	if end := s.TryRestart(); end != nil {
		t.Fatalf("%s ended before it was ready: exit code %d", s.kind, end.ExitCode)
	}
	return s
}

// Spawn starts the process, which must not run, and does not wait for it to be ready.
func (s *Store) Spawn() {
	s.t.Helper()
	log, err := os.OpenFile(s.logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		s.t.Fatalf("opening the log of %s: %v", s.kind, err)
	}
	defer log.Close()
	cmd := exec.Command(s.binary, s.args...)
	cmd.Dir = filepath.Dir(s.logPath)
	cmd.Env = append(cleanEnviron(), s.env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := startTied(cmd); err != nil {
		s.t.Fatalf("starting %s: %v", s.binary, err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	s.cmd, s.exited, s.Pid = cmd, exited, cmd.Process.Pid
}

// cleanEnviron leaves out what would configure a store: both read variables with their name in front.
func cleanEnviron() []string {
	return slices.DeleteFunc(os.Environ(), func(pair string) bool {
		return strings.HasPrefix(pair, "ORLOP_") || strings.HasPrefix(pair, "ETCD_")
	})
}

// awaitReady returns false when the process ended instead of becoming ready.
func (s *Store) awaitReady() bool {
	s.t.Helper()
	client := s.httpClient(5 * time.Second)
	last := errors.New("never asked")
	for deadline := time.Now().Add(readyDeadline); time.Now().Before(deadline); {
		select {
		case <-s.exited:
			return false
		case <-time.After(pollInterval):
		}
		response, err := client.Get(s.Endpoint + "/readyz")
		if err != nil {
			last = err
			continue
		}
		_ = response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return true
		}
		last = fmt.Errorf("GET /readyz answered %s", response.Status)
	}
	s.t.Fatalf("%s was not ready within %v: %v", s.kind, readyDeadline, last)
	return false
}

// httpClient returns a client without connections that stay: each process is another server.
func (s *Store) httpClient(timeout time.Duration) *http.Client {
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: s.TLS.Clone()}
	return &http.Client{Timeout: timeout, Transport: transport}
}

func (s *Store) running() bool {
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

func (s *Store) signal(signal os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		s.t.Fatalf("sending %v to %s (pid %d): %v", signal, s.kind, s.Pid, err)
	}
}

func (s *Store) awaitExit(limit time.Duration) {
	s.t.Helper()
	select {
	case <-s.exited:
	case <-time.After(limit):
		s.t.Fatalf("%s (pid %d) still runs %v after it was told to end", s.kind, s.Pid, limit)
	}
}

// cleanUp runs when the test is over, whatever happened in it.
func (s *Store) cleanUp() {
	if s.cmd != nil && s.running() {
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
	if s.t.Failed() {
		s.t.Logf("end of the log of %s (%s %s):\n%s", s.kind, s.binary, strings.Join(s.args, " "), tail(s.logPath))
	}
}

func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(text) > logTailBytes {
		text = append([]byte("…"), text[len(text)-logTailBytes:]...)
	}
	return string(text)
}
