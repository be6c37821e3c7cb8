package differential

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

const (
	// ORLOP_TEST_SEED repeats a run that failed; without it every run is another one.
	seedVariable = "ORLOP_TEST_SEED"
	// ORLOP_TEST_STEPS is how many operations each stream has, for a longer search.
	stepsVariable = "ORLOP_TEST_STEPS"

	stepsDefault = 2000
	// Each probe starts two stores, which takes about half a second.
	probesMax = 300
)

// Random operations over the whole API to both stores, every answer and every event compared.
func TestRandomOperationsAreAnsweredAlike(t *testing.T) {
	for _, name := range []string{"one", "another"} {
		t.Run(name, func(t *testing.T) { search(t, Setup{}) })
	}
}

func TestTheMemoryEngineAnswersAlike(t *testing.T) {
	search(t, Setup{OrlopFlags: []string{"--engine", "memory"}, Forgetful: true})
}

// What changes something is forwarded, and reads and watches are answered from a copy.
func TestAServerThatDoesNotLeadAnswersAlike(t *testing.T) {
	search(t, Setup{Fleet: true, Forgetful: true})
}

func TestAKeyPrefixIsInvisible(t *testing.T) {
	search(t, Setup{OrlopFlags: []string{"--key-prefix", "tenant-a"}})
}

// With so little memory for recent changes, watches of the past and old revisions are read from the log.
func TestAStoreWithoutHistoryInMemoryAnswersAlike(t *testing.T) {
	search(t, Setup{OrlopFlags: []string{"--history-bytes", "0", "--cache-bytes", "0"}})
}

// Streams that showed a difference once, and the one that is named in the environment.
func TestStoredStreamsAreAnsweredAlike(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if file := os.Getenv(replayVariable); file != "" {
		files = append(files, file)
	}
	if len(files) == 0 {
		t.Fatal("there is no stream in testdata")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			ops, err := DecodeStream(text)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if found, trace := replay(t, Setup{}, ops); found != nil {
				t.Fatal(Report(trace.Ops, found))
			}
		})
	}
}

// search runs a random stream and, if it shows a difference, prints the smallest stream that still does.
func search(t *testing.T, setup Setup) {
	t.Helper()
	t.Parallel()
	seed := rand.Uint64()
	if given := number(t, seedVariable); given != nil {
		seed = *given
	}
	steps := uint64(stepsDefault)
	if given := number(t, stepsVariable); given != nil {
		steps = *given
	}
	t.Logf("%s=%d %s=%d", seedVariable, seed, stepsVariable, steps)
	found, trace := drawn(t, setup, seed, int(steps))
	if found == nil && !t.Failed() {
		t.Logf("%d operations were sent", len(trace.Ops))
	}
	if found == nil {
		return
	}
	t.Errorf("the stores differ in %s after %d operations; looking for a smaller stream\n%s", found.What, len(trace.Ops), found.Op)
	ops, found := Minimise(trace, found, fresh(t, setup), probesMax)
	t.Errorf("%s=%d %s=%d\n%s", seedVariable, seed, stepsVariable, steps, Report(ops, found))
}

// drawn runs a random stream until it ends or the stores differ.
func drawn(t *testing.T, setup Setup, seed uint64, steps int) (found *Difference, trace Trace) {
	t.Run("random", func(t *testing.T) {
		run := Start(t, setup)
		generator := NewGenerator(seed, run)
		for i := 0; i < steps && found == nil; i++ {
			found = run.Step(generator.Next())
		}
		if found == nil {
			found = run.all(generator.Last())
		}
		trace = Trace{Ops: run.Sent, Before: run.Before}
	})
	return found, trace
}

// fresh is the probe that runs each stream on two new stores.
func fresh(t *testing.T, setup Setup) Probe {
	count := 0
	return func(ops []Operation) (found *Difference, trace Trace) {
		count++
		t.Run(fmt.Sprintf("probe %d", count), func(t *testing.T) { found, trace = replay(t, setup, ops) })
		return found, trace
	}
}

func replay(t *testing.T, setup Setup, ops []Operation) (*Difference, Trace) {
	t.Helper()
	run := Start(t, setup)
	found := run.all(ops)
	return found, Trace{Ops: run.Sent, Before: run.Before}
}

func (r *Run) all(ops []Operation) *Difference {
	for _, op := range ops {
		if found := r.Step(op); found != nil {
			return found
		}
	}
	return r.Finish()
}

func number(t *testing.T, variable string) *uint64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return nil
	}
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s: %v", variable, text, err)
	}
	return &value
}
