package badinput

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/orlop/orlop/tests/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

const (
	diskBytes     = 160 << 20
	diskWriteSize = 1 << 20
)

// On a full disk writes are refused in etcd's words; what was acknowledged stays and can be read; deleting and compacting
// makes room.
func TestAFullDiskRefusesWritesAndLosesNothing(t *testing.T) {
	disk := harness.Mount(t, 0, fmt.Sprintf("size=%d", diskBytes))
	s := start(t, harness.DataDir(filepath.Join(disk, "data")))
	value := strings.Repeat("x", diskWriteSize)
	var refused error
	written := 0
	for ; refused == nil && written < 2*diskBytes/diskWriteSize; written++ {
		refused = s.put(fmt.Sprintf("key%03d", written), value)
	}
	requireStatus(t, rpctypes.ErrGRPCNoSpace, refused)
	requireStatus(t, rpctypes.ErrGRPCNoSpace, s.put("another", value))
	requireAll := func() {
		t.Helper()
		for i := range written - 1 {
			s.mustHave(fmt.Sprintf("key%03d", i), value)
		}
	}
	requireAll()
	s.Kill9()
	s.Restart()
	requireAll()

	// The change at the compaction's own revision keeps its previous values, for watches that were there before: so one small
	// deletion follows the large one.
	if _, err := s.kv.DeleteRange(s.context(), &pb.DeleteRangeRequest{Key: []byte("key001"), RangeEnd: []byte("kez")}); err != nil {
		t.Fatalf("deleting on a full disk: %v", err)
	}
	deleted, err := s.kv.DeleteRange(s.context(), &pb.DeleteRangeRequest{Key: []byte("key000")})
	if err != nil {
		t.Fatalf("deleting on a full disk: %v", err)
	}
	if _, err := s.kv.Compact(s.context(), &pb.CompactionRequest{Revision: deleted.Header.Revision, Physical: true}); err != nil {
		t.Fatalf("compacting on a full disk: %v", err)
	}
	harness.Eventually(t, "there is room again", func() bool {
		if _, err := s.maint.Defragment(s.context(), &pb.DefragmentRequest{}); err != nil {
			t.Fatalf("defragmenting on a full disk: %v", err)
		}
		alarms, err := s.maint.Alarm(s.context(), &pb.AlarmRequest{})
		if err != nil {
			t.Fatal(err)
		}
		for _, alarm := range alarms.Alarms {
			disarm := &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: alarm.MemberID, Alarm: alarm.Alarm}
			if _, err := s.maint.Alarm(s.context(), disarm); err != nil {
				t.Fatal(err)
			}
		}
		return s.put("after", value) == nil
	})
	s.Restart()
	s.mustHave("after", value)
	s.mustHave("key000", "")
}

func TestAReadOnlyDataDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	disk := harness.Mount(t, syscall.MS_RDONLY, "")
	dir := filepath.Join(disk, "data")
	requireRefused(t, serve(t, dir), exitFailed, dir, "Read-only file system")
}
