package apiserver

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const (
	suitePackages = "./pkg/storage/etcd3/..."
	// The end of a failed test's output says why it failed; watch tests log every event.
	outputMax = 64 << 10
)

// result is what came of the suite. Tests are named without their package, which is the same for all that start a
// server.
type result struct {
	passed  int
	failed  []string
	skipped []string
	ran     map[string]bool
	output  map[string]string
	took    time.Duration
}

// event is a line of `go test -json`, see `go doc test2json`.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
}

// name says what the event is about: a test, or a package when it is about none.
func (e event) name() string {
	switch {
	case e.Test != "":
		return e.Test
	case e.Package != "":
		return e.Package
	default:
		// A package with its tests is reported as "path [path.test]" when it does not build.
		return e.ImportPath
	}
}

// runSuite runs the tests in the copy with the requirements that the release itself has, not those of a workspace.
func runSuite(t *testing.T, copied string, environment map[string]string) *result {
	t.Helper()
	begin := time.Now()
	command := exec.Command("go", "test", "-json", "-count=1", "-p=1", "-timeout="+timeLimit(t).String(), suitePackages)
	command.Dir = copied
	command.Env = append(os.Environ(), "GOWORK=off")
	for name, value := range environment {
		command.Env = append(command.Env, name+"="+value)
	}
	var stderr bytes.Buffer
	command.Stderr = &stderr
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatalf("starting %s: %v", command, err)
	}
	run := &result{ran: map[string]bool{}, output: map[string]string{}}
	readErr := run.read(stdout)
	// What could not be read would otherwise block the command for ever.
	_, _ = io.Copy(io.Discard, stdout)
	err = command.Wait()
	if readErr != nil {
		t.Errorf("reading the output of %s: %v", command, readErr)
	}
	if err != nil {
		t.Errorf("%s in %s: %v\n%s", command, copied, err, &stderr)
	}
	run.took = time.Since(begin).Round(time.Second)
	return run
}

// timeLimit ends the suite before this test would be ended, which would leave the suite running.
func timeLimit(t *testing.T) time.Duration {
	deadline, ok := t.Deadline()
	if !ok {
		return suiteTimeout
	}
	left := time.Until(deadline) - closingTime
	if left <= 0 {
		t.Fatalf("the tests' own -timeout leaves no time for the suite; it takes a few minutes")
	}
	return min(suiteTimeout, left.Round(time.Second))
}

func (r *result) read(stdout io.Reader) error {
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if err := json.Unmarshal(line, &e); err != nil {
				return fmt.Errorf("%q: %w", line, err)
			}
			r.add(e)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *result) add(e event) {
	name := e.name()
	switch e.Action {
	case "output", "build-output":
		text := r.output[name] + e.Output
		r.output[name] = text[max(0, len(text)-outputMax):]
	case "run":
		r.ran[name] = true
	case "pass":
		if e.Test != "" {
			r.passed++
			// Progress for a reader at a terminal: the suite takes minutes.
			if !strings.Contains(name, "/") {
				fmt.Println("passed", name)
			}
		}
		delete(r.output, name)
	case "fail", "build-fail":
		r.failed = append(r.failed, name)
		fmt.Println("FAILED", name)
	case "skip":
		// A package without tests is "skipped" too.
		if e.Test != "" {
			r.skipped = append(r.skipped, name)
		}
		delete(r.output, name)
	}
}
