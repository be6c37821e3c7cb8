package pitfalls

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/orlop/orlop/tests/etcd/wire"
	"github.com/orlop/orlop/tests/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// statusOfNew asks over a connection of its own, as each kube-apiserver does.
func (s *store) statusOfNew() (*pb.StatusResponse, error) {
	return wire.Connect(s.t, s.Store).Maint.Status(s.context(), &pb.StatusRequest{})
}

// kube-apiserver decides by the version in Status whether it can rely on progress. A front end that cannot reach its data
// and answers without a version, or with none at all, would turn consistent lists off, or every WatchList away.
//
// etcd ends itself when its disk is full; so this is about Orlop alone.
func TestPitfall20StatusKeepsItsVersionWhileTheDiskIsFull(t *testing.T) {
	const diskBytes, valueBytes = 160 << 20, 1 << 20
	disk := harness.Mount(t, 0, fmt.Sprintf("size=%d", diskBytes))
	onOrlop(t, func(s *store) {
		healthy, err := s.statusOfNew()
		if err != nil || healthy.Version == "" {
			s.t.Fatalf("unexpected status: %v %v", healthy, err)
		}
		var refused error
		for i := 0; refused == nil && i < 2*diskBytes/valueBytes; i++ {
			_, refused = s.KV.Put(s.context(), &pb.PutRequest{Key: fmt.Append(nil, "k", i), Value: make([]byte, valueBytes)})
		}
		s.fails(refused, rpctypes.ErrGRPCNoSpace)
		for range 3 {
			failing, err := s.statusOfNew()
			if err != nil {
				s.t.Fatalf("Status while writes fail: %v", err)
			}
			if failing.Version != healthy.Version || failing.StorageVersion != healthy.StorageVersion || failing.Leader == 0 {
				s.t.Fatalf("the status was %v, and while writes fail it is %v", healthy, failing)
			}
			_, err = s.KV.Put(s.context(), &pb.PutRequest{Key: []byte("more"), Value: make([]byte, valueBytes)})
			s.fails(err, rpctypes.ErrGRPCNoSpace)
		}
	}, harness.DataDir(filepath.Join(disk, "data")))
}
