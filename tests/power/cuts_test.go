package power

import (
	"testing"
	"time"

	"github.com/orlop/orlop/tests/harness"
	"github.com/orlop/orlop/tests/power/powerfs"
)

// cutsPerRun is how many times the power goes in a plain run of the first test.
const cutsPerRun = 30

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(poll) {
		if condition() {
			return
		}
	}
	t.Fatalf("still not true after %v: %s", deadline, what)
}

// cutUnderLoad lets many clients write, cuts the power at a random operation of the disk, and brings it back.
func (m *machine) cutUnderLoad(change func(*load)) {
	m.Helper()
	load := m.load(change)
	m.disk.FreezeAfter(m.random.Uint64N(600))
	m.awaitCut()
	m.cutPower(powerfs.AnyFate(m.random))
	load.end()
}

// Many clients put, delete, swap, grant, revoke and compact while the power goes again and again, now and then also
// while the store comes back from the last time.
func TestAcknowledgedWritesSurviveEveryPowerCut(t *testing.T) {
	m := newMachine(t, harness.NewOrlop)
	for m.cuts < cutsPerRun*rounds(t) {
		if m.random.IntN(4) == 0 {
			m.disk.FreezeAfter(m.random.Uint64N(8))
		}
		if !m.boot() {
			m.cutPower(powerfs.AnyFate(m.random))
			continue
		}
		m.check()
		m.cutUnderLoad(nil)
	}
	m.mustBoot()
	m.check()
	t.Logf("%d power cuts, %d answers", m.cuts, m.ledger.Answers())
}
