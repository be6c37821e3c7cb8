package badinput

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/orlop/orlop/tests/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// etcd's default limit of a request: 1.5 MiB.
const requestBytesMax = 1536 << 10

func TestRequestsAreRefusedInEtcdsWords(t *testing.T) {
	s := start(t)
	s.mustPut("a", "1")
	s.mustPut("a", "2")
	s.mustPut("a", "3")
	if _, err := s.kv.Compact(s.context(), &pb.CompactionRequest{Revision: 3}); err != nil {
		t.Fatal(err)
	}
	read := func(request *pb.RangeRequest) error { _, err := s.kv.Range(s.context(), request); return err }
	write := func(request *pb.PutRequest) error { _, err := s.kv.Put(s.context(), request); return err }
	commit := func(request *pb.TxnRequest) error { _, err := s.kv.Txn(s.context(), request); return err }
	compact := func(revision int64) error {
		_, err := s.kv.Compact(s.context(), &pb.CompactionRequest{Revision: revision})
		return err
	}
	cases := map[string]struct {
		got  error
		want error
	}{
		"a read without a key":          {read(&pb.RangeRequest{}), rpctypes.ErrGRPCEmptyKey},
		"a write without a key":         {write(&pb.PutRequest{}), rpctypes.ErrGRPCEmptyKey},
		"a compare without a key":       {commit(&pb.TxnRequest{Compare: []*pb.Compare{{}}}), rpctypes.ErrGRPCEmptyKey},
		"too many operations":           {commit(&pb.TxnRequest{Success: puts(129)}), rpctypes.ErrGRPCTooManyOps},
		"a key twice":                   {commit(&pb.TxnRequest{Success: append(puts(1), puts(1)...)}), rpctypes.ErrGRPCDuplicateKey},
		"an unknown lease":              {write(&pb.PutRequest{Key: []byte("a"), Lease: 404}), rpctypes.ErrGRPCLeaseNotFound},
		"a read in the future":          {read(&pb.RangeRequest{Key: []byte("a"), Revision: 100}), rpctypes.ErrGRPCFutureRev},
		"a read below the compaction":   {read(&pb.RangeRequest{Key: []byte("a"), Revision: 2}), rpctypes.ErrGRPCCompacted},
		"a read at a negative one":      {read(&pb.RangeRequest{Key: []byte("a"), Revision: -1}), nil},
		"a compaction in the future":    {compact(100), rpctypes.ErrGRPCFutureRev},
		"a compaction done before":      {compact(3), rpctypes.ErrGRPCCompacted},
		"a compaction at -1":            {compact(-1), rpctypes.ErrGRPCCompacted},
		"an unknown order":              {read(&pb.RangeRequest{Key: []byte("a"), SortOrder: 9}), rpctypes.ErrGRPCInvalidSortOption},
		"a range whose end comes first": {read(&pb.RangeRequest{Key: []byte("b"), RangeEnd: []byte("a")}), nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { requireStatus(t, c.want, c.got) })
	}
	s.mustHave("a", "3")
}

func puts(n int) []*pb.RequestOp {
	var ops []*pb.RequestOp
	for i := range n {
		put := &pb.PutRequest{Key: []byte(fmt.Sprintf("k%d", i))}
		ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put}})
	}
	return ops
}

func TestAnExpiredLeaseIsNotFound(t *testing.T) {
	s := start(t)
	if _, err := s.lease.LeaseGrant(s.context(), &pb.LeaseGrantRequest{ID: 1, TTL: 1}); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the lease expires", func() bool {
		response, err := s.lease.LeaseTimeToLive(s.context(), &pb.LeaseTimeToLiveRequest{ID: 1})
		return err == nil && response.TTL == -1
	})
	_, err := s.kv.Put(s.context(), &pb.PutRequest{Key: []byte("a"), Lease: 1})
	requireStatus(t, rpctypes.ErrGRPCLeaseNotFound, err)
}

func TestARequestBeyondTheLimitIsRefusedAndOneBelowItIsNot(t *testing.T) {
	s := start(t)
	below := strings.Repeat("x", requestBytesMax-1024)
	s.mustPut("below", below)
	s.mustHave("below", below)
	requireStatus(t, rpctypes.ErrGRPCRequestTooLarge, s.put("above", strings.Repeat("x", requestBytesMax+1)))
	requireStatus(t, rpctypes.ErrGRPCRequestTooLarge, s.put("above", strings.Repeat("x", requestBytesMax+300<<10)))
	// So large that it is not even read: refused by the transport, and the connection goes on.
	err := s.put("above", strings.Repeat("x", 2*requestBytesMax))
	if err == nil || !strings.Contains(status.Convert(err).Message(), "large") {
		t.Fatalf("unexpected answer: %v", err)
	}
	s.mustHave("above", "")
	s.mustPut("after", "1")
}

func TestTheLimitOfARequestCanBeSet(t *testing.T) {
	s := start(t, harness.Flags("--max-request-bytes", "20000"))
	s.mustPut("below", strings.Repeat("x", 19000))
	requireStatus(t, rpctypes.ErrGRPCRequestTooLarge, s.put("above", strings.Repeat("x", 20001)))
}

// garbage sends bytes as they are, whatever the message should be.
type garbage struct{}

func (garbage) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (garbage) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

func (garbage) Name() string { return "proto" }

var malformed = map[string][]byte{
	"a length beyond the end": {0x0a, 0x7f, 'a'},
	"an endless varint":       {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	"a wrong wire type":       {0x09, 1, 2, 3},
	"no field zero":           {0x00, 0x00},
}

func TestMalformedRequestsAreInternalErrorsThatSaySo(t *testing.T) {
	s := start(t)
	s.mustPut("a", "1")
	for _, method := range []string{
		"/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Txn", "/etcdserverpb.KV/DeleteRange",
		"/etcdserverpb.Lease/LeaseGrant", "/etcdserverpb.Maintenance/Alarm",
	} {
		for name, bytes := range malformed {
			t.Run(method+"/"+name, func(t *testing.T) {
				var answer []byte
				err := s.conn.Invoke(s.context(), method, &bytes, &answer, grpc.ForceCodecV2(garbage{}))
				message := status.Convert(err).Message()
				if status.Code(err) != codes.Internal || !strings.Contains(message, "decod") && !strings.Contains(message, "unmarshal") {
					t.Fatalf("unexpected answer: %v (%q)", err, answer)
				}
			})
		}
	}
	s.mustHave("a", "1")
}

func TestAMalformedWatchRequestEndsOnlyItsStream(t *testing.T) {
	s := start(t)
	healthy, err := s.watch.Watch(s.context())
	if err != nil {
		t.Fatal(err)
	}
	create := &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("a")}}
	if err := healthy.Send(&pb.WatchRequest{RequestUnion: create}); err != nil {
		t.Fatal(err)
	}
	if _, err := healthy.Recv(); err != nil {
		t.Fatal(err)
	}
	for name, bytes := range malformed {
		t.Run(name, func(t *testing.T) {
			description := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
			stream, err := s.conn.NewStream(s.context(), description, "/etcdserverpb.Watch/Watch", grpc.ForceCodecV2(garbage{}))
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.SendMsg(&bytes); err != nil {
				t.Fatal(err)
			}
			var answer []byte
			if err := stream.RecvMsg(&answer); status.Code(err) != codes.Internal {
				t.Fatalf("unexpected answer: %v (%q)", err, answer)
			}
		})
	}
	s.mustPut("a", "1")
	if response, err := healthy.Recv(); err != nil || len(response.Events) != 1 {
		t.Fatalf("the other stream of the connection was harmed: %v %v", response, err)
	}
}

// Bytes that are no HTTP at all, or HTTP that breaks off, cost their own connection and nothing else.
func TestNoiseOnThePortHarmsNobody(t *testing.T) {
	s := start(t)
	s.mustPut("a", "1")
	preface := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	for name, bytes := range map[string]string{
		"noise":                   "\x00\xff\xfe nothing of this is HTTP \x00",
		"a TLS greeting":          "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
		"half a request":          "GET /health HTTP/1.1\r\nHo",
		"a preface and noise":     preface + strings.Repeat("\xff", 1000),
		"a frame that never ends": preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\xff\xff\xff\x00\x00\x00\x00\x00\x01",
		"a very long line":        "GET /" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.DialTimeout("tcp", s.Addr(), requestDeadline)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := conn.SetDeadline(time.Now().Add(requestDeadline)); err != nil {
				t.Fatal(err)
			}
			// The server may hang up before everything is sent.
			_, _ = conn.Write([]byte(bytes))
			s.mustHave("a", "1")
		})
	}
}

// A client that never reads its answers costs itself.
func TestAClientThatDoesNotReadDoesNotStopOthers(t *testing.T) {
	s := start(t)
	for i := range 8 {
		s.mustPut(fmt.Sprintf("big%d", i), strings.Repeat("x", 1<<20))
	}
	for range 8 {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		stream, err := s.kv.RangeStream(ctx, &pb.RangeRequest{Key: []byte("big"), RangeEnd: []byte("bih")})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	other := connectAnew(t, s)
	if _, err := pb.NewKVClient(other).Put(s.context(), &pb.PutRequest{Key: []byte("small")}); err != nil {
		t.Fatal(err)
	}
}
