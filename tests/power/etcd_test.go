package power

import (
	"testing"

	"github.com/orlop/orlop/tests/harness"
)

// cutsOfEtcd are few: a start of etcd takes a second.
const cutsOfEtcd = 6

// TestEtcdSurvivesTheSameCuts shows that the disk asks for nothing that a store cannot do.
//
// Its first life is not cut: etcd does not fsync the directories in which it founds itself, and relies on the kernel to
// write them within half a minute.
func TestEtcdSurvivesTheSameCuts(t *testing.T) {
	m := newMachine(t, harness.NewEtcd)
	m.mustBoot()
	m.disk.SyncAll()
	for m.cuts < cutsOfEtcd*rounds(t) {
		m.check()
		m.cutUnderLoad(nil)
		m.mustBoot()
	}
	m.check()
	t.Logf("%d power cuts, %d answers", m.cuts, m.ledger.Answers())
}
