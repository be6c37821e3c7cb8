package powerfs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// seeds is how many cuts are tried where the outcome is a matter of chance.
const seeds = 200

// mounted is a disk with a file system on it, for one life.
type mounted struct {
	*testing.T
	disk *Disk
	dir  string
	end  func()
}

func mount(t *testing.T, disk *Disk) *mounted {
	t.Helper()
	m := &mounted{T: t, disk: disk, dir: t.TempDir()}
	fs, err := disk.Mount(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	done := false
	m.end = func() {
		if done {
			return
		}
		done = true
		disk.Release()
		if err := fs.Unmount(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(m.end)
	return m
}

func (m *mounted) path(name string) string { return filepath.Join(m.dir, name) }

func (m *mounted) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *mounted) open(name string) *os.File {
	m.Helper()
	file, err := os.OpenFile(m.path(name), os.O_CREATE|os.O_RDWR, 0o600)
	m.must(err)
	m.Cleanup(func() { _ = file.Close() })
	return file
}

// write writes a file and leaves it in the cache.
func (m *mounted) write(name, content string) *os.File {
	m.Helper()
	file := m.open(name)
	_, err := file.WriteAt([]byte(content), 0)
	m.must(err)
	return file
}

func (m *mounted) syncDir(name string) {
	m.Helper()
	dir, err := os.Open(m.path(name))
	m.must(err)
	defer dir.Close()
	m.must(dir.Sync())
}

// after cuts the power and reads a file in the next life; what is not there is "(none)".
func (m *mounted) after(fate Fate, seed uint64, name string) string {
	m.Helper()
	next := m.disk.after(fate, seed)
	node := next.root
	for _, part := range bytes.Split([]byte(name), []byte("/")) {
		if node = node.dir.now[string(part)]; node == nil {
			return "(none)"
		}
	}
	content := make([]byte, node.file.length)
	node.file.readAt(content, 0)
	return string(content)
}

func TestWhatWasNotFsyncedVanishes(t *testing.T) {
	m := mount(t, New())
	file := m.write("a", "first")
	m.must(file.Sync())
	m.syncDir("")
	m.write("a", "other")
	if got := m.after(Lost, 0, "a"); got != "first" {
		t.Fatalf("a second write without fsync: %q", got)
	}
	if got := m.after(Kept, 0, "a"); got != "other" {
		t.Fatalf("what a kill leaves: %q", got)
	}
}

func TestAnFsyncedFileWithoutItsDirectoryVanishes(t *testing.T) {
	m := mount(t, New())
	m.must(m.write("a", "content").Sync())
	if got := m.after(Lost, 0, "a"); got != "(none)" {
		t.Fatalf("its name was not durable: %q", got)
	}
	m.syncDir("")
	if got := m.after(Lost, 0, "a"); got != "content" {
		t.Fatalf("file and directory were fsynced: %q", got)
	}
}

func TestWhatWasFsyncedStaysWhateverElseIsTorn(t *testing.T) {
	m := mount(t, New())
	stable := bytes.Repeat([]byte("durable "), 1024)
	m.must(m.write("a", string(stable)).Sync())
	m.must(unix.Fdatasync(int(m.write("b", "by fdatasync").Fd())))
	m.syncDir("")
	m.write("c", "in the cache")
	m.must(os.Remove(m.path("b")))
	for seed := range uint64(seeds) {
		for _, fate := range []Fate{Lost, Torn, Garbled} {
			if got := m.after(fate, seed, "a"); got != string(stable) {
				t.Fatalf("seed %d, %v: what was fsynced has changed", seed, fate)
			}
			if got := m.after(fate, seed, "b"); got != "by fdatasync" && got != "(none)" {
				t.Fatalf("seed %d, %v: %q", seed, fate, got)
			}
		}
	}
}

func TestARenameWithoutAnFsyncOfTheDirectoryGoesEitherWay(t *testing.T) {
	m := mount(t, New())
	m.must(m.write("a", "old").Sync())
	m.must(m.write("new", "new").Sync())
	m.syncDir("")
	m.must(os.Rename(m.path("new"), m.path("a")))
	found := map[string]int{}
	for seed := range uint64(seeds) {
		found[m.after(Torn, seed, "a")+" "+m.after(Torn, seed, "new")]++
	}
	if found["old new"] == 0 || found["new (none)"] == 0 || len(found) != 2 {
		t.Fatalf("a rename is whole or not there: %v", found)
	}
	for seed := range uint64(seeds) {
		found["garbled "+m.after(Garbled, seed, "a")+" "+m.after(Garbled, seed, "new")]++
	}
	if found["garbled new new"] == 0 || found["garbled old (none)"] == 0 {
		t.Fatalf("without order both names or neither may have made it: %v", found)
	}
	m.syncDir("")
	if got := m.after(Lost, 0, "a"); got != "new" {
		t.Fatalf("after an fsync of the directory: %q", got)
	}
}

func TestARemovalWithoutAnFsyncOfTheDirectoryGoesEitherWay(t *testing.T) {
	m := mount(t, New())
	m.must(m.write("a", "content").Sync())
	m.syncDir("")
	m.must(os.Remove(m.path("a")))
	found := map[string]int{}
	for seed := range uint64(seeds) {
		found[m.after(Torn, seed, "a")]++
	}
	if found["content"] == 0 || found["(none)"] == 0 || len(found) != 2 {
		t.Fatal(found)
	}
}

func TestAWriteIsTornBySectorsInAnyOrder(t *testing.T) {
	m := mount(t, New())
	file := m.write("a", string(bytes.Repeat([]byte{'o'}, 4*SectorBytes)))
	m.must(file.Sync())
	m.syncDir("")
	m.write("a", string(bytes.Repeat([]byte{'n'}, 4*SectorBytes)))
	kinds := map[string]bool{}
	garbage := false
	for seed := range uint64(seeds) {
		kind := ""
		content := m.after(Torn, seed, "a")
		for sector := range 4 {
			part := content[sector*SectorBytes : (sector+1)*SectorBytes]
			if part != string(bytes.Repeat([]byte{part[0]}, SectorBytes)) {
				t.Fatalf("seed %d: a sector is a mixture", seed)
			}
			kind += part[:1]
		}
		kinds[kind] = true
		garbage = garbage || bytes.Trim([]byte(m.after(Garbled, seed, "a")), "on") != nil
	}
	if len(kinds) != 16 {
		t.Fatalf("each of four sectors is old or new by itself, which are 16 outcomes: %v", kinds)
	}
	if !garbage {
		t.Fatal("no sector was ever garbage")
	}
}

func TestASectorMayBeAsItWasInBetween(t *testing.T) {
	m := mount(t, New())
	for _, content := range []string{"1", "2", "3"} {
		m.write("a", content)
	}
	m.syncDir("")
	found := map[string]bool{}
	for seed := range uint64(seeds) {
		found[m.after(Torn, seed, "a")] = true
	}
	for _, want := range []string{"", "\x00", "1", "2", "3"} {
		if !found[want] {
			t.Errorf("%q was never left: %v", want, found)
		}
	}
}

// The kernel must not answer an fsync by itself, nor keep writes back: then the tests of a store would show nothing.
func TestEveryWriteAndFsyncReachesTheDiskAtOnce(t *testing.T) {
	m := mount(t, New())
	file := m.open("a")
	for i := range uint64(50) {
		_, err := file.WriteAt([]byte("x"), int64(i))
		m.must(err)
		if got := m.disk.Count(Write); got != i+1 {
			t.Fatalf("%d writes were seen after %d", got, i+1)
		}
		m.must(file.Sync())
		m.must(unix.Fdatasync(int(file.Fd())))
		m.syncDir("")
		if syncs, dirs := m.disk.Count(Fsync), m.disk.Count(FsyncDir); syncs != 2*(i+1) || dirs != i+1 {
			t.Fatalf("%d fsyncs of the file and %d of the directory were seen after %d rounds", syncs, dirs, i+1)
		}
	}
}

func TestAfterTheCutNothingGetsThrough(t *testing.T) {
	m := mount(t, New())
	file := m.write("a", "before")
	m.must(file.Sync())
	m.syncDir("")
	m.disk.Freeze()
	failed := make(chan error, 2)
	go func() {
		_, err := file.WriteAt([]byte("behind"), 0)
		failed <- err
		failed <- file.Sync()
	}()
	select {
	case err := <-failed:
		t.Fatalf("a write was answered while the power was cut: %v", err)
	case <-m.disk.Frozen():
	}
	m.disk.Release()
	for range 2 {
		if err := <-failed; !errors.Is(err, syscall.EIO) {
			t.Fatalf("expected EIO, got %v", err)
		}
	}
	if got := m.after(Kept, 0, "a"); got != "before" {
		t.Fatalf("%q got through", got)
	}
}

func TestACutComesAtTheOrderedOperation(t *testing.T) {
	m := mount(t, New())
	m.disk.FreezeAfter(3)
	file := m.write("a", "one") // creates and writes
	m.must(file.Sync())
	select {
	case <-m.disk.Frozen():
		t.Fatal("three operations were allowed")
	default:
	}
	done := make(chan error)
	go func() { done <- file.Sync() }()
	<-m.disk.Frozen()
	m.disk.Release()
	if err := <-done; !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
}

func TestTheNextLifeSeesWhatWasLeft(t *testing.T) {
	m := mount(t, New())
	m.must(os.MkdirAll(m.path("d/e"), 0o700))
	m.must(m.write("d/e/f", "deep").Sync())
	for _, dir := range []string{"", "d", "d/e"} {
		m.syncDir(dir)
	}
	next := mount(t, m.disk.Cut(Torn, 1))
	got, err := os.ReadFile(next.path("d/e/f"))
	next.must(err)
	if string(got) != "deep" {
		t.Fatalf("%q", got)
	}
	next.write("d/e/f", "more")
	if got := next.after(Lost, 0, "d/e/f"); got != "deep" {
		t.Fatalf("%q", got)
	}
}

func TestAFailedFsyncIsNotMadeGoodByTheNextOne(t *testing.T) {
	m := mount(t, New())
	file := m.write("a", "durable")
	m.must(file.Sync())
	m.syncDir("")
	m.write("a", "refused")
	hits := m.disk.Inject(Fault{Op: Fsync, Suffix: "a", Times: 1, Errno: syscall.EIO})
	if err := file.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	m.must(file.Sync())
	if got, _ := os.ReadFile(m.path("a")); string(got) != "refused" || hits() != 1 {
		t.Fatalf("processes see %q, %d faults", got, hits())
	}
	if got := m.after(Lost, 0, "a"); got != "durable" {
		t.Fatalf("the disk has %q", got)
	}
	m.write("a", "refused")
	m.must(file.Sync())
	if got := m.after(Lost, 0, "a"); got != "refused" {
		t.Fatalf("written and fsynced again: %q", got)
	}
}

func TestAWriteFailsAfterAPartOfIt(t *testing.T) {
	m := mount(t, New())
	file := m.open("a")
	m.disk.Inject(Fault{Op: Write, Suffix: "a", Times: 1, Through: 3, Errno: syscall.ENOSPC})
	// Whether the caller is told of the three bytes is up to the kernel.
	if _, err := file.WriteAt([]byte("content"), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if got := m.after(Kept, 0, "a"); got != "con" {
		t.Fatalf("%q got through", got)
	}
	_, err := file.WriteAt([]byte("content"), 0)
	m.must(err)
}

func TestAFullDiskRefusesAndSpaceComesBack(t *testing.T) {
	disk := New()
	disk.SetCapacity(1 << 20)
	m := mount(t, disk)
	file := m.open("a")
	m.must(unix.Fallocate(int(file.Fd()), 0, 0, 1<<19))
	other := m.open("b")
	if err := unix.Fallocate(int(other.Fd()), 0, 0, 1<<20); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if _, err := other.WriteAt(make([]byte, 1<<20), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	m.must(os.Remove(m.path("a")))
	m.must(unix.Fallocate(int(other.Fd()), 0, 0, 1<<20))
}

// Against a plain model: reads after writes, truncations and allocations at random places.
func TestContentIsWhatWasWritten(t *testing.T) {
	f, model := newFile(), []byte{}
	random := (&cutter{seed: 7}).random(7)
	for step := range 3000 {
		at := random.Int64N(40_000)
		switch random.IntN(8) {
		case 0:
			f.truncate(at)
			model = append(model, make([]byte, max(0, int(at)-len(model)))...)[:at]
		case 1:
			f.allocate(at, false)
			model = append(model, make([]byte, max(0, int(at)-len(model)))...)
		case 2:
			f.fsync()
		default:
			data := bytes.Repeat([]byte{byte(step)}, 1+random.IntN(9000))
			f.writeAt(data, at)
			model = append(model, make([]byte, max(0, int(at)+len(data)-len(model)))...)
			copy(model[at:], data)
		}
		got := make([]byte, len(model)+1)
		if count := f.readAt(got, 0); count != len(model) || !bytes.Equal(got[:count], model) {
			t.Fatalf("step %d: the content differs", step)
		}
	}
}

func TestReadsAndDirectoriesAreAsOnAnyFileSystem(t *testing.T) {
	m := mount(t, New())
	file := m.write("a", "0123456789")
	buffer := make([]byte, 20)
	if count, err := file.ReadAt(buffer, 4); count != 6 || err != io.EOF {
		t.Fatal(count, err)
	}
	m.must(file.Truncate(4))
	m.must(os.Mkdir(m.path("d"), 0o700))
	if err := os.Rename(m.path("a"), m.path("d")); !errors.Is(err, syscall.EEXIST) && !errors.Is(err, syscall.EISDIR) {
		t.Fatal(err)
	}
	m.must(os.Rename(m.path("a"), m.path("d/b")))
	if err := syscall.Rmdir(m.path("d")); !errors.Is(err, syscall.ENOTEMPTY) {
		t.Fatal(err)
	}
	info, err := os.Stat(m.path("d/b"))
	m.must(err)
	if info.Size() != 4 {
		t.Fatal(info.Size())
	}
	entries, err := os.ReadDir(m.path(""))
	m.must(err)
	if len(entries) != 1 || entries[0].Name() != "d" || !entries[0].IsDir() {
		t.Fatal(entries)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	second := m.open("d/b")
	if err := unix.Flock(int(second.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Fatalf("a second lock on one file: %v", err)
	}
}
