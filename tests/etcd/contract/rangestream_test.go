package contract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// stream reads a RangeStream to its end and returns its chunks put together. The places of the cuts are each store's
// own business; that header, more and count are on the last chunk only is not.
func (p *pair) stream(s *side, request *pb.RangeRequest) (*pb.RangeResponse, int, error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
	defer cancel()
	stream, err := s.kv.RangeStream(ctx, proto.CloneOf(request))
	if err != nil {
		return nil, 0, err
	}
	whole := &pb.RangeResponse{}
	for chunks := 0; ; chunks++ {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if whole.Header == nil {
				p.t.Fatalf("%s: the stream ended after %d chunks without a header", s.name, chunks)
			}
			return whole, chunks, nil
		}
		if err != nil {
			return nil, chunks, err
		}
		chunk := message.RangeResponse
		if whole.Header != nil {
			p.t.Fatalf("%s: a chunk follows the one with the header: %v", s.name, chunk)
		}
		if chunk.Header == nil && (chunk.More || chunk.Count != 0) {
			p.t.Fatalf("%s: more or count on a chunk that is not the last: %v", s.name, chunk)
		}
		whole.Header, whole.More, whole.Count = chunk.Header, chunk.More, chunk.Count
		whole.Kvs = append(whole.Kvs, chunk.Kvs...)
	}
}

func (p *pair) streamOk(request *pb.RangeRequest) (*pb.RangeResponse, int) {
	p.t.Helper()
	etcd, _, err := p.stream(p.etcd, request)
	if err != nil {
		p.t.Fatalf("RangeStream(%v) on etcd: %v", request, err)
	}
	orlop, chunks, err := p.stream(p.orlop, request)
	if err != nil {
		p.t.Fatalf("RangeStream(%v) on orlop: %v", request, err)
	}
	clearIdentity(p.t, "etcd", etcd)
	clearIdentity(p.t, "orlop", orlop)
	requireSame(p.t, fmt.Sprintf("RangeStream(%v)", request), etcd, orlop)
	return orlop, chunks
}

func (p *pair) streamFails(request *pb.RangeRequest, want error) {
	p.t.Helper()
	p.each(func(s *side) {
		_, _, err := p.stream(s, request)
		requireStatus(p.t, fmt.Sprintf("RangeStream(%v) on %s", request, s.name), want, err)
	})
}

func TestAStreamedRangeHasTheSameContentAsEtcds(t *testing.T) {
	p := start(t)
	for i := range 200 {
		p.put.ok(put(fmt.Sprintf("k%03d", i), "value"))
	}
	p.del.ok(del("k100"))
	requests := map[string]*pb.RangeRequest{
		"one key":         get("k000"),
		"absent key":      get("absent"),
		"prefix":          list("k"),
		"everything":      everything(),
		"old revision":    listAt("k", 50),
		"at the start":    listAt("k", 1),
		"keys only":       {Key: []byte("k"), RangeEnd: endOf("k"), KeysOnly: true},
		"count only":      {Key: []byte("k"), RangeEnd: endOf("k"), CountOnly: true},
		"old count":       {Key: []byte("k"), RangeEnd: endOf("k"), CountOnly: true, Revision: 50},
		"serializable":    {Key: []byte("k"), RangeEnd: endOf("k"), Serializable: true},
		"end before key":  {Key: []byte("k"), RangeEnd: []byte("a")},
		"explicit order":  {Key: []byte("k"), RangeEnd: endOf("k"), SortOrder: pb.RangeRequest_ASCEND},
		"order of nobody": {Key: []byte("k"), RangeEnd: endOf("k"), SortTarget: pb.RangeRequest_MOD},
	}
	for _, limit := range []int64{0, 1, 9, 10, 11, 150, 198, 199, 1000} {
		for name, request := range requests {
			request := proto.CloneOf(request)
			request.Limit = limit
			t.Run(fmt.Sprintf("%s/limit %d", name, limit), func(t *testing.T) { p.with(t).streamOk(request) })
		}
	}
}

func TestALargeStreamComesInChunks(t *testing.T) {
	p := start(t)
	value := string(make([]byte, 100<<10))
	for i := range 60 {
		p.put.ok(put(fmt.Sprintf("k%03d", i), value))
	}
	whole, chunks := p.streamOk(list("k"))
	if len(whole.Kvs) != 60 || chunks < 2 {
		t.Fatalf("%d keys in %d chunks, expected 60 in several", len(whole.Kvs), chunks)
	}
}

func TestAStreamedRangeRefusesWhatEtcdRefuses(t *testing.T) {
	p := start(t)
	p.seed()
	p.compact.ok(&pb.CompactionRequest{Revision: 8})
	p.streamFails(&pb.RangeRequest{}, rpctypes.ErrGRPCEmptyKey)
	p.streamFails(listAt("a", 7), rpctypes.ErrGRPCCompacted)
	p.streamFails(listAt("a", 1000), rpctypes.ErrGRPCFutureRev)
	p.streamFails(&pb.RangeRequest{Key: []byte("a"), SortTarget: 17}, rpctypes.ErrGRPCInvalidSortOption)
	sorted := list("a")
	sorted.SortOrder = pb.RangeRequest_DESCEND
	p.streamFails(sorted, status.Error(codes.Unimplemented, "RangeStream does not support custom sort orders"))
	for name, filter := range map[string]func(*pb.RangeRequest){
		"min mod":    func(r *pb.RangeRequest) { r.MinModRevision = 3 },
		"max mod":    func(r *pb.RangeRequest) { r.MaxModRevision = 3 },
		"min create": func(r *pb.RangeRequest) { r.MinCreateRevision = 3 },
		"max create": func(r *pb.RangeRequest) { r.MaxCreateRevision = 3 },
	} {
		filtered := list("a")
		filter(filtered)
		t.Run(name, func(t *testing.T) {
			p.with(t).streamFails(filtered, status.Error(codes.Unimplemented, "RangeStream does not support revision filters"))
		})
	}
}

// What is written while a stream is read belongs to later revisions and is not in it.
func TestAStreamIsOneSnapshot(t *testing.T) {
	p := start(t)
	value := string(make([]byte, 256<<10))
	for i := range 40 {
		p.put.ok(put(fmt.Sprintf("k%02d", i), value))
	}
	p.each(func(s *side) {
		ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
		defer cancel()
		stream, err := s.kv.RangeStream(ctx, list("k"))
		if err != nil {
			t.Fatal(err)
		}
		first, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.kv.DeleteRange(ctx, del("k39")); err != nil {
			t.Fatal(err)
		}
		if _, err := s.kv.Put(ctx, put("k38x", "new")); err != nil {
			t.Fatal(err)
		}
		whole := first.RangeResponse
		for whole.Header == nil {
			next, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			whole.Kvs = append(whole.Kvs, next.RangeResponse.Kvs...)
			whole.Header, whole.Count = next.RangeResponse.Header, next.RangeResponse.Count
		}
		last := string(whole.Kvs[len(whole.Kvs)-1].Key)
		if len(whole.Kvs) != 40 || whole.Count != 40 || last != "k39" || whole.Header.Revision != 41 {
			t.Fatalf("%s: %d keys, count %d, last %q, revision %d; expected 40, 40, k39, 41",
				s.name, len(whole.Kvs), whole.Count, last, whole.Header.Revision)
		}
	})
}
