package powerfs

import (
	"fmt"
	"strings"
	"syscall"
)

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

// Files returns the names of all files, with their lengths.
func (d *Disk) Files() map[string]int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	files := map[string]int64{}
	d.walk(func(path string, node *inode) {
		if node.file != nil {
			files[path] = node.file.length
		}
	})
	return files
}

// Damage changes a part of a file, durably and without anybody having written it. The file system must not be mounted, as
// the kernel may have that part in its cache.
func (d *Disk) Damage(name string, offset, length int64, change func([]byte)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var found *file
	d.walk(func(path string, node *inode) {
		if path == name && node.file != nil {
			found = node.file
		}
	})
	if found == nil || offset < 0 || offset+length > found.length {
		return fmt.Errorf("%s has no bytes from %d to %d", name, offset, offset+length)
	}
	part := make([]byte, length)
	found.readAt(part, offset)
	change(part)
	found.writeAt(part, offset)
	found.fsync()
	return nil
}
