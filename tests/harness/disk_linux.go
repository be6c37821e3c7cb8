package harness

import (
	"syscall"
	"testing"
)

// Mount mounts a tmpfs for the time of the test: a disk that is small, or cannot be written to.
func Mount(t testing.TB, flags uintptr, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
		t.Fatalf("mounting a tmpfs on %s: %v. This test needs root, or CAP_SYS_ADMIN in a user namespace of its own: "+
			"run the suite as root, or under `unshare --user --map-root-user --mount`", dir, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
	return dir
}
