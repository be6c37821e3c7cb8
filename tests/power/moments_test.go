package power

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/orlop/orlop/tests/harness"
	"github.com/orlop/orlop/tests/power/powerfs"
)

// A store that is told to end finishes its calls and closes its files: the power goes on the way, or just after.
func TestACutWhileItDrains(t *testing.T) {
	m := newMachine(t, harness.NewOrlop)
	for operation := range uint64(10 * rounds(t)) {
		m.mustBoot()
		m.check()
		load := m.load(nil)
		load.wait(40)
		m.disk.FreezeAfter(operation % 12)
		_ = syscall.Kill(m.store.Pid, syscall.SIGTERM)
		select {
		case <-m.disk.Frozen():
		case <-m.store.Exited():
			if code := m.store.AwaitExit(); code != 0 {
				t.Fatalf("exit code %d after SIGTERM:\n%s", code, m.store.Log())
			}
		}
		m.cutPower(powerfs.AnyFate(m.random))
		load.end()
	}
	m.mustBoot()
	m.check()
}

// A while after the last write the engine notes, without an fsync, that all before it is durable.
func TestACutOfAnIdleStore(t *testing.T) {
	m := newMachine(t, harness.NewOrlop)
	for range 4 * rounds(t) {
		m.mustBoot()
		m.check()
		before := m.disk.Count(powerfs.Write)
		m.put("last", "write")
		eventually(t, "the store notes that it is idle", func() bool { return m.disk.Count(powerfs.Write) >= before+2 })
		m.cutPower(powerfs.AnyFate(m.random))
	}
	m.mustBoot()
	m.check()
}

// rewrite compacts all that is known and has the segments rewritten that hold what is not needed any more.
func (m *machine) rewrite(done chan<- error) {
	c := m.connect()
	defer c.close()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	compacted := m.ledger.Compact(m.ledger.KnownThrough())
	_, err := c.kv.Compact(ctx, &etcdserverpb.CompactionRequest{Revision: m.ledger.KnownThrough(), Physical: true})
	if err == nil {
		compacted()
		_, err = c.admin.Defragment(ctx, &etcdserverpb.DefragmentRequest{})
	}
	done <- err
}

// cutsOfARewrite are tried in a plain run, spread over all of its operations.
const cutsOfARewrite = 20

// Compaction deletes records, what is left of their segment is copied, and its file goes: at no moment does a cut take
// anything along, and what was compacted stays so.
func TestACutWhileSegmentsAreRewritten(t *testing.T) {
	m := newMachine(t, harness.NewOrlop)
	m.mustBoot()
	m.check()
	load := m.load(nil)
	load.wait(1500)
	load.end()
	m.check()
	m.kill()
	base, notes := m.disk.Copy(), m.ledger
	run := func(operation uint64) (changes uint64, removed bool) {
		m.replaceDisk(base.Copy())
		m.ledger = notes.Copy()
		m.mustBoot()
		before, removals := m.disk.Changes(), m.disk.Count(powerfs.Remove)
		m.disk.FreezeAfter(operation)
		done := make(chan error, 1)
		go m.rewrite(done)
		select {
		case <-m.disk.Frozen():
			m.cutPower(powerfs.AnyFate(m.random))
			<-done
		case err := <-done:
			if err != nil {
				t.Fatalf("rewriting without a cut: %v", err)
			}
			changes, removed = m.disk.Changes()-before, m.disk.Count(powerfs.Remove) > removals
			m.cutPower(powerfs.Lost)
		}
		m.mustBoot()
		m.check()
		m.kill()
		return changes, removed
	}
	all, removed := run(1 << 60)
	if !removed {
		t.Fatalf("nothing was rewritten: no file was removed in %d operations", all)
	}
	cuts := uint64(cutsOfARewrite * rounds(t))
	for i := range cuts {
		run(i * all / cuts)
	}
	t.Logf("%d cuts within %d operations", cuts, all)
}

// Large values fill segments within seconds, and they are rewritten all the time.
func TestCutsWhileSegmentsFillAndAreRewritten(t *testing.T) {
	m := newMachine(t, harness.NewOrlop)
	for range 6 * rounds(t) {
		m.mustBoot()
		m.check()
		load := m.load(func(l *load) { l.isLarge, l.defragments = true, true })
		m.disk.FreezeAfter(200 + m.random.Uint64N(1200))
		m.awaitCut()
		m.cutPower(powerfs.AnyFate(m.random))
		load.end()
	}
	m.mustBoot()
	m.check()
	t.Logf("%d answers, %d MiB on the disk", m.ledger.Answers(), m.disk.Used()>>20)
}

// smallDisk has room for the reserve of 16 MiB, and for two or three segments.
const smallDisk = 40 << 20

// needsSpace is what a store says that has used up its reserve: nothing can be written then until it has more space.
const needsSpace = "its reserve is used up; give the data directory more space"

// refusesData is what a store says that has no reserve: it takes new data when there is one again.
const refusesData = "its reserve is in use or could not be set aside"

// bootOnSmallDisk starts the store. One that has used up its reserve may ask for more space, and gets it.
func (m *machine) bootOnSmallDisk() {
	m.Helper()
	m.disk.SetCapacity(smallDisk)
	before := len(m.logSoFar())
	if ready, ended := m.tryBoot(); ready || !ended {
		return
	}
	if said := m.logSoFar()[before:]; !strings.Contains(said, needsSpace) {
		m.Fatalf("the store refuses to start after cut %d:\n%s", m.cuts, said)
	}
	m.giveSpace()
	m.mustBoot()
}

func (m *machine) giveSpace() {
	m.Helper()
	m.Logf("the store needs more space after cut %d", m.cuts)
	// Beside what it holds: a store that was given space before may have filled that, too.
	m.disk.SetCapacity(m.disk.Used() + smallDisk)
}

// standsStill is how long nothing changes on a disk whose space is used up: many times as long as the store waits before
// it looks for space again.
const standsStill = 10 * time.Second

// awaitCutOnSmallDisk waits for a power cut that was ordered. A store that asks for more space meanwhile gets it, and so
// does one that refuses new data and finds nothing any more that it could free: without, nothing changes on the disk.
func (m *machine) awaitCutOnSmallDisk(said int) {
	m.Helper()
	changes, since, isStill := m.disk.Changes(), time.Now(), false
	eventually(m.T, "the power is cut, or the store needs space", func() bool {
		select {
		case <-m.disk.Frozen():
			return true
		case <-m.store.Exited():
			return true
		default:
		}
		if now := m.disk.Changes(); now != changes {
			changes, since = now, time.Now()
		}
		isStill = time.Since(since) >= standsStill && strings.Contains(m.logSoFar()[said:], refusesData)
		return isStill || strings.Contains(m.logSoFar()[said:], needsSpace)
	})
	if isStill {
		m.Logf("the store stands still:\n%s", m.disk.Describe())
	}
	if isStill || strings.Contains(m.logSoFar()[said:], needsSpace) {
		m.giveSpace()
	}
	m.awaitCut()
}

func (m *machine) logSoFar() string {
	if m.store.Exited() == nil {
		return ""
	}
	return m.store.Log()
}

// On a disk with hardly any space segments are smaller, puts are refused, deletions go on with what was set aside for
// them, and rewriting makes room. The power goes in the middle of all that.
func TestCutsOnADiskThatIsNearlyFull(t *testing.T) {
	m := newMachine(t, harness.NewOrlop)
	full := 0
	for range 6 * rounds(t) {
		m.bootOnSmallDisk()
		m.check()
		said := len(m.logSoFar())
		load := m.load(func(l *load) { l.isLarge, l.defragments = true, true })
		m.disk.FreezeAfter(300 + m.random.Uint64N(600))
		m.awaitCutOnSmallDisk(said)
		m.cutPower(powerfs.AnyFate(m.random))
		load.end()
		full += load.full
	}
	m.bootOnSmallDisk()
	m.check()
	if full == 0 {
		t.Fatal("the disk was never full")
	}
	t.Logf("%d answers, %d of them that the disk is full", m.ledger.Answers(), full)
}
