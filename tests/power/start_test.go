package power

import (
	"context"
	"testing"

	"github.com/orlop/orlop/tests/harness"
	"github.com/orlop/orlop/tests/power/ledger"
	"github.com/orlop/orlop/tests/power/powerfs"
)

// operationsMax is more than a start takes: one that is never done fails the test.
const operationsMax = 200

// put writes a key and has it acknowledged.
func (m *machine) put(key, value string) {
	m.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	c := m.connect()
	defer c.close()
	if err := c.send(ctx, m.ledger, ledger.Write{Puts: []ledger.Put{{Key: key, Value: value}}}); err != nil {
		m.Fatalf("after cut %d: putting %s: %v", m.cuts, key, err)
	}
}

// eachCut tries a power cut at each operation of what a store does between its start and its readiness, beginning from
// the same disk and the same notes: with one fate in a plain run, else with all.
func (m *machine) eachCut(base *powerfs.Disk, notes *ledger.Ledger) {
	m.Helper()
	first := powerfs.AnyFate(m.random)
	for operation := range uint64(operationsMax) {
		for more := range powerfs.Fate(min(rounds(m.T), powerfs.Fates)) {
			fate := (first + powerfs.Fate(operation) + more) % powerfs.Fates
			m.replaceDisk(base.Copy())
			m.ledger = notes.Copy()
			m.disk.FreezeAfter(operation)
			if m.boot() {
				m.Logf("a start changes the disk %d times or less", operation)
				return
			}
			m.cutPower(fate)
			m.mustBoot()
			m.check()
			m.put("after", "the cut")
			m.cutPower(powerfs.Lost)
			m.mustBoot()
			m.check()
			m.kill()
		}
	}
	m.Fatalf("a start is not done after %d operations", operationsMax)
}

// Whatever is left of a store that was being founded, the next start founds it or finds it founded.
func TestACutAtEachOperationOfTheFoundingOfAStore(t *testing.T) {
	m := newMachine(t, harness.NewOrlop)
	m.eachCut(powerfs.New(), ledger.New())
}

// What the first start has shown after a cut stays, although the power goes again while another start recovers it.
func TestACutAtEachOperationOfARecovery(t *testing.T) {
	m := newMachine(t, harness.NewOrlop)
	m.mustBoot()
	m.check()
	load := m.load(nil)
	load.wait(100)
	m.cutPower(powerfs.Garbled)
	load.end()
	base := m.disk.Copy()
	m.mustBoot()
	m.check()
	m.kill()
	m.eachCut(base, m.ledger)
}
