package powerfs

import (
	"maps"
	"path"
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

// take makes sure that there is space for a file to have this size.
func (d *Disk) take(f *file, size int64) syscall.Errno {
	if had := f.size(); d.capacity > 0 && size > had && d.used()-had+size > d.capacity {
		return syscall.ENOSPC
	}
	return 0
}
