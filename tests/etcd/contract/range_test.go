package contract

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"
)

func TestAnEmptyStoreIsAtRevisionOne(t *testing.T) {
	p := start(t)
	if revision := p.rng.ok(get("absent")).Header.Revision; revision != 1 {
		t.Fatalf("revision %d, expected 1", revision)
	}
	if revision := p.put.ok(put("a", "1")).Header.Revision; revision != 2 {
		t.Fatalf("the first write got revision %d, expected 2", revision)
	}
}

// Every shape of key and range, with every option that changes what is returned, alone and with a limit.
func TestRangesAnswerAsEtcdDoes(t *testing.T) {
	p := start(t)
	p.seed()
	shapes := map[string]*pb.RangeRequest{
		"one key":           get("a"),
		"absent key":        get("absent"),
		"prefix":            list("/registry/pods/"),
		"prefix of keys":    list("/registry/pod"),
		"everything":        everything(),
		"from key":          {Key: []byte("a"), RangeEnd: []byte{0}},
		"half open":         {Key: []byte("a"), RangeEnd: []byte("b")},
		"end equals key":    {Key: []byte("a"), RangeEnd: []byte("a")},
		"end before key":    {Key: []byte("b"), RangeEnd: []byte("a")},
		"bytes that sort":   {Key: []byte("/registry/services/\x00"), RangeEnd: []byte("/registry/services/\xff")},
		"old revision":      listAt("/registry/", 5),
		"before the delete": {Key: []byte("a"), RangeEnd: []byte{0}, Revision: 15},
		"at the delete":     {Key: []byte("a"), RangeEnd: []byte{0}, Revision: 16},
		"revision one":      {Key: []byte{0}, RangeEnd: []byte{0}, Revision: 1},
	}
	options := map[string]func(*pb.RangeRequest){
		"plain":               func(*pb.RangeRequest) {},
		"keys only":           func(r *pb.RangeRequest) { r.KeysOnly = true },
		"count only":          func(r *pb.RangeRequest) { r.CountOnly = true },
		"keys and count only": func(r *pb.RangeRequest) { r.KeysOnly, r.CountOnly = true, true },
		"serializable":        func(r *pb.RangeRequest) { r.Serializable = true },
		"min mod":             func(r *pb.RangeRequest) { r.MinModRevision = 6 },
		"max mod":             func(r *pb.RangeRequest) { r.MaxModRevision = 9 },
		"min create":          func(r *pb.RangeRequest) { r.MinCreateRevision = 6 },
		"max create":          func(r *pb.RangeRequest) { r.MaxCreateRevision = 9 },
		"all four bounds": func(r *pb.RangeRequest) {
			r.MinModRevision, r.MaxModRevision, r.MinCreateRevision, r.MaxCreateRevision = 3, 14, 2, 8
		},
		"bounds and count only": func(r *pb.RangeRequest) { r.MinModRevision, r.CountOnly = 6, true },
	}
	for _, limit := range []int64{0, 1, 2, 3, 100, -1} {
		for shapeName, shape := range shapes {
			for optionName, option := range options {
				request := proto.CloneOf(shape)
				request.Limit = limit
				option(request)
				t.Run(fmt.Sprintf("%s/%s/limit %d", shapeName, optionName, limit), func(t *testing.T) {
					p.with(t).rng.ok(request)
				})
			}
		}
	}
}

func TestEverySortTargetAndOrder(t *testing.T) {
	p := start(t)
	p.seed()
	for target, targetName := range pb.RangeRequest_SortTarget_name {
		for order, orderName := range pb.RangeRequest_SortOrder_name {
			for _, limit := range []int64{0, 3} {
				for _, keysOnly := range []bool{false, true} {
					request := everything()
					request.SortTarget = pb.RangeRequest_SortTarget(target)
					request.SortOrder = pb.RangeRequest_SortOrder(order)
					request.Limit = limit
					request.KeysOnly = keysOnly
					name := fmt.Sprintf("%s/%s/limit %d/keys only %v", targetName, orderName, limit, keysOnly)
					t.Run(name, func(t *testing.T) { p.with(t).rng.ok(request) })
				}
			}
		}
	}
}

// A list in pages, as kube-apiserver reads one: all pages at the revision of the first, whatever is written between.
func TestPagesArePinnedToOneRevision(t *testing.T) {
	p := start(t)
	for i := range 10 {
		p.put.ok(put(fmt.Sprintf("k%02d", i), "v"))
	}
	request := list("k")
	request.Limit = 3
	var keys []string
	for {
		page := p.rng.ok(request)
		for _, kv := range page.Kvs {
			keys = append(keys, string(kv.Key))
		}
		if !page.More {
			break
		}
		if request.Revision == 0 {
			request.Revision = page.Header.Revision
		}
		request.Key = append(page.Kvs[len(page.Kvs)-1].Key, 0)
		p.del.ok(del("k09"))
		p.put.ok(put("k055", "written between two pages"))
	}
	if len(keys) != 10 {
		t.Fatalf("the pages hold %d keys, expected the 10 of the first page's revision: %q", len(keys), keys)
	}
}

func TestARangeAtAnOldRevisionHasTheCurrentRevisionInItsHeader(t *testing.T) {
	p := start(t)
	p.put.ok(put("a", "1"))
	p.put.ok(put("a", "2"))
	response := p.rng.ok(&pb.RangeRequest{Key: []byte("a"), Revision: 2})
	if response.Header.Revision != 3 || string(response.Kvs[0].Value) != "1" {
		t.Fatalf("unexpected answer: %v", response)
	}
}

func TestRangesRefuseWhatEtcdRefuses(t *testing.T) {
	p := start(t)
	p.seed()
	p.compact.ok(&pb.CompactionRequest{Revision: 8})
	p.rng.fails(&pb.RangeRequest{}, rpctypes.ErrGRPCEmptyKey)
	p.rng.fails(&pb.RangeRequest{RangeEnd: []byte{0}}, rpctypes.ErrGRPCEmptyKey)
	p.rng.fails(listAt("a", 7), rpctypes.ErrGRPCCompacted)
	p.rng.fails(&pb.RangeRequest{Key: []byte("a"), Revision: 1000}, rpctypes.ErrGRPCFutureRev)
	p.rng.fails(&pb.RangeRequest{Key: []byte("a"), SortOrder: 17}, rpctypes.ErrGRPCInvalidSortOption)
	p.rng.fails(&pb.RangeRequest{Key: []byte("a"), SortTarget: 17}, rpctypes.ErrGRPCInvalidSortOption)
	p.rng.ok(listAt("a", 8))
	// A negative revision is no revision: the current one is read.
	p.rng.ok(listAt("a", -1))
}

func TestBytesInAreBytesOut(t *testing.T) {
	p := start(t)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	p.put.ok(&pb.PutRequest{Key: all, Value: all})
	p.put.ok(&pb.PutRequest{Key: []byte{0}, Value: nil})
	p.put.ok(&pb.PutRequest{Key: []byte{0xff, 0xff}, Value: []byte{0}})
	if count := p.rng.ok(everything()).Count; count != 3 {
		t.Fatalf("%d keys, expected 3", count)
	}
	p.rng.ok(&pb.RangeRequest{Key: []byte{0xff}, RangeEnd: []byte{0}})
	p.rng.ok(&pb.RangeRequest{Key: all})
}

func TestAnAnswerMayBeFarLargerThanARequest(t *testing.T) {
	p := start(t)
	value := string(make([]byte, 1<<20))
	for i := range 12 {
		p.put.ok(put(fmt.Sprintf("k%02d", i), value))
	}
	if kvs := p.rng.ok(list("k")).Kvs; len(kvs) != 12 {
		t.Fatalf("%d keys, expected 12", len(kvs))
	}
}
