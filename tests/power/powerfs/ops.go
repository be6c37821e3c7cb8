package powerfs

import "syscall"

// The operations of the file system, as the kernel asks for them. Each is atomic, and waits while the power is cut.

func (d *Disk) read(node *inode, buffer []byte, offset int64) (int, syscall.Errno) {
	if errno := d.begin(Read); errno != 0 {
		return 0, errno
	}
	defer d.mu.Unlock()
	if fault := d.fault(Read, node); fault != nil {
		return 0, fault.Errno
	}
	return node.file.readAt(buffer, offset), 0
}

// write may write less than all, as write(2) does: whoever goes on then meets the error.
func (d *Disk) write(node *inode, data []byte, offset int64) (int, syscall.Errno) {
	if errno := d.begin(Write); errno != 0 {
		return 0, errno
	}
	defer d.mu.Unlock()
	if fault := d.fault(Write, node); fault != nil {
		through := 0
		if fault.hits == 1 && fault.Through > 0 {
			through = min(fault.Through, len(data))
			node.file.writeAt(data[:through], offset)
			fault.Times++
		}
		if through == 0 {
			return 0, fault.Errno
		}
		return through, 0
	}
	if errno := d.take(node.file, offset+int64(len(data))); errno != 0 {
		return 0, errno
	}
	node.file.writeAt(data, offset)
	return len(data), 0
}

func (d *Disk) truncate(node *inode, length int64) syscall.Errno {
	if errno := d.begin(Truncate); errno != 0 {
		return errno
	}
	defer d.mu.Unlock()
	if fault := d.fault(Truncate, node); fault != nil {
		return fault.Errno
	}
	if errno := d.take(node.file, length); errno != 0 {
		return errno
	}
	node.file.truncate(length)
	return 0
}

func (d *Disk) allocate(node *inode, end int64, keepSize bool) syscall.Errno {
	if errno := d.begin(Allocate); errno != 0 {
		return errno
	}
	defer d.mu.Unlock()
	if fault := d.fault(Allocate, node); fault != nil {
		return fault.Errno
	}
	if errno := d.take(node.file, end); errno != 0 {
		return errno
	}
	node.file.allocate(end, keepSize)
	return 0
}

func (d *Disk) fsync(node *inode) syscall.Errno {
	op := Fsync
	if node.dir != nil {
		op = FsyncDir
	}
	if errno := d.begin(op); errno != 0 {
		return errno
	}
	defer d.mu.Unlock()
	if fault := d.fault(op, node); fault != nil {
		if node.file != nil {
			node.file.failFsync()
		}
		return fault.Errno
	}
	if node.dir != nil {
		node.dir.fsync()
	} else {
		node.file.fsync()
	}
	return 0
}

// create makes a file, or a directory, under a name that must not exist.
func (d *Disk) create(parent *inode, name string, mode uint32, isDir bool) (*inode, syscall.Errno) {
	if errno := d.begin(Create); errno != 0 {
		return nil, errno
	}
	defer d.mu.Unlock()
	if parent.dir.now[name] != nil {
		return nil, syscall.EEXIST
	}
	var content *file
	if !isDir {
		content = newFile()
	}
	made := d.inode(name, mode&0o7777, content)
	if fault := d.fault(Create, made); fault != nil {
		return nil, fault.Errno
	}
	parent.dir.apply(change{name: made})
	return made, 0
}

func (d *Disk) remove(parent *inode, name string, isDir bool) syscall.Errno {
	if errno := d.begin(Remove); errno != 0 {
		return errno
	}
	defer d.mu.Unlock()
	node := parent.dir.now[name]
	switch {
	case node == nil:
		return syscall.ENOENT
	case isDir && node.dir == nil:
		return syscall.ENOTDIR
	case !isDir && node.dir != nil:
		return syscall.EISDIR
	case isDir && len(node.dir.now) > 0:
		return syscall.ENOTEMPTY
	}
	if fault := d.fault(Remove, node); fault != nil {
		return fault.Errno
	}
	node.links = 0
	parent.dir.apply(change{name: nil})
	return 0
}

// rename moves a name. Within a directory a power cut leaves all of it or nothing, unless it is one that keeps no order.
func (d *Disk) rename(from *inode, name string, to *inode, newName string) syscall.Errno {
	if errno := d.begin(Rename); errno != 0 {
		return errno
	}
	defer d.mu.Unlock()
	node := from.dir.now[name]
	if node == nil {
		return syscall.ENOENT
	}
	if fault := d.fault(Rename, node); fault != nil {
		return fault.Errno
	}
	if old := to.dir.now[newName]; old != nil && old != node {
		switch {
		case old.dir != nil && node.dir == nil:
			return syscall.EISDIR
		case old.dir == nil && node.dir != nil:
			return syscall.ENOTDIR
		case old.dir != nil && len(old.dir.now) > 0:
			return syscall.ENOTEMPTY
		}
		old.links = 0
	}
	switch {
	case from == to && name == newName:
	case from == to:
		from.dir.apply(change{name: nil, newName: node})
	default:
		from.dir.apply(change{name: nil})
		to.dir.apply(change{newName: node})
	}
	node.name = newName
	return 0
}

func (d *Disk) lookup(parent *inode, name string) *inode {
	d.mu.Lock()
	defer d.mu.Unlock()
	return parent.dir.now[name]
}
