package harness

import (
	"bytes"
	"context"
	"os/exec"
	"testing"
	"time"
)

// Long enough for any command of these tests on a busy machine; a command that is still running then hangs.
const runDeadline = 60 * time.Second

// Result is what a command that ran to its end left behind.
type Result struct {
	// ExitCode is -1 when a signal ended the command.
	ExitCode int
	Stdout   string
	Stderr   string
}

// Output returns both streams, standard error last.
func (r Result) Output() string {
	return r.Stdout + r.Stderr
}

// Run runs a command to its end and fails the test when that end does not come.
func Run(t testing.TB, stdin string, binary string, args ...string) Result {
	t.Helper()
	return RunEnv(t, nil, stdin, binary, args...)
}

// RunEnv is Run with NAME=value pairs added to the environment.
func RunEnv(t testing.TB, env []string, stdin string, binary string, args ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runDeadline)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(cleanEnviron(), env...)
	cmd.Stdin = bytes.NewBufferString(stdin)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		t.Fatalf("%s %q did not end within %v.\nstdout: %s\nstderr: %s", binary, args, runDeadline, &stdout, &stderr)
	}
	if cmd.ProcessState == nil {
		t.Fatalf("running %s: %v", binary, err)
	}
	return Result{ExitCode: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
}

// Eventually polls until the condition holds and fails the test when it does not within a generous deadline.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(readyDeadline); time.Now().Before(deadline); time.Sleep(pollInterval) {
		if condition() {
			return
		}
	}
	t.Fatalf("still not true after %v: %s", readyDeadline, what)
}
