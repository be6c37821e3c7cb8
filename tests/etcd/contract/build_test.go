package contract

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Short spellings of the requests that most tests send.

func put(key, value string) *pb.PutRequest {
	return &pb.PutRequest{Key: []byte(key), Value: []byte(value)}
}

func get(key string) *pb.RangeRequest {
	return &pb.RangeRequest{Key: []byte(key)}
}

func list(prefix string) *pb.RangeRequest {
	return &pb.RangeRequest{Key: []byte(prefix), RangeEnd: endOf(prefix)}
}

func listAt(prefix string, revision int64) *pb.RangeRequest {
	return &pb.RangeRequest{Key: []byte(prefix), RangeEnd: endOf(prefix), Revision: revision}
}

// everything ranges over all keys.
func everything() *pb.RangeRequest {
	return &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
}

func del(key string) *pb.DeleteRangeRequest {
	return &pb.DeleteRangeRequest{Key: []byte(key)}
}

func endOf(prefix string) []byte {
	return []byte(clientv3.GetPrefixRangeEnd(prefix))
}

func opPut(key, value string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put(key, value)}}
}

func opPutWith(request *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: request}}
}

func opRange(request *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: request}}
}

func opDel(request *pb.DeleteRangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: request}}
}

func opTxn(request *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: request}}
}

func then(ops ...*pb.RequestOp) *pb.TxnRequest {
	return &pb.TxnRequest{Success: ops}
}

func modEquals(key string, revision int64) *pb.Compare {
	return &pb.Compare{
		Key:         []byte(key),
		Target:      pb.Compare_MOD,
		Result:      pb.Compare_EQUAL,
		TargetUnion: &pb.Compare_ModRevision{ModRevision: revision},
	}
}

// The keys of seed, in order: neighbours of a prefix, separators, and bytes that are no text are among them.
var seedKeys = []string{
	"/registry/pods/a", "/registry/pods/b", "/registry/pods/c:d.e", "/registry/podtemplates/a",
	"/registry/services/\x00", "/registry/services/\xff", "a", "a\x00", "ab", "b",
}

// seed writes a small history: every key once, some of them again, one deleted and one created anew.
func (p *pair) seed() {
	p.t.Helper()
	for i, key := range seedKeys {
		p.put.ok(put(key, fmt.Sprintf("value-%d", len(seedKeys)-i)))
	}
	p.put.ok(put("a", "second"))
	p.put.ok(put("/registry/pods/b", "second"))
	p.put.ok(put("/registry/pods/b", "third"))
	p.put.ok(put("b", ""))
	p.del.ok(del("ab"))
	p.put.ok(put("ab", "again"))
}
