package robustness

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/orlop/orlop/tests/harness"
)

// server is the store that faults strike. One of them at a time may touch the process: a fault, or who reads its log.
type server struct {
	*harness.Store
	// process is held by whoever stops, ends or starts the process.
	process sync.Mutex
	log     *RevisionLog
	orlop   string
	// links is where the data directory is looked at under other names, without its lock.
	links string
	// printed is what `orlop log` has said last.
	printed []byte
}

func startServer(t testing.TB, opts ...harness.Option) *server {
	t.Helper()
	return &server{
		Store: harness.StartOrlop(t, append([]harness.Option{harness.Flags("--watch-progress-notify-interval", "200ms")}, opts...)...),
		log:   NewRevisionLog(),
		orlop: harness.Binary(t, harness.OrlopBin),
		links: t.TempDir(),
	}
}

// Collect reads the log while the process stands still, so that what a compaction removes afterwards is known.
func (s *server) Collect() error {
	s.process.Lock()
	defer s.process.Unlock()
	if !s.Running() {
		return s.collect()
	}
	err := s.TrySignal(syscall.SIGSTOP)
	if err == nil {
		defer func() { _ = s.TrySignal(syscall.SIGCONT) }()
		err = s.awaitStopped()
	}
	// A process that has ended by itself meanwhile stands still as well.
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return s.collect()
}

// collect reads the log of a process that does not run. The files are seen through links, as the directory itself is
// locked by a process that only stands still.
func (s *server) collect() error {
	dir := filepath.Join(s.links, "data")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.DataDir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == "LOCK" {
			continue
		}
		if err := os.Symlink(filepath.Join(s.DataDir, entry.Name()), filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	command := exec.Command(s.orlop, "log", "--data-dir", dir)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("`orlop log`: %w: %s", err, stderr.String())
	}
	s.printed = stdout.Bytes()
	return s.log.Add(s.printed)
}

// awaitStopped returns when no thread of the process runs any more; one that waits for the disk takes a moment.
func (s *server) awaitStopped() error {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if !s.Running() {
			return os.ErrProcessDone
		}
		stopped, err := isStopped(s.Pid)
		if err != nil || stopped {
			return err
		}
	}
	return fmt.Errorf("process %d does not stand still after SIGSTOP", s.Pid)
}

func isStopped(pid int) (bool, error) {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(stats) == 0 {
		// It has just ended, as whoever waits for it will hear.
		return false, err
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			// The thread has ended.
			continue
		}
		// The name before the state is in parentheses and may hold anything.
		_, rest, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')'):]), " ")
		if !strings.HasPrefix(rest, "T") && !strings.HasPrefix(rest, "Z") {
			return false, nil
		}
	}
	return true, nil
}
