package etcdctl

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/orlop/orlop/tests/harness"
)

const exitDeadline = 30 * time.Second

// process is an etcdctl that runs until it is told to stop.
type process struct {
	t      *testing.T
	store  *harness.Store
	cmd    *exec.Cmd
	stdout *syncBuffer
	stdin  *os.File
	exited chan struct{}
}

// syncBuffer collects what a process writes, while the test looks at it.
type syncBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(data []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(data)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func spawn(t *testing.T, store *harness.Store, args ...string) *process {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, store: store, stdout: &syncBuffer{}, stdin: write, exited: make(chan struct{})}
	p.cmd = exec.Command(harness.Binary(t, harness.EtcdctlBin), append([]string{"--endpoints", store.Addr()}, args...)...)
	p.cmd.Dir = t.TempDir()
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = read, p.stdout, p.stdout
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = read.Close()
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = write.Close()
		_ = p.cmd.Process.Kill()
		<-p.exited
	})
	return p
}

// seen waits until the output holds a text.
func (p *process) seen(text string) {
	p.t.Helper()
	p.eventually(func(output string) bool { return strings.Contains(output, text) })
}

func (p *process) eventually(condition func(output string) bool) {
	p.t.Helper()
	defer func() {
		if p.t.Failed() {
			p.t.Logf("the output of %q:\n%s", p.cmd.Args, p.stdout)
		}
	}()
	harness.Eventually(p.t, "what was expected of the output", func() bool { return condition(p.output()) })
}

// lines waits until the output has at least n lines and returns it.
func (p *process) lines(n int) string {
	p.t.Helper()
	p.eventually(func(text string) bool { return strings.Count(text, "\n") >= n })
	return p.output()
}

func (p *process) output() string {
	return normalise(p.store, "", p.stdout.String())
}

// interrupt ends the process as Ctrl-C does and waits for it.
func (p *process) interrupt() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		p.t.Fatal(err)
	}
	p.wait()
}

func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(exitDeadline):
		p.t.Fatalf("etcdctl still runs after %v; its output: %s", exitDeadline, p.stdout)
	}
	return p.cmd.ProcessState.ExitCode()
}
