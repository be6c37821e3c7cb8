package power

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/orlop/orlop/tests/harness"
	"github.com/orlop/orlop/tests/power/powerfs"
)

// textPerhaps is what etcd's clients know as "it may have happened".
const textPerhaps = "etcdserver: request timed out"

// toldPerhaps wants every writer to have ended with an error that leaves open whether its write happened, and says whether
// one was told so by the store itself, not by the end of its connection.
func (l *load) toldPerhaps() bool {
	t := l.machine.T
	t.Helper()
	told := 0
	for _, err := range l.ends {
		switch answer := status.Convert(err); {
		case answer.Message() == textPerhaps:
			told++
		case answer.Code() == codes.Unavailable:
		default:
			t.Errorf("a writer was told %v", err)
		}
	}
	if told == 0 {
		t.Logf("nobody was told %q, but: %v", textPerhaps, l.ends)
	}
	return told > 0
}

// What fails may be a batch that nobody waits for, as one of a lease that ends: then it is tried again.
const triesMax = 6

func untilToldPerhaps(t *testing.T, try func(t *testing.T) bool) {
	for range triesMax {
		if try(t) {
			return
		}
	}
	t.Errorf("nobody was told %q in %d tries", textPerhaps, triesMax)
}

// exits waits until the store has ended by itself.
func (m *machine) exits() {
	m.Helper()
	if code := m.store.AwaitExit(); code != 1 {
		m.Fatalf("exit code %d after a failure that it cannot go on from, expected 1:\n%s", code, m.store.Log())
	}
}

// The kernel tells of a failed fsync once, and forgets what it could not write. So the store must end, admit that the
// writes under way may have happened, and come back without believing what it reads from the kernel's cache: the power
// goes after that, too.
func TestAFailedFsyncEndsTheStoreAndLosesNothing(t *testing.T) {
	for _, after := range []int{0, 1, 40} {
		t.Run(fmt.Sprintf("after %d", after), func(t *testing.T) {
			untilToldPerhaps(t, func(t *testing.T) bool {
				m := newMachine(t, harness.NewOrlop)
				m.mustBoot()
				m.check()
				hits := m.disk.Inject(powerfs.Fault{Op: powerfs.Fsync, Suffix: ".seg", After: after, Times: 1, Errno: syscall.EIO})
				load := m.load(nil)
				m.exits()
				load.all.Wait()
				told := load.toldPerhaps()
				if hits() != 1 {
					t.Fatalf("%d fsyncs failed", hits())
				}
				m.mustBoot()
				m.check()
				m.cutUnderLoad(nil)
				m.mustBoot()
				m.check()
				return told
			})
		})
	}
}

// A restart after a failed fsync reads from the cache what is not on the disk: if that is lost, nothing that was
// acknowledged after the restart may be lost with it.
func TestWhatAFailedFsyncLeftInTheCacheTakesNothingAlong(t *testing.T) {
	m := newMachine(t, harness.NewOrlop)
	m.mustBoot()
	m.check()
	m.put("before", "the fault")
	m.disk.Inject(powerfs.Fault{Op: powerfs.Fsync, Suffix: ".seg", Times: 1, Errno: syscall.EIO})
	load := m.load(func(l *load) { l.isLarge = true })
	m.exits()
	load.end()
	m.mustBoot()
	m.check()
	m.put("after", "the restart")
	m.cutPower(powerfs.Lost)
	m.mustBoot()
	m.check()
}

// A write that fails, also in the middle, is refused or may have happened; the store goes on or comes back, and all that
// was acknowledged is there.
func TestAFailedWriteLosesNothing(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC} {
		for _, through := range []int{0, 10, 700} {
			t.Run(fmt.Sprintf("%v after %d bytes", errno, through), func(t *testing.T) {
				m := newMachine(t, harness.NewOrlop)
				m.mustBoot()
				m.check()
				load := m.load(nil)
				load.wait(20)
				hits := m.disk.Inject(powerfs.Fault{Op: powerfs.Write, Suffix: ".seg", Times: 1, Through: through, Errno: errno})
				load.wait(200)
				if hits() == 0 {
					t.Fatal("no write failed")
				}
				load.end()
				m.check()
				m.cutPower(powerfs.AnyFate(m.random))
				m.mustBoot()
				m.check()
			})
		}
	}
}

// A write that failed and cannot be taken back leaves the log in doubt: the store ends.
func TestAFailedWriteThatCannotBeTakenBackEndsTheStore(t *testing.T) {
	untilToldPerhaps(t, func(t *testing.T) bool {
		m := newMachine(t, harness.NewOrlop)
		m.mustBoot()
		m.check()
		load := m.load(nil)
		load.wait(20)
		m.disk.Inject(powerfs.Fault{Op: powerfs.Truncate, Suffix: ".seg", Times: 1000, Errno: syscall.EIO})
		m.disk.Inject(powerfs.Fault{Op: powerfs.Write, Suffix: ".seg", Times: 1, Through: 10, Errno: syscall.EIO})
		m.exits()
		load.all.Wait()
		told := load.toldPerhaps()
		m.disk.Heal()
		m.mustBoot()
		m.check()
		m.cutUnderLoad(nil)
		m.mustBoot()
		m.check()
		return told
	})
}

// A disk that cannot be read is no reason to start without what is on it.
func TestAStoreThatCannotReadItsDataDoesNotStart(t *testing.T) {
	m := newMachine(t, harness.NewOrlop)
	m.mustBoot()
	m.check()
	m.put("a", "1")
	m.cutPower(powerfs.Lost)
	m.disk.Inject(powerfs.Fault{Op: powerfs.Read, Suffix: ".seg", Times: 1000, Errno: syscall.EIO})
	m.store.Spawn()
	m.exits()
	if log := m.store.Log(); !strings.Contains(log, ".seg") || !strings.Contains(log, "Input/output error") {
		t.Fatalf("the file and the error are not named:\n%s", log)
	}
	m.disk.Heal()
	m.mustBoot()
	m.check()
}
