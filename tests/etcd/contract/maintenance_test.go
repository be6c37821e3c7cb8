package contract

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/orlop/orlop/tests/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func (s *side) status(t *testing.T) *pb.StatusResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
	defer cancel()
	response, err := s.maint.Status(ctx, &pb.StatusRequest{})
	if err != nil {
		t.Fatalf("%s: Status: %v", s.name, err)
	}
	return response
}

// kube-apiserver turns features on by the version, dashboards read the sizes, tools expect a leader.
func TestStatusTellsWhatClientsDecideBy(t *testing.T) {
	p := start(t)
	p.put.ok(put("a", string(make([]byte, 1<<20))))
	p.each(func(s *side) {
		status := s.status(t)
		if !regexp.MustCompile(`^3\.7\.\d+$`).MatchString(status.Version) {
			t.Errorf("%s: version %q is not a 3.7", s.name, status.Version)
		}
		if !strings.HasPrefix(status.StorageVersion, "3.7") {
			t.Errorf("%s: storage version %q is not a 3.7", s.name, status.StorageVersion)
		}
		if status.Leader == 0 || status.Leader != status.Header.MemberId {
			t.Errorf("%s: leader %x, member %x: one process leads itself", s.name, status.Leader, status.Header.MemberId)
		}
		if status.RaftTerm == 0 || status.RaftIndex == 0 || status.RaftAppliedIndex == 0 {
			t.Errorf("%s: term and index are positive: %v", s.name, status)
		}
		if status.IsLearner || len(status.Errors) != 0 || status.Header.Revision != 2 {
			t.Errorf("%s: unexpected status: %v", s.name, status)
		}
		// etcd counts what its next periodic commit has written.
		harness.Eventually(t, s.name+": the sizes cover the 1 MiB stored", func() bool {
			status := s.status(t)
			return status.DbSize >= 1<<20 && status.DbSizeInUse > 0 && status.DbSizeInUse <= status.DbSize
		})
	})
}

func TestTheNoSpaceAlarmStopsWhatTakesSpace(t *testing.T) {
	p := start(t)
	p.put.ok(put("a", "1"))
	p.put.ok(put("b", "1"))
	p.alarm.ok(&pb.AlarmRequest{})
	p.each(func(s *side) {
		raised, err := p.alarm.send(s, &pb.AlarmRequest{
			Action: pb.AlarmRequest_ACTIVATE, MemberID: s.status(t).Header.MemberId, Alarm: pb.AlarmType_NOSPACE,
		})
		if err != nil || len(raised.Alarms) != 1 || raised.Alarms[0].Alarm != pb.AlarmType_NOSPACE {
			t.Fatalf("%s: raising the alarm: %v %v", s.name, raised, err)
		}
		listed, err := p.alarm.send(s, &pb.AlarmRequest{Alarm: pb.AlarmType_NOSPACE})
		if err != nil || len(listed.Alarms) != 1 || listed.Alarms[0].MemberID != listed.Header.MemberId {
			t.Fatalf("%s: listing the alarm: %v %v", s.name, listed, err)
		}
		if errors := s.status(t).Errors; len(errors) != 1 || !strings.Contains(errors[0], "NOSPACE") {
			t.Fatalf("%s: the status does not tell the alarm: %q", s.name, errors)
		}
	})
	p.put.fails(put("a", "2"), rpctypes.ErrGRPCNoSpace)
	p.txn.fails(then(opPut("a", "2")), rpctypes.ErrGRPCNoSpace)
	p.txn.fails(then(opTxn(then(opPut("a", "2")))), rpctypes.ErrGRPCNoSpace)
	p.grant.fails(&pb.LeaseGrantRequest{ID: 1, TTL: 1000}, rpctypes.ErrGRPCNoSpace)

	p.rng.ok(everything())
	p.txn.ok(then(opRange(get("a"))))
	p.txn.ok(then(opDel(del("b"))))
	p.del.ok(del("a"))
	p.compact.ok(&pb.CompactionRequest{Revision: 4, Physical: true})
	p.defragment.ok(&pb.DefragmentRequest{})

	p.each(func(s *side) {
		_, err := p.alarm.send(s, &pb.AlarmRequest{
			Action: pb.AlarmRequest_DEACTIVATE, MemberID: s.status(t).Header.MemberId, Alarm: pb.AlarmType_NOSPACE,
		})
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
	})
	p.alarm.ok(&pb.AlarmRequest{})
	p.put.ok(put("a", "2"))
}

func TestAnAlarmSurvivesARestart(t *testing.T) {
	p := start(t)
	p.each(func(s *side) {
		_, err := p.alarm.send(s, &pb.AlarmRequest{
			Action: pb.AlarmRequest_ACTIVATE, MemberID: s.status(t).Header.MemberId, Alarm: pb.AlarmType_NOSPACE,
		})
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		s.store.Kill9()
		s.store.Restart()
	})
	p.put.fails(put("a", "2"), rpctypes.ErrGRPCNoSpace)
}

// Over the quota writes are refused, and deleting, compacting and defragmenting is the way out.
func TestTheQuotaRefusesWritesUntilSpaceIsFreed(t *testing.T) {
	const quota, value = 16 << 20, 1 << 20
	p := start(t, harness.Flags("--quota-backend-bytes", fmt.Sprint(quota)))
	p.each(func(s *side) {
		t.Run(s.name, func(t *testing.T) {
			if size := s.status(t).DbSizeQuota; size != quota {
				t.Fatalf("quota %d, expected %d", size, quota)
			}
			var refused error
			for i := 0; refused == nil && i < 8*quota/value; i++ {
				_, refused = p.put.send(s, put(fmt.Sprintf("k%d", i), string(make([]byte, value))))
			}
			requireStatus(t, "writing far more than the quota", rpctypes.ErrGRPCNoSpace, refused)
			alarms, err := p.alarm.send(s, &pb.AlarmRequest{})
			if err != nil || len(alarms.Alarms) != 1 || alarms.Alarms[0].Alarm != pb.AlarmType_NOSPACE {
				t.Fatalf("the alarm is not raised: %v %v", alarms, err)
			}
			deleted, err := p.del.send(s, &pb.DeleteRangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
			if err != nil {
				t.Fatalf("deleting without space: %v", err)
			}
			if _, err := p.compact.send(s, &pb.CompactionRequest{Revision: deleted.Header.Revision, Physical: true}); err != nil {
				t.Fatalf("compacting without space: %v", err)
			}
			harness.Eventually(t, "writes are accepted again", func() bool {
				if _, err := p.defragment.send(s, &pb.DefragmentRequest{}); err != nil {
					t.Fatalf("defragmenting: %v", err)
				}
				disarm := &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: alarms.Alarms[0].MemberID, Alarm: pb.AlarmType_NOSPACE}
				if _, err := p.alarm.send(s, disarm); err != nil {
					t.Fatalf("disarming: %v", err)
				}
				_, err := p.put.send(s, put("after", "1"))
				return err == nil
			})
		})
	})
}

func TestCompactionGivesSpaceBack(t *testing.T) {
	const values, value = 32, 1 << 20
	p := start(t)
	for i := range values {
		p.put.ok(put(fmt.Sprintf("k%02d", i), string(make([]byte, value))))
	}
	p.del.ok(&pb.DeleteRangeRequest{Key: []byte("k01"), RangeEnd: endOf("k")})
	last := p.del.ok(del("k00")).Header.Revision
	p.compact.ok(&pb.CompactionRequest{Revision: last, Physical: true})
	p.each(func(s *side) {
		harness.Eventually(t, "most of the space is free", func() bool {
			if _, err := p.defragment.send(s, &pb.DefragmentRequest{}); err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			return s.status(t).DbSizeInUse < values*value/8
		})
	})
}

func TestDefragmentKeepsEverything(t *testing.T) {
	p := start(t)
	p.seed()
	p.compact.ok(&pb.CompactionRequest{Revision: 10, Physical: true})
	p.defragment.ok(&pb.DefragmentRequest{})
	for revision := int64(10); revision <= 17; revision++ {
		p.rng.ok(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: revision})
	}
}

func TestHashChangesWithTheContent(t *testing.T) {
	p := start(t)
	p.each(func(s *side) {
		hash := func() uint32 {
			response, err := s.maint.Hash(context.Background(), &pb.HashRequest{})
			if err != nil || response.Header.GetMemberId() == 0 {
				t.Fatalf("%s: Hash: %v %v", s.name, response, err)
			}
			return response.Hash
		}
		empty := hash()
		if _, err := p.put.send(s, put("a", "1")); err != nil {
			t.Fatal(err)
		}
		if hash() == empty {
			t.Fatalf("%s: a write did not change the hash", s.name)
		}
	})
}

// sameHashRevisions compares all of HashKV but the number, which it returns: Orlop's is not etcd's, for that one covers
// etcd's own encoding.
func (p *pair) sameHashRevisions(revision int64) uint32 {
	p.t.Helper()
	etcd, err := p.hashKV.send(p.etcd, &pb.HashKVRequest{Revision: revision})
	if err != nil {
		p.t.Fatalf("HashKV(%d) on etcd: %v", revision, err)
	}
	orlop, err := p.hashKV.send(p.orlop, &pb.HashKVRequest{Revision: revision})
	if err != nil {
		p.t.Fatalf("HashKV(%d) on orlop: %v", revision, err)
	}
	hash := orlop.Hash
	for _, response := range []*pb.HashKVResponse{etcd, orlop} {
		clearIdentity(p.t, "a store", response)
		response.Hash = 0
	}
	requireSame(p.t, fmt.Sprintf("HashKV(%d)", revision), etcd, orlop)
	return hash
}

func TestHashKVCoversTheRevisionsThatEtcdsCovers(t *testing.T) {
	p := start(t)
	p.seed()
	seen := map[uint32]int64{}
	for revision := int64(2); revision <= 17; revision++ {
		hash := p.sameHashRevisions(revision)
		if other, ok := seen[hash]; ok {
			t.Errorf("revisions %d and %d have the same hash", other, revision)
		}
		seen[hash] = revision
	}
	if seen[p.sameHashRevisions(0)] != 17 {
		t.Error("revision 0 stands for the newest")
	}
	p.hashKV.fails(&pb.HashKVRequest{Revision: 1000}, rpctypes.ErrGRPCFutureRev)
	p.compact.ok(&pb.CompactionRequest{Revision: 12, Physical: true})
	// Of the compaction's own revision etcd remembers the answer of before.
	for revision := int64(13); revision <= 17; revision++ {
		if hash := p.sameHashRevisions(revision); seen[hash] != revision {
			t.Errorf("the hash of revision %d changed with a compaction", revision)
		}
	}
	p.hashKV.fails(&pb.HashKVRequest{Revision: 11}, rpctypes.ErrGRPCCompacted)
}

func TestTheSameHistoryHasTheSameHash(t *testing.T) {
	p, other := start(t), connect(t, "another orlop", harness.StartOrlop(t))
	twins := bind(t, p.orlop, other)
	twins.seed()
	twins.hashKV.ok(&pb.HashKVRequest{})
	twins.orlop.store.Restart()
	twins.hashKV.ok(&pb.HashKVRequest{})
}

func TestTheMemberListNamesTheOneMember(t *testing.T) {
	p := start(t)
	p.each(func(s *side) {
		response, err := s.clust.MemberList(context.Background(), &pb.MemberListRequest{Linearizable: true})
		if err != nil || len(response.Members) != 1 {
			t.Fatalf("%s: MemberList: %v %v", s.name, response, err)
		}
		member := response.Members[0]
		if member.ID != response.Header.MemberId || member.Name == "" || member.IsLearner {
			t.Errorf("%s: unexpected member: %v", s.name, member)
		}
		if len(member.ClientURLs) != 1 || member.ClientURLs[0] != s.store.Endpoint {
			t.Errorf("%s: client URLs %q, expected what --advertise-client-urls says: %q", s.name, member.ClientURLs, s.store.Endpoint)
		}
	})
}

func TestAuthenticationIsOff(t *testing.T) {
	p := start(t)
	p.authStatus.ok(&pb.AuthStatusRequest{})
	p.authenticate.fails(&pb.AuthenticateRequest{Name: "root", Password: "secret"}, rpctypes.ErrGRPCAuthNotEnabled)
}

// What one Orlop does not do is refused by a sentence that says so, not by a missing method.
func TestWhatIsNotSupportedSaysSo(t *testing.T) {
	p := start(t)
	s := p.orlop
	ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
	defer cancel()
	for name, call := range map[string]func() error{
		"MoveLeader": func() error { _, err := s.maint.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: 1}); return err },
		"Downgrade":  func() error { _, err := s.maint.Downgrade(ctx, &pb.DowngradeRequest{Version: "3.6.0"}); return err },
		"MemberAdd": func() error {
			_, err := s.clust.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{"http://127.0.0.1:1"}})
			return err
		},
		"MemberRemove":  func() error { _, err := s.clust.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: 1}); return err },
		"MemberUpdate":  func() error { _, err := s.clust.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: 1}); return err },
		"MemberPromote": func() error { _, err := s.clust.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: 1}); return err },
		"AuthEnable":    func() error { _, err := s.auth.AuthEnable(ctx, &pb.AuthEnableRequest{}); return err },
		"UserAdd":       func() error { _, err := s.auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "root"}); return err },
		"RoleList":      func() error { _, err := s.auth.RoleList(ctx, &pb.AuthRoleListRequest{}); return err },
	} {
		t.Run(name, func(t *testing.T) {
			err := call()
			message := status.Convert(err).Message()
			if code := status.Code(err); code != codes.Unimplemented && !(code == codes.FailedPrecondition && strings.HasPrefix(name, "Member")) {
				t.Errorf("code %v, expected Unimplemented (%q)", code, message)
			}
			if len(strings.Fields(message)) < 4 || strings.Contains(strings.ToLower(message), "unknown") {
				t.Errorf("the message does not explain what is not supported: %q", message)
			}
		})
	}
}
