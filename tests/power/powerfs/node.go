package powerfs

import (
	"context"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// node shows an inode of the disk to the kernel.
type node struct {
	fs.Inode
	disk *Disk
	of   *inode
}

var (
	_ fs.NodeLookuper  = (*node)(nil)
	_ fs.NodeGetattrer = (*node)(nil)
	_ fs.NodeSetattrer = (*node)(nil)
	_ fs.NodeReaddirer = (*node)(nil)
	_ fs.NodeOpener    = (*node)(nil)
	_ fs.NodeCreater   = (*node)(nil)
	_ fs.NodeMkdirer   = (*node)(nil)
	_ fs.NodeUnlinker  = (*node)(nil)
	_ fs.NodeRmdirer   = (*node)(nil)
	_ fs.NodeRenamer   = (*node)(nil)
	_ fs.NodeReader    = (*node)(nil)
	_ fs.NodeWriter    = (*node)(nil)
	_ fs.NodeFsyncer   = (*node)(nil)
	_ fs.NodeAllocater = (*node)(nil)
	_ fs.NodeStatfser  = (*node)(nil)
)

func (n *node) child(ctx context.Context, of *inode, out *fuse.EntryOut) *fs.Inode {
	n.disk.attr(of, &out.Attr)
	return n.NewInode(ctx, &node{disk: n.disk, of: of}, fs.StableAttr{Mode: of.kind(), Ino: of.number})
}

func (i *inode) kind() uint32 {
	if i.dir != nil {
		return syscall.S_IFDIR
	}
	return syscall.S_IFREG
}

func (d *Disk) attr(of *inode, out *fuse.Attr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out.Ino, out.Mode, out.Nlink = of.number, of.kind()|of.mode, uint32(of.links)
	out.Owner = *fuse.CurrentOwner()
	out.Blksize = pageBytes
	if of.file != nil {
		out.Size = uint64(of.file.length)
		out.Blocks = uint64(of.file.size()+SectorBytes-1) / SectorBytes
	}
}

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	found := n.disk.lookup(n.of, name)
	if found == nil {
		return nil, syscall.ENOENT
	}
	return n.child(ctx, found, out), 0
}

func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.disk.attr(n.of, &out.Attr)
	return 0
}

func (n *node) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok {
		if errno := n.disk.truncate(n.of, int64(size)); errno != 0 {
			return errno
		}
	}
	if mode, ok := in.GetMode(); ok {
		n.disk.mu.Lock()
		n.of.mode = mode & 0o7777
		n.disk.mu.Unlock()
	}
	n.disk.attr(n.of, &out.Attr)
	return 0
}

func (n *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	var entries []fuse.DirEntry
	for name, child := range n.of.dir.now {
		entries = append(entries, fuse.DirEntry{Name: name, Mode: child.kind(), Ino: child.number})
	}
	return fs.NewListDirStream(entries), 0
}

func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_TRUNC != 0 {
		if errno := n.disk.truncate(n.of, 0); errno != 0 {
			return nil, 0, errno
		}
	}
	return nil, fuse.FOPEN_KEEP_CACHE, 0
}

func (n *node) Create(ctx context.Context, name string, _ uint32, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	made, errno := n.disk.create(n.of, name, mode, false)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	return n.child(ctx, made, out), nil, fuse.FOPEN_KEEP_CACHE, 0
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	made, errno := n.disk.create(n.of, name, mode, true)
	if errno != 0 {
		return nil, errno
	}
	return n.child(ctx, made, out), 0
}

func (n *node) Unlink(_ context.Context, name string) syscall.Errno {
	return n.disk.remove(n.of, name, false)
}

func (n *node) Rmdir(_ context.Context, name string) syscall.Errno {
	return n.disk.remove(n.of, name, true)
}

func (n *node) Rename(_ context.Context, name string, parent fs.InodeEmbedder, newName string, flags uint32) syscall.Errno {
	if flags != 0 {
		return syscall.EINVAL
	}
	return n.disk.rename(n.of, name, parent.(*node).of, newName)
}

func (n *node) Read(_ context.Context, _ fs.FileHandle, buffer []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	count, errno := n.disk.read(n.of, buffer, offset)
	if errno != 0 {
		return nil, errno
	}
	return fuse.ReadResultData(buffer[:count]), 0
}

func (n *node) Write(_ context.Context, _ fs.FileHandle, data []byte, offset int64) (uint32, syscall.Errno) {
	count, errno := n.disk.write(n.of, data, offset)
	return uint32(count), errno
}

// Fsync is for files and directories. fdatasync is not weaker here: what is needed to read the data, the length
// included, becomes durable with it.
func (n *node) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	return n.disk.fsync(n.of)
}

func (n *node) Allocate(_ context.Context, _ fs.FileHandle, offset, size uint64, mode uint32) syscall.Errno {
	if mode&^unix.FALLOC_FL_KEEP_SIZE != 0 {
		return syscall.EOPNOTSUPP
	}
	return n.disk.allocate(n.of, int64(offset+size), mode&unix.FALLOC_FL_KEEP_SIZE != 0)
}

func (n *node) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	total := n.disk.capacity
	if total == 0 {
		total = 1 << 40
	}
	free := uint64(max(0, total-n.disk.used())) / pageBytes
	out.Bsize, out.Frsize, out.NameLen = pageBytes, pageBytes, 255
	out.Blocks, out.Bfree, out.Bavail = uint64(total)/pageBytes, free, free
	return 0
}
