package testserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// A server starts in well under a second; the rest is room for a machine that is busy with other tests.
	readyDeadline = 60 * time.Second
	// Orlop promises to be gone 5 s after SIGTERM; the rest is room for a busy machine.
	stopDeadline = 30 * time.Second
	pollInterval = 10 * time.Millisecond
	logTailBytes = 8 << 10

	// Below the ports that kernels hand out for outgoing connections, so that no client can sit on a port between the
	// moment it was found free and the moment the server binds it.
	portFirst    = 12000
	portLast     = 31998
	portAttempts = 1000
)

// freePort returns a loopback port that no other test gets, in this process or in another: ports come in pairs, and the
// odd one above the returned one stays bound until the test ends as the proof that the pair is taken.
func freePort(t testing.TB) int {
	t.Helper()
	for range portAttempts {
		port := portFirst + 2*rand.IntN((portLast-portFirst)/2)
		claim, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+1))
		if err != nil {
			continue
		}
		probe, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			_ = claim.Close()
			continue
		}
		_ = probe.Close()
		t.Cleanup(func() { _ = claim.Close() })
		return port
	}
	t.Fatalf("no free loopback port between %d and %d in %d attempts", portFirst, portLast, portAttempts)
	return 0
}

// server is a running process and the end of it.
type server struct {
	cmd     *exec.Cmd
	exited  chan struct{}
	logPath string
}

// startServer returns when the process serves, and stops it when the test ends.
func startServer(t testing.TB, binary string, args []string, endpoint url.URL, logPath string) {
	t.Helper()
	log, err := os.Create(logPath)
	if err != nil {
		t.Fatalf("creating the server's log: %v", err)
	}
	defer log.Close()
	cmd := exec.Command(binary, args...)
	cmd.Env = cleanEnviron()
	cmd.Stdout, cmd.Stderr = log, log
	if err := startTied(cmd); err != nil {
		t.Fatalf("starting %s: %v", binary, err)
	}
	s := &server{cmd: cmd, exited: make(chan struct{}), logPath: logPath}
	go func() {
		_ = cmd.Wait()
		close(s.exited)
	}()
	t.Cleanup(func() { s.stop(t) })
	if err := s.awaitReady(endpoint); err != nil {
		t.Fatalf("%s is not ready to serve: %v", cmd, err)
	}
}

func (s *server) awaitReady(endpoint url.URL) error {
	client := &http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	last := errors.New("never asked")
	for deadline := time.Now().Add(readyDeadline); time.Now().Before(deadline); time.Sleep(pollInterval) {
		if s.hasExited() {
			return errors.New("it ended")
		}
		response, err := client.Get(endpoint.JoinPath("readyz").String())
		if err != nil {
			last = err
			continue
		}
		_ = response.Body.Close()
		if response.StatusCode == http.StatusOK {
			return nil
		}
		last = fmt.Errorf("GET /readyz answered %s", response.Status)
	}
	return fmt.Errorf("not within %v: %w", readyDeadline, last)
}

// stop fails the test when the server had ended before or does not end as it should.
func (s *server) stop(t testing.TB) {
	if s.hasExited() {
		t.Errorf("the server ended during the test: %s", s.cmd.ProcessState)
	} else {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.exited:
			if s.cmd.ProcessState.ExitCode() != 0 {
				t.Errorf("the server ended after SIGTERM with %q, expected exit code 0", s.cmd.ProcessState)
			}
		case <-time.After(stopDeadline):
			t.Errorf("the server (pid %d) still runs %v after SIGTERM", s.cmd.Process.Pid, stopDeadline)
			_ = s.cmd.Process.Kill()
			<-s.exited
		}
	}
	if t.Failed() {
		t.Logf("end of the log of %s:\n%s", s.cmd, tail(s.logPath))
	}
}

func (s *server) hasExited() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// cleanEnviron leaves out what would configure the server, which reads variables with its name in front.
func cleanEnviron() []string {
	return slices.DeleteFunc(os.Environ(), func(pair string) bool { return strings.HasPrefix(pair, "ORLOP_") })
}

func tail(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-logTailBytes):])
}
