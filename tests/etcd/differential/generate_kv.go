package differential

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

func (g *Generator) put() *pb.PutRequest {
	request := &pb.PutRequest{
		Key: g.key(), Value: g.value(), PrevKv: g.coin(), IgnoreValue: g.rarely(10), IgnoreLease: g.rarely(10),
	}
	// With something to ignore nothing may be given; now and then it is all the same.
	if request.IgnoreValue && !g.rarely(10) {
		request.Value = nil
	}
	if g.rarely(3) && (!request.IgnoreLease || g.rarely(10)) {
		request.Lease = g.lease()
	}
	return request
}

func (g *Generator) del() *pb.DeleteRangeRequest {
	from, end := g.span()
	return &pb.DeleteRangeRequest{Key: from, RangeEnd: end, PrevKv: g.coin()}
}

func (g *Generator) rng() *pb.RangeRequest {
	from, end := g.span()
	request := &pb.RangeRequest{
		Key: from, RangeEnd: end, KeysOnly: g.rarely(4), CountOnly: g.rarely(5), Serializable: g.coin(),
	}
	if g.coin() {
		request.Limit = int64(g.IntN(6)) - int64(g.IntN(30)/29*7)
	}
	if g.rarely(3) {
		request.Revision = g.revision()
	}
	if g.rarely(100) {
		request.Revision = -1
	}
	if g.rarely(4) {
		request.SortTarget = pb.RangeRequest_SortTarget(g.IntN(5))
		request.SortOrder = pb.RangeRequest_SortOrder(g.IntN(3))
	}
	if g.rarely(100) {
		request.SortTarget, request.SortOrder = pb.RangeRequest_SortTarget(g.IntN(7)), pb.RangeRequest_SortOrder(g.IntN(5))
	}
	for _, bound := range []*int64{
		&request.MinModRevision, &request.MaxModRevision, &request.MinCreateRevision, &request.MaxCreateRevision,
	} {
		if g.rarely(10) {
			*bound = g.revision()
		}
	}
	return request
}

func (g *Generator) txn(depth int) *pb.TxnRequest {
	request := &pb.TxnRequest{}
	for range g.IntN(3) {
		request.Compare = append(request.Compare, g.compare())
	}
	request.Success, request.Failure = g.branch(depth), g.branch(depth)
	if g.rarely(200) {
		for i := range opsMax + g.IntN(2) {
			request.Success = append(request.Success, opPut(&pb.PutRequest{Key: fmt.Append(nil, "many", i)}))
		}
	}
	return request
}

func (g *Generator) branch(depth int) []*pb.RequestOp {
	var ops []*pb.RequestOp
	for range g.IntN(4) {
		switch n := g.IntN(100); {
		case n < 40:
			ops = append(ops, opPut(g.put()))
		case n < 65:
			ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: g.rng()}})
		case n < 80:
			ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: g.del()}})
		case n < 99 && depth < nestingMax:
			ops = append(ops, &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: g.txn(depth + 1)}})
		case g.rarely(10):
			ops = append(ops, &pb.RequestOp{})
		}
	}
	return ops
}

func opPut(request *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: request}}
}

func (g *Generator) compare() *pb.Compare {
	from, end := g.span()
	compare := &pb.Compare{Key: from, RangeEnd: end, Result: pb.Compare_CompareResult(g.IntN(4))}
	switch g.IntN(6) {
	case 0:
		compare.Target, compare.TargetUnion = pb.Compare_VERSION, &pb.Compare_Version{Version: int64(g.IntN(4))}
	case 1:
		compare.Target, compare.TargetUnion = pb.Compare_CREATE, &pb.Compare_CreateRevision{CreateRevision: g.revision()}
	case 2:
		compare.Target, compare.TargetUnion = pb.Compare_MOD, &pb.Compare_ModRevision{ModRevision: g.revision()}
	case 3:
		compare.Target, compare.TargetUnion = pb.Compare_VALUE, &pb.Compare_Value{Value: g.value()}
	case 4:
		compare.Target, compare.TargetUnion = pb.Compare_LEASE, &pb.Compare_Lease{Lease: g.lease()}
	default:
		// A key that is not there: what Kubernetes asks before it creates one.
		compare.Target, compare.Result = pb.Compare_MOD, pb.Compare_EQUAL
		compare.TargetUnion = &pb.Compare_ModRevision{}
	}
	if g.rarely(100) {
		compare.Target, compare.Result = pb.Compare_CompareTarget(g.IntN(7)), pb.Compare_CompareResult(g.IntN(6))
	}
	return compare
}
