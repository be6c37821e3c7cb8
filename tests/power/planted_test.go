package power

import (
	"errors"
	"testing"

	"github.com/orlop/orlop/tests/harness"
	"github.com/orlop/orlop/tests/power/ledger"
	"github.com/orlop/orlop/tests/power/powerfs"
)

// TestAnAcknowledgementBeforeTheFsyncIsFound shows that these tests can fail: an Orlop that answers before its fsync
// loses writes at the first cut, and the ledger names them.
func TestAnAcknowledgementBeforeTheFsyncIsFound(t *testing.T) {
	m := newMachine(t, harness.NewOrlop, harness.From(harness.OrlopPlantedBin), harness.Env("PLANTED_BUG=ack-before-fsync"))
	m.mustBoot()
	m.check()
	load := m.load(nil)
	load.wait(200)
	m.cutPower(powerfs.Lost)
	load.end()
	m.mustBoot()
	problems := m.judge()
	lost := 0
	for _, problem := range problems {
		if errors.Is(problem, ledger.ErrLost) {
			lost++
		}
	}
	if lost == 0 {
		t.Fatalf("no lost write was found, but: %v", problems)
	}
	t.Logf("found, as it has to be: %v", problems[0])
}

// TestTheSameBinaryWithoutTheBugLosesNothing shows that it was the bug that the other test found.
func TestTheSameBinaryWithoutTheBugLosesNothing(t *testing.T) {
	m := newMachine(t, harness.NewOrlop, harness.From(harness.OrlopPlantedBin))
	m.mustBoot()
	m.check()
	load := m.load(nil)
	load.wait(200)
	m.cutPower(powerfs.Lost)
	load.end()
	m.mustBoot()
	m.check()
}
