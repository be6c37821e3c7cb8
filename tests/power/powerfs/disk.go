package powerfs

import (
	"fmt"
	"maps"
	"path"
	"strings"
	"sync"
	"syscall"
)

// Op is a kind of operation on a disk.
type Op int

const (
	Read Op = iota
	Write
	Truncate
	Allocate
	Fsync
	Create
	Rename
	Remove
	FsyncDir
	opCount
)

func (op Op) String() string {
	return [...]string{"read", "write", "truncate", "allocate", "fsync", "create", "rename", "remove", "fsyncdir"}[op]
}

// changes says whether the operation changes what a power cut can leave.
func (op Op) changes() bool { return op != Read }

// inode is a file or a directory.
type inode struct {
	number uint64
	// The last name that it was given: faults are ordered by name.
	name  string
	mode  uint32
	file  *file
	dir   *dir
	links int
}

// dir is a directory: its names, and the changes since its last fsync in their order.
type dir struct {
	now, durable map[string]*inode
	log          []change
}

// change is what one operation did to the names of a directory: nil is a name that is gone.
type change map[string]*inode

func newDir() *dir { return &dir{now: map[string]*inode{}, durable: map[string]*inode{}} }

func (d *dir) apply(c change) {
	for name, to := range c {
		if to == nil {
			delete(d.now, name)
		} else {
			d.now[name] = to
		}
	}
	d.log = append(d.log, c)
}

func (d *dir) fsync() {
	d.durable, d.log = maps.Clone(d.now), nil
}

// Disk is the disk under the file system. All methods may be called concurrently.
type Disk struct {
	mu       sync.Mutex
	root     *inode
	inodes   uint64
	capacity int64
	faults   []*Fault
	counts   [opCount]uint64
	changed  uint64
	// The power is cut before this many more changes, if hasCut.
	left   uint64
	hasCut bool
	// Closed at the cut, and when those that wait since then are to be told of it.
	frozen, released chan struct{}
	isFrozen         bool
}

// New returns an empty disk.
func New() *Disk {
	d := &Disk{frozen: make(chan struct{}), released: make(chan struct{})}
	d.root = d.inode("", 0o755, nil)
	return d
}

func (d *Disk) inode(name string, mode uint32, f *file) *inode {
	d.inodes++
	made := &inode{number: d.inodes, name: name, mode: mode, file: f, links: 1}
	if f == nil {
		made.dir = newDir()
	}
	return made
}

// SetCapacity makes the disk fill up at this many bytes; 0 is no limit.
func (d *Disk) SetCapacity(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = bytes
}

// Count returns how many operations of a kind were carried out, failed ones included.
func (d *Disk) Count(op Op) uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts[op]
}

// Changes returns how many operations were carried out that change something.
func (d *Disk) Changes() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.changed
}

// Used returns the bytes that files with a name take.
func (d *Disk) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used()
}

func (d *Disk) used() int64 {
	total := int64(0)
	d.walk(func(_ string, node *inode) {
		if node.file != nil {
			total += node.file.size()
		}
	})
	return total
}

// walk visits everything that has a name now.
func (d *Disk) walk(visit func(path string, node *inode)) {
	var in func(prefix string, node *inode)
	in = func(prefix string, node *inode) {
		visit(prefix, node)
		if node.dir != nil {
			for name, child := range node.dir.now {
				in(path.Join(prefix, name), child)
			}
		}
	}
	in("", d.root)
}

// SyncAll makes everything durable, as the kernel does by itself within half a minute on most machines.
func (d *Disk) SyncAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.walk(func(_ string, node *inode) {
		if node.dir != nil {
			node.dir.fsync()
			return
		}
		for number, versions := range node.file.lost {
			node.file.dirty[number] = versions
		}
		clear(node.file.lost)
		node.file.fsync()
	})
}

// FlipByte changes one byte of a file, durably and unseen by whoever reads: damage. The file system must not be mounted,
// as the kernel may have the byte in its cache.
func (d *Disk) FlipByte(name string, offset int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found *file
	d.walk(func(path string, node *inode) {
		if path == name && node.file != nil {
			found = node.file
		}
	})
	if found == nil || offset < 0 || offset >= found.length {
		return fmt.Errorf("%s has no byte %d", name, offset)
	}
	one := make([]byte, 1)
	found.readAt(one, offset)
	found.writeAt([]byte{one[0] ^ 0x10}, offset)
	found.fsync()
	return nil
}

// Fault is an order to fail.
type Fault struct {
	// Op and Suffix say which operations: those of this kind on files whose names end so.
	Op     Op
	Suffix string
	// After lets this many of them pass first.
	After int
	// Times is how many then fail.
	Times int
	Errno syscall.Errno
	// Through is how many bytes of the first failing write get through before it fails.
	Through int
	hits    int
}

// Inject orders a fault, and returns a function that says how often it happened so far.
func (d *Disk) Inject(fault Fault) (hits func() int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	ordered := &fault
	d.faults = append(d.faults, ordered)
	return func() int {
		d.mu.Lock()
		defer d.mu.Unlock()
		return ordered.hits
	}
}

// Heal takes back all orders to fail.
func (d *Disk) Heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = nil
}

func (d *Disk) fault(op Op, node *inode) *Fault {
	for _, fault := range d.faults {
		if fault.Op != op || !strings.HasSuffix(node.name, fault.Suffix) {
			continue
		}
		if fault.After > 0 {
			fault.After--
			continue
		}
		if fault.hits < fault.Times {
			fault.hits++
			return fault
		}
	}
	return nil
}

// FreezeAfter cuts the power after this many more operations that change something.
func (d *Disk) FreezeAfter(changes uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left, d.hasCut = changes, true
}

// KeepPower takes back the order to cut the power, and says whether it came in time.
func (d *Disk) KeepPower() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hasCut = false
	return !d.isFrozen
}

// Freeze is the moment at which the power goes: no operation is carried out any more. Those that come wait for Release.
func (d *Disk) Freeze() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.freeze()
}

func (d *Disk) freeze() {
	if !d.isFrozen {
		d.isFrozen = true
		close(d.frozen)
	}
}

// Frozen is closed when the power is cut.
func (d *Disk) Frozen() <-chan struct{} { return d.frozen }

// Release answers all that wait, and all that come, with an error. Whoever must not see that is to be killed before.
func (d *Disk) Release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.freeze()
	select {
	case <-d.released:
	default:
		close(d.released)
	}
}

// begin lets an operation begin, with the disk locked; after an error it is not.
func (d *Disk) begin(op Op) syscall.Errno {
	d.mu.Lock()
	if d.hasCut && op.changes() {
		if d.left == 0 {
			d.freeze()
		} else {
			d.left--
		}
	}
	if d.isFrozen {
		d.mu.Unlock()
		<-d.released
		return syscall.EIO
	}
	d.counts[op]++
	if op.changes() {
		d.changed++
	}
	return 0
}

// take makes sure that there is space for a file to have this size.
func (d *Disk) take(f *file, size int64) syscall.Errno {
	if had := f.size(); d.capacity > 0 && size > had && d.used()-had+size > d.capacity {
		return syscall.ENOSPC
	}
	return 0
}
