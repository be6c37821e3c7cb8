package differential

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/orlop/orlop/tests/etcd/wire"
	"github.com/orlop/orlop/tests/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// Generous: a request takes milliseconds, a busy machine may take its time.
const requestDeadline = 30 * time.Second

// A crash of the process loses nothing that was written without an fsync; power cuts are not what is compared here.
var etcdFlags = harness.Flags("--unsafe-no-fsync", "--log-level", "panic")

// side is one of the two stores.
type side struct {
	name   string
	store  *harness.Store
	client *wire.Client
	member uint64
	// Of a fleet, member leads, and asked is the one that is connected to: each names itself in what it answers.
	fleet  bool
	asked  uint64
	leases leaseNames
	// tail watches all keys and tells what happened.
	tail    *watchStream
	streams map[int]*watchStream
}

// Setup says how the stores of a stream are started.
type Setup struct {
	// OrlopFlags go to Orlop alone.
	OrlopFlags []string
	// Fleet puts two servers on TiKV in the place of the one, of which the one that is asked does not lead.
	Fleet bool
	// Forgetful is set for an engine that keeps nothing over a restart.
	Forgetful bool
	// Distort changes an answer of Orlop before it is compared: a difference made for a test of this tool.
	Distort func(Operation, proto.Message)
}

// pair is an Orlop and an etcd, both empty in the beginning.
type pair struct {
	t     *testing.T
	setup Setup
	etcd  *side
	orlop *side
}

func startPair(t *testing.T, setup Setup) *pair {
	t.Helper()
	p := &pair{t: t, setup: setup}
	p.etcd = newSide(t, "etcd", harness.StartEtcd(t, etcdFlags))
	options := []harness.Option{harness.Flags(setup.OrlopFlags...)}
	if setup.Fleet {
		options = append(options, harness.Fleet(t))
	}
	p.orlop = newSide(t, "orlop", harness.StartOrlop(t, options...))
	if setup.Fleet {
		p.orlop.meet(t)
	}
	return p
}

func newSide(t *testing.T, name string, store *harness.Store) *side {
	return &side{
		name: name, store: store, client: wire.Connect(t, store),
		leases: newLeaseNames(), streams: map[int]*watchStream{},
	}
}

// meet finds out who the members of a fleet are: what is forwarded names the one that leads.
func (s *side) meet(t *testing.T) {
	t.Helper()
	list, err := pb.NewClusterClient(s.client.Conn).MemberList(t.Context(), &pb.MemberListRequest{})
	if err != nil {
		t.Fatalf("listing the members: %v", err)
	}
	here, err := s.client.Maint.Status(t.Context(), &pb.StatusRequest{})
	if err != nil {
		t.Fatalf("asking for the status: %v", err)
	}
	s.fleet, s.member, s.asked = true, list.Header.MemberId, here.Header.MemberId
	if s.member == s.asked || s.member != here.Leader {
		t.Fatalf("the server that is asked leads, or names another leader: %v, %v", list, here)
	}
}

func (p *pair) sides() [2]*side { return [2]*side{p.etcd, p.orlop} }

// outcome is how a store answered.
type outcome struct {
	response proto.Message
	err      error
}

func (o outcome) String() string {
	if o.err != nil {
		return o.err.Error()
	}
	return fmt.Sprint(o.response)
}

// both does the same on both stores at the same time.
func (p *pair) both(do func(*side) (proto.Message, error)) (etcd, orlop outcome) {
	done := make(chan outcome)
	go func() {
		response, err := do(p.orlop)
		done <- outcome{response, err}
	}()
	etcd.response, etcd.err = do(p.etcd)
	return etcd, <-done
}

// call sends an operation of the table of methods to a store.
func (s *side) call(op Operation) (proto.Message, error) {
	request := proto.Clone(op.Request)
	s.leases.toIDs(request)
	chosen := false
	switch request := request.(type) {
	case *pb.LeaseGrantRequest:
		name := op.Request.(*pb.LeaseGrantRequest).ID
		if chosen = name == 0 || name >= firstChosenLease; chosen {
			request.ID = 0
		}
	case *pb.AlarmRequest:
		request.MemberID = s.member
	case *pb.PutRequest:
		if op.KeyBytes > 0 {
			request.Key = make([]byte, op.KeyBytes)
		}
		if op.ValueBytes > 0 {
			request.Value = make([]byte, op.ValueBytes)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
	defer cancel()
	response, err := methods[op.Kind].call(ctx, s.client, request)
	if s.fleet {
		// A server that does not lead may be a moment behind, as etcd's are, where nobody asks for the newest.
		if _, err := s.client.KV.Range(ctx, &pb.RangeRequest{Key: []byte{0}, CountOnly: true}); err != nil {
			return nil, breached("the server does not catch up with its leader: %v", err)
		}
	}
	if granted, ok := response.(*pb.LeaseGrantResponse); ok && err == nil && chosen {
		return granted, s.nameLease(op.Request.(*pb.LeaseGrantRequest).ID, granted)
	}
	return response, err
}

// nameLease keeps which id a store has chosen.
func (s *side) nameLease(name int64, granted *pb.LeaseGrantResponse) error {
	if _, taken := s.leases.names[granted.ID]; granted.ID <= 0 || taken {
		return breached("not a positive and new lease id: %v", granted)
	}
	s.leases.add(name, granted.ID)
	return nil
}
