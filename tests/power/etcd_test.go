package power

import (
	"strings"
	"testing"

	"github.com/orlop/orlop/tests/harness"
)

// cutsOfEtcd are few: a start of etcd takes a second.
const cutsOfEtcd = 6

// TestEtcdSurvivesTheSameCuts shows that the disk asks for nothing that a store cannot do.
//
// Its first life is not cut: etcd does not fsync the directories in which it founds itself, and relies on the kernel to
// write them within half a minute.
//
// Nor does it take every tail of its log: of pages that were not fsynced some may be on the disk and others not, and then
// it can refuse to start, with an error of its log. That says something about etcd and nothing about the disk: what it
// shows whenever it starts has to be right.
func TestEtcdSurvivesTheSameCuts(t *testing.T) {
	m := newMachine(t, harness.NewEtcd)
	m.mustBoot()
	m.disk.SyncAll()
	for m.cuts < cutsOfEtcd*rounds(t) {
		m.check()
		m.cutUnderLoad(nil)
		before := len(m.logSoFar())
		if ready, ended := m.tryBoot(); !ready && ended {
			if said := m.logSoFar()[before:]; !strings.Contains(said, "bootstrap failed") {
				m.Fatalf("etcd ends after cut %d:\n%s", m.cuts, said)
			}
			t.Logf("etcd refuses the tail of its log after cut %d", m.cuts)
			return
		}
	}
	m.check()
	t.Logf("%d power cuts, %d answers", m.cuts, m.ledger.Answers())
}
