package etcdctl

import (
	"strings"
	"testing"

	"github.com/orlop/orlop/tests/harness"
)

// etcdctl's own check: 150 writes a second for a minute, then everything is deleted. The rate is asserted; how slow
// single requests were depends on the machine and is printed.
func TestCheckPerf(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	t.Parallel()
	store := harness.StartOrlop(t)
	p := spawn(t, store, "check", "perf", "--load", "s")
	<-p.exited
	text := p.stdout.String()
	for _, want := range []string{"PASS: Throughput is", "Slowest request took", "Stddev is"} {
		if !strings.Contains(text, want) {
			t.Errorf("the check does not say %q", want)
		}
	}
	// Before the verdict comes a progress bar.
	t.Log(text[max(0, strings.Index(text, ": Throughput is")-len("PASS")):])
}
