package robustness

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/robustness/client"
	"go.etcd.io/etcd/tests/v3/robustness/traffic"

	"github.com/orlop/orlop/tests/harness"
)

const (
	// Little more than the first segment and the reserve, which are allocated at the start.
	diskBytes   = 88 << 20
	ballast     = 1 << 20
	ballastsMax = 2 * diskBytes / ballast
)

// The disk fills up, stays full for a while and over a crash, and is emptied; the traffic goes on all the time.
func TestAFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%d", diskBytes)); err != nil {
		t.Fatalf("mounting a tmpfs on %s: %v. This test needs root, or CAP_SYS_ADMIN in a user namespace of its own: "+
			"run the suite as root, or under `unshare --user --map-root-user --mount`", disk, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Errorf("unmounting %s: %v", disk, err)
		}
	})
	play(t, scenario{
		traffic: traffic.Kubernetes,
		options: []harness.Option{harness.DataDir(filepath.Join(disk, "data"))},
		strike:  fillTheDisk,
	})
}

func fillTheDisk(r *run) bool {
	c, err := r.clients.NewClient(r.endpoints())
	if err != nil {
		r.Fatal(err)
	}
	defer c.Close()
	written := fill(r, c)
	r.pause(r.between(300*time.Millisecond, 800*time.Millisecond))
	r.kill()
	r.pause(r.between(300*time.Millisecond, 800*time.Millisecond))
	empty(r, c, written)
	return true
}

// fill writes until the store says that there is no space, and returns how many keys it may have written. On a busy
// machine the clients of etcd's suite give a connection up after a tenth of a second: then it goes on with the next key.
func fill(r *run, c *client.RecordingClient) int {
	for number := range ballastsMax {
		ctx, cancel := context.WithTimeout(r.ctx, time.Minute)
		_, err := c.Put(ctx, fmt.Sprintf("ballast/%d", number), strings.Repeat(fmt.Sprintf("%04d", r.ids.NewRequestID()), ballast/4))
		cancel()
		if errors.Is(err, rpctypes.ErrNoSpace) {
			return number
		}
	}
	r.Fatalf("%d MiB fit on a disk of %d", ballastsMax, diskBytes>>20)
	return 0
}

// empty deletes what filled the disk, compacts it away and takes the alarm back.
func empty(r *run, c *client.RecordingClient, written int) {
	var deleted int64
	for number := range written {
		harness.Eventually(r.T, "deletions pass on a full disk", func() bool {
			ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
			defer cancel()
			response, err := c.Delete(ctx, fmt.Sprintf("ballast/%d", number))
			if err == nil {
				deleted = response.Header.Revision
			}
			return err == nil
		})
	}
	if err := r.server.Collect(); err != nil {
		r.errors <- err
		return
	}
	ctx, cancel := context.WithTimeout(r.ctx, time.Minute)
	defer cancel()
	harness.Eventually(r.T, "a compaction passes on a full disk", func() bool {
		// Others compact too: then there is nothing left to do.
		_, err := c.Compact(ctx, deleted)
		return err == nil || errors.Is(err, rpctypes.ErrCompacted)
	})
	harness.Eventually(r.T, "there is room again", func() bool {
		_, err := r.kv.Defragment(ctx, r.server.Endpoint)
		if err == nil {
			_, err = r.kv.AlarmDisarm(ctx, &clientv3.AlarmMember{})
		}
		if err == nil {
			_, err = c.Put(ctx, "room", fmt.Sprint(r.ids.NewRequestID()))
		}
		return err == nil
	})
}
