package power

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/orlop/orlop/tests/harness"
	"github.com/orlop/orlop/tests/power/ledger"
	"github.com/orlop/orlop/tests/power/powerfs"
)

const (
	// No single step of these tests takes longer, on a busy machine either: what does, hangs.
	deadline = 60 * time.Second
	poll     = 5 * time.Millisecond
)

// machine is a computer that can lose power: a disk, a file system on it, and a store whose data is there.
type machine struct {
	*testing.T
	random *rand.Rand
	disk   *powerfs.Disk
	dir    string
	fs     *powerfs.Mounted
	store  *harness.Store
	ledger *ledger.Ledger
	cuts   int
}

// start prepares a store on a data directory.
type prepare func(t testing.TB, opts ...harness.Option) *harness.Store

// newMachine returns a machine with an empty disk; the store is not started.
func newMachine(t *testing.T, prepare prepare, opts ...harness.Option) *machine {
	t.Helper()
	seed := seedOf(t)
	t.Logf("ORLOP_POWER_SEED=%d", seed)
	m := &machine{
		T: t, random: rand.New(rand.NewPCG(seed, 1)), disk: powerfs.New(), dir: t.TempDir(), ledger: ledger.New(),
	}
	m.store = prepare(t, append(opts, harness.DataDir(filepath.Join(m.dir, "data")))...)
	m.mount()
	t.Cleanup(m.cleanUp)
	return m
}

func seedOf(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("ORLOP_POWER_SEED")
	if text == "" {
		return rand.Uint64N(1 << 32)
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("ORLOP_POWER_SEED=%s is not a number", text)
	}
	return seed
}

// rounds is how many times as much is to be tried as by default.
func rounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv("ORLOP_POWER_ROUNDS")
	if text == "" {
		return 1
	}
	rounds, err := strconv.Atoi(text)
	if err != nil || rounds < 1 {
		t.Fatalf("ORLOP_POWER_ROUNDS=%s is not a number above 0", text)
	}
	return rounds
}

func (m *machine) mount() {
	m.Helper()
	fs, err := m.disk.Mount(m.dir)
	if err != nil {
		m.Fatal(err)
	}
	m.fs = fs
}

func (m *machine) unmount() {
	m.Helper()
	if m.fs == nil {
		return
	}
	fs := m.fs
	m.fs = nil
	if err := fs.Unmount(); err != nil {
		m.Fatal(err)
	}
}

// cleanUp runs before the harness ends the process, which could not end while it waits for the disk.
func (m *machine) cleanUp() {
	if m.Failed() {
		m.Logf("the disk after %d cuts:\n%s", m.cuts, m.disk.Describe())
	}
	m.kill()
	m.unmount()
}

// isRunning says whether the process was started and is not gone.
func (m *machine) isRunning() bool {
	if m.store.Exited() == nil {
		return false
	}
	select {
	case <-m.store.Exited():
		return false
	default:
		return true
	}
}

// kill ends the process without giving it another instruction: what it waits for on the disk is answered only when the
// signal is on its way.
func (m *machine) kill() {
	m.disk.Freeze()
	if m.isRunning() {
		_ = syscall.Kill(m.store.Pid, syscall.SIGKILL)
	}
	m.disk.Release()
	if m.store.Exited() != nil {
		m.store.AwaitExit()
	}
}

// cutPower cuts the power now, if it was not cut before, and brings it back with what is left.
func (m *machine) cutPower(fate powerfs.Fate) {
	m.Helper()
	m.kill()
	m.unmount()
	m.cuts++
	m.replaceDisk(m.disk.Cut(fate, m.random.Uint64()))
}

// replaceDisk puts another disk into the machine, on which nothing runs yet.
func (m *machine) replaceDisk(disk *powerfs.Disk) {
	m.Helper()
	m.unmount()
	m.disk = disk
	m.mount()
}

// boot starts the store, and says whether it became ready before the power went; a cut that was ordered for the start is
// then taken back.
func (m *machine) boot() bool {
	m.Helper()
	ready, ended := m.tryBoot()
	if ended {
		m.Fatalf("the store refuses to start after cut %d:\n%s", m.cuts, m.store.Log())
	}
	return ready
}

// tryBoot is boot, but for that the store may end.
func (m *machine) tryBoot() (ready, ended bool) {
	m.Helper()
	m.store.Spawn()
	timeout := time.After(deadline)
	for !m.store.IsReady() {
		select {
		case <-m.disk.Frozen():
			return false, false
		case <-m.store.Exited():
			return false, true
		case <-timeout:
			m.Fatalf("the store is not ready %v after its start", deadline)
		case <-time.After(poll):
		}
	}
	return m.disk.KeepPower(), false
}

// mustBoot starts the store while nobody cuts the power.
func (m *machine) mustBoot() {
	m.Helper()
	if !m.boot() {
		m.Fatal("the power was cut at a start for which that was not ordered")
	}
}

// awaitCut waits for a power cut that was ordered.
func (m *machine) awaitCut() {
	m.Helper()
	select {
	case <-m.disk.Frozen():
	case <-m.store.Exited():
		m.Fatalf("the store ended by itself:\n%s", m.store.Log())
	case <-time.After(deadline):
		m.Fatalf("no power cut within %v: nothing changes on the disk", deadline)
	}
}

// check judges what the store shows.
func (m *machine) check() {
	m.Helper()
	if problems := m.judge(); len(problems) > 0 {
		for _, problem := range problems {
			m.Error(problem)
		}
		m.Fatalf("after cut %d", m.cuts)
	}
}

func (m *machine) judge() []error {
	m.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	c := m.connect()
	defer c.close()
	seen, err := c.observe(ctx, m.ledger)
	if err != nil {
		return []error{fmt.Errorf("looking at the store: %w", err)}
	}
	if problems := m.ledger.Judge(seen); len(problems) > 0 {
		return problems
	}
	return c.past(ctx, m.ledger, seen, m.random)
}
