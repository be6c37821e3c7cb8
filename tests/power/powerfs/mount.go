package powerfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	device = "/dev/fuse"
	// The bytes of one write or read that the kernel sends at once.
	transferBytes = 1 << 20
	// After the last process is gone the kernel needs a moment; on a busy machine a long one.
	unmountDeadline = 60 * time.Second
)

// ErrCannotMount says that this machine, or this user, cannot mount a FUSE file system.
var ErrCannotMount = errors.New("a FUSE file system cannot be mounted")

// Mounted is a disk that processes see at a path.
type Mounted struct {
	dir    string
	server *fuse.Server
	ended  chan struct{}
}

// Mount shows the disk at an existing directory until Unmount.
func (d *Disk) Mount(dir string) (*Mounted, error) {
	// Opened here and not by the library: no store that the tests start may inherit it. While somebody holds it, the
	// kernel waits for answers that nobody gives any more.
	fd, err := syscall.Open(device, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, cannot("open "+device, err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d,default_permissions,max_read=%d",
		fd, os.Geteuid(), os.Getegid(), transferBytes)
	if err := syscall.Mount("powerfs", dir, "fuse.powerfs", syscall.MS_NOSUID|syscall.MS_NODEV, options); err != nil {
		_ = syscall.Close(fd)
		return nil, cannot("mount "+dir, err)
	}
	root := &node{disk: d, of: d.root}
	raw := fs.NewNodeFS(root, &fs.Options{RootStableAttr: &fs.StableAttr{Ino: d.root.number}})
	mount := fuse.MountOptions{MaxWrite: transferBytes, DisableXAttrs: true, IgnoreSecurityLabels: true}
	server, err := fuse.NewServer(raw, fmt.Sprintf("/dev/fd/%d", fd), &mount)
	if err != nil {
		_ = syscall.Unmount(dir, unix.MNT_DETACH)
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("serving %s: %w", dir, err)
	}
	mounted := &Mounted{dir: dir, server: server, ended: make(chan struct{})}
	go func() {
		server.Serve()
		close(mounted.ended)
	}()
	if err := forbidPoll(dir); err != nil {
		return nil, errors.Join(err, mounted.Unmount())
	}
	return mounted, nil
}

// cannot says what is missing, and how to get it.
func cannot(what string, err error) error {
	return fmt.Errorf("%w: could not %s: %w. Needed are %s (`modprobe fuse`) that this user can read and write, and the "+
		"right to mount: be root, or run the tests within `unshare --user --map-root-user --mount`", ErrCannotMount, what, err, device)
}

// forbidPoll lets the kernel learn that files here cannot be polled. Go's runtime asks that of every file that this
// process itself opens, and an answer from this same process might wait for the question.
func forbidPoll(dir string) error {
	fd, err := unix.Open(filepath.Join(dir, ".go-fuse-epoll-hack"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("preparing the mount: %w", err)
	}
	defer unix.Close(fd)
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err
}

// Unmount ends it, and returns when the kernel has let go of every file. Whatever used it must be gone.
func (m *Mounted) Unmount() error {
	if err := syscall.Unmount(m.dir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmounting %s: %w", m.dir, err)
	}
	select {
	case <-m.ended:
		return nil
	case <-time.After(unmountDeadline):
		return fmt.Errorf("%s is still in use %v after it was unmounted", m.dir, unmountDeadline)
	}
}
