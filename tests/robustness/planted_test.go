package robustness

import (
	"errors"
	"os"
	"strings"
	"testing"

	"go.etcd.io/etcd/tests/v3/robustness/traffic"

	"github.com/orlop/orlop/tests/harness"
)

// Each of these bugs was made on purpose, and the judges have to name it.
func TestABugThatIsPlantedIsFound(t *testing.T) {
	bugs := []struct{ name, told string }{
		{"progress-before-event", "broke Bookmarkable"},
		{"skipped-slot", "of partition 1 is missing"},
	}
	for _, bug := range bugs {
		t.Run(bug.name, func(t *testing.T) {
			err := try(t, scenario{
				traffic: traffic.Kubernetes,
				options: []harness.Option{harness.From(harness.OrlopPlantedBin), harness.Env("PLANTED_BUG=" + bug.name)},
				strike:  killNowAndThen,
			})
			if err == nil || !strings.Contains(err.Error(), bug.told) {
				t.Fatalf("expected to be told that it %q, and was told: %v", bug.told, err)
			}
			if found := new(finding); errors.As(err, &found) {
				if err := os.RemoveAll(found.dir); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
