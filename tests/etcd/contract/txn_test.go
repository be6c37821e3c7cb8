package contract

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/proto"
)

// etcd's own limit of operations in a transaction.
const opsMax = 128

// Every compare target with every operator, around the true value, on a key that exists and on one that does not.
func TestEveryCompareTargetAndOperator(t *testing.T) {
	p := start(t)
	p.grant.ok(&pb.LeaseGrantRequest{ID: 5, TTL: 1000})
	p.put.ok(put("other", "1"))
	p.put.ok(put("key", "1"))
	p.put.ok(put("key", "m"))
	p.put.ok(&pb.PutRequest{Key: []byte("key"), Value: []byte("m"), Lease: 5})
	p.put.ok(put("emptied", ""))
	for _, compare := range compares(0, 1, 2, 3, 4, 5, 6, -1) {
		for _, key := range []string{"key", "absent", "emptied"} {
			compare := proto.CloneOf(compare)
			compare.Key = []byte(key)
			t.Run(fmt.Sprintf("%s/%v", key, compare), func(t *testing.T) { p.with(t).txn.ok(probe(compare)) })
		}
	}
}

func compares(numbers ...int64) []*pb.Compare {
	var all []*pb.Compare
	for operator := range pb.Compare_CompareResult_name {
		result := pb.Compare_CompareResult(operator)
		for _, n := range numbers {
			all = append(all,
				&pb.Compare{Result: result, Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: n}},
				&pb.Compare{Result: result, Target: pb.Compare_CREATE, TargetUnion: &pb.Compare_CreateRevision{CreateRevision: n}},
				&pb.Compare{Result: result, Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{ModRevision: n}},
				&pb.Compare{Result: result, Target: pb.Compare_LEASE, TargetUnion: &pb.Compare_Lease{Lease: n}},
			)
		}
		for _, value := range []string{"", "a", "m", "mm", "z"} {
			all = append(all, &pb.Compare{
				Result: result, Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: []byte(value)},
			})
		}
		for target := range pb.Compare_CompareTarget_name {
			// A target without its operand, and one with the operand of another target.
			all = append(all,
				&pb.Compare{Result: result, Target: pb.Compare_CompareTarget(target)},
				&pb.Compare{
					Result: result, Target: pb.Compare_CompareTarget(target),
					TargetUnion: &pb.Compare_Version{Version: 3},
				},
			)
		}
	}
	return all
}

// probe answers whether the compares hold and changes nothing.
func probe(compares ...*pb.Compare) *pb.TxnRequest {
	return &pb.TxnRequest{
		Compare: compares,
		Success: []*pb.RequestOp{opRange(get("key"))},
		Failure: []*pb.RequestOp{opRange(get("absent"))},
	}
}

// A compare over a range holds when it holds for every key in it; of an empty range only its value cannot be compared.
func TestCompareOverARange(t *testing.T) {
	p := start(t)
	p.put.ok(put("k1", "m"))
	p.put.ok(put("k2", "m"))
	p.put.ok(put("k3", "n"))
	for _, compare := range compares(0, 1, 2, 3, 4) {
		for name, keys := range map[string][2]string{
			"all": {"k", "l"}, "two": {"k1", "k3"}, "none": {"x", "y"}, "from": {"k2", "\x00"}, "inverted": {"z", "a"},
		} {
			compare := proto.CloneOf(compare)
			compare.Key, compare.RangeEnd = []byte(keys[0]), []byte(keys[1])
			t.Run(fmt.Sprintf("%s/%v", name, compare), func(t *testing.T) { p.with(t).txn.ok(probe(compare)) })
		}
	}
}

// Numbers that no version of the API has given a meaning. A target that is not known counts as equal to whatever it is
// compared with, an operator that is not known always holds.
func TestUnknownCompareTargetsAndOperators(t *testing.T) {
	p := start(t)
	p.put.ok(put("key", "1"))
	operators := []pb.Compare_CompareResult{pb.Compare_EQUAL, pb.Compare_GREATER, pb.Compare_LESS, pb.Compare_NOT_EQUAL, 99, -1}
	for _, target := range []pb.Compare_CompareTarget{pb.Compare_MOD, pb.Compare_VALUE, 99, -1} {
		for _, operator := range operators {
			for _, key := range []string{"key", "absent"} {
				compare := &pb.Compare{Key: []byte(key), Target: target, Result: operator}
				t.Run(fmt.Sprint(compare), func(t *testing.T) { p.with(t).txn.ok(probe(compare)) })
			}
		}
	}
}

func TestAllComparesMustHold(t *testing.T) {
	p := start(t)
	p.put.ok(put("a", "1"))
	p.put.ok(put("b", "1"))
	if !p.txn.ok(probe(modEquals("a", 2), modEquals("b", 3))).Succeeded {
		t.Fatal("both compares hold")
	}
	if p.txn.ok(probe(modEquals("a", 2), modEquals("b", 2))).Succeeded {
		t.Fatal("the second compare does not hold")
	}
	if !p.txn.ok(probe()).Succeeded {
		t.Fatal("no compare at all holds")
	}
}

func TestATransactionIsOneRevision(t *testing.T) {
	p := start(t)
	response := p.txn.ok(then(opPut("a", "1"), opPut("b", "1"), opDel(del("absent")), opPut("c", "1")))
	if response.Header.Revision != 2 {
		t.Fatalf("revision %d, expected 2", response.Header.Revision)
	}
	p.txn.ok(then(opDel(del("a")), opPut("b", "2"), opRange(list("a")), opRange(everything())))
	p.rng.ok(everything())
	p.txn.ok(then())
	p.txn.ok(then(opRange(everything())))
	p.txn.ok(then(opDel(del("absent"))))
	if revision := p.rng.ok(everything()).Header.Revision; revision != 3 {
		t.Fatalf("transactions that change nothing moved the revision to %d", revision)
	}
}

// An operation sees those before it in the same transaction.
func TestOperationsSeeTheOnesBeforeThem(t *testing.T) {
	p := start(t)
	p.put.ok(put("a", "before"))
	p.txn.ok(then(
		opRange(everything()),
		opPutWith(&pb.PutRequest{Key: []byte("a"), Value: []byte("in it"), PrevKv: true}),
		opRange(get("a")),
		opPut("b", "1"),
		opRange(everything()),
		opRange(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, CountOnly: true}),
		opRange(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, KeysOnly: true, Limit: 1}),
		opRange(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, SortOrder: pb.RangeRequest_DESCEND}),
		opRange(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: 2}),
		opDel(&pb.DeleteRangeRequest{Key: []byte("c"), RangeEnd: []byte("z"), PrevKv: true}),
		opRange(everything()),
	))
	p.rng.ok(everything())
}

func TestADeleteAndAPutOfOtherKeysInOneTransaction(t *testing.T) {
	p := start(t)
	p.put.ok(put("a", "1"))
	p.put.ok(put("b", "1"))
	p.txn.ok(then(
		opDel(&pb.DeleteRangeRequest{Key: []byte("a"), PrevKv: true}),
		opRange(get("a")),
		opPutWith(&pb.PutRequest{Key: []byte("b"), IgnoreValue: true, PrevKv: true}),
		opPut("c", "1"),
		opRange(everything()),
	))
	p.rng.ok(everything())
	p.rng.ok(&pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: 3})
}

func TestNestedTransactions(t *testing.T) {
	p := start(t)
	p.put.ok(put("a", "1"))
	inner := func(revision int64, key string) *pb.TxnRequest {
		return &pb.TxnRequest{
			Compare: []*pb.Compare{modEquals("a", revision)},
			Success: []*pb.RequestOp{opPut(key, "then"), opRange(everything())},
			Failure: []*pb.RequestOp{opPut(key, "else"), opRange(get(key))},
		}
	}
	p.txn.ok(then(opTxn(inner(2, "b")), opTxn(inner(9, "c")), opTxn(then(opTxn(inner(2, "d")))), opRange(everything())))
	p.txn.ok(&pb.TxnRequest{
		Compare: []*pb.Compare{modEquals("a", 9)},
		Success: []*pb.RequestOp{opTxn(inner(2, "e"))},
		Failure: []*pb.RequestOp{opTxn(inner(2, "f")), opTxn(&pb.TxnRequest{})},
	})
	// Compares are all evaluated before the first change.
	p.txn.ok(then(opPut("a", "2"), opTxn(inner(2, "g"))))
	p.rng.ok(everything())
}

func TestTheTwoBranchesMayWriteTheSameKey(t *testing.T) {
	p := start(t)
	p.txn.ok(&pb.TxnRequest{
		Compare: []*pb.Compare{modEquals("a", 0)},
		Success: []*pb.RequestOp{opPut("a", "created")},
		Failure: []*pb.RequestOp{opPut("a", "updated")},
	})
	p.txn.ok(then(opTxn(&pb.TxnRequest{
		Compare: []*pb.Compare{modEquals("a", 0)},
		Success: []*pb.RequestOp{opPut("a", "created")},
		Failure: []*pb.RequestOp{opPut("a", "updated")},
	})))
	p.rng.ok(everything())
}

func TestAKeyIsWrittenOnceInATransaction(t *testing.T) {
	p := start(t)
	p.put.ok(put("a", "1"))
	duplicates := map[string]*pb.TxnRequest{
		"put and put":           then(opPut("k", "1"), opPut("k", "2")),
		"put and delete":        then(opPut("k", "1"), opDel(del("k"))),
		"delete and put":        then(opDel(del("k")), opPut("k", "1")),
		"put in deleted range":  then(opDel(&pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte("z")}), opPut("k", "1")),
		"put and nested put":    then(opPut("k", "1"), opTxn(then(opPut("k", "2")))),
		"put and nested delete": then(opPut("k", "1"), opTxn(then(opDel(del("k"))))),
		"nested and nested":     then(opTxn(then(opPut("k", "1"))), opTxn(then(opPut("k", "2")))),
		"delete and nested put": then(opDel(del("k")), opTxn(then(opPut("k", "2")))),
		"in the other branch":   {Compare: []*pb.Compare{modEquals("k", 0)}, Failure: []*pb.RequestOp{opPut("k", "1"), opPut("k", "2")}},
	}
	for name, request := range duplicates {
		t.Run(name, func(t *testing.T) { p.with(t).txn.fails(request, rpctypes.ErrGRPCDuplicateKey) })
	}
	// Deletes may overlap, and a range may name anything.
	p.txn.ok(then(opDel(del("a")), opDel(&pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte("z")}), opRange(get("a"))))
	p.txn.ok(then(opPut("k", "1"), opDel(&pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte("k")})))
}

// etcd does not see that a delete "from key on" covers a put beside it, nor a delete in a transaction behind the one with
// the put, and lets one key change twice in one revision. Orlop holds to the rule: a key has one change per revision.
func TestWhatEtcdOverlooksIsADuplicateToo(t *testing.T) {
	p := start(t)
	fromKey := &pb.DeleteRangeRequest{Key: []byte("a"), RangeEnd: []byte{0}}
	for name, request := range map[string]*pb.TxnRequest{
		"put then delete from key": then(opPut("k", "1"), opDel(fromKey)),
		"delete from key then put": then(opDel(fromKey), opPut("k", "1")),
		"put and delete in a row":  then(opTxn(then(opPut("k", "1"))), opTxn(then(opDel(del("k"))))),
	} {
		t.Run(name, func(t *testing.T) {
			p := p.with(t)
			if _, err := p.txn.send(p.etcd, request); err != nil {
				t.Fatalf("etcd has learnt it: move this to TestAKeyIsWrittenOnceInATransaction: %v", err)
			}
			_, err := p.txn.send(p.orlop, request)
			requireStatus(t, "Txn on orlop", rpctypes.ErrGRPCDuplicateKey, err)
		})
	}
}

func TestTooManyOperationsAreRefused(t *testing.T) {
	p := start(t)
	ops := func(n int) []*pb.RequestOp {
		var list []*pb.RequestOp
		for i := range n {
			list = append(list, opPut(fmt.Sprintf("k%03d", i), "v"))
		}
		return list
	}
	comparing := func(n int) []*pb.Compare {
		var list []*pb.Compare
		for i := range n {
			list = append(list, modEquals(fmt.Sprintf("c%03d", i), 0))
		}
		return list
	}
	p.txn.ok(&pb.TxnRequest{Success: ops(opsMax), Failure: ops(opsMax), Compare: comparing(opsMax)})
	p.txn.fails(&pb.TxnRequest{Success: ops(opsMax + 1)}, rpctypes.ErrGRPCTooManyOps)
	p.txn.fails(&pb.TxnRequest{Failure: ops(opsMax + 1)}, rpctypes.ErrGRPCTooManyOps)
	p.txn.fails(&pb.TxnRequest{Compare: comparing(opsMax + 1)}, rpctypes.ErrGRPCTooManyOps)
	// What a transaction uses up, those inside it no longer have.
	p.txn.ok(then(append(ops(64)[:63], opTxn(&pb.TxnRequest{Compare: comparing(64)}))...))
	p.txn.fails(then(append(ops(64)[:63], opTxn(&pb.TxnRequest{Compare: comparing(65)}))...), rpctypes.ErrGRPCTooManyOps)
}

func TestTransactionsRefuseWhatEtcdRefuses(t *testing.T) {
	p := start(t)
	p.seed()
	p.compact.ok(&pb.CompactionRequest{Revision: 8})
	refused := map[string]struct {
		op   *pb.RequestOp
		want error
	}{
		"no operation":         {&pb.RequestOp{}, rpctypes.ErrGRPCKeyNotFound},
		"range without key":    {opRange(&pb.RangeRequest{}), rpctypes.ErrGRPCEmptyKey},
		"put without key":      {opPut("", "1"), rpctypes.ErrGRPCEmptyKey},
		"delete without key":   {opDel(&pb.DeleteRangeRequest{}), rpctypes.ErrGRPCEmptyKey},
		"unknown sort":         {opRange(&pb.RangeRequest{Key: []byte("a"), SortTarget: 9}), rpctypes.ErrGRPCInvalidSortOption},
		"compacted range":      {opRange(listAt("a", 7)), rpctypes.ErrGRPCCompacted},
		"future range":         {opRange(listAt("a", 1000)), rpctypes.ErrGRPCFutureRev},
		"unknown lease":        {opPutWith(&pb.PutRequest{Key: []byte("k"), Lease: 99}), rpctypes.ErrGRPCLeaseNotFound},
		"ignore value, absent": {opPutWith(&pb.PutRequest{Key: []byte("k"), IgnoreValue: true}), rpctypes.ErrGRPCKeyNotFound},
		"value and ignored":    {opPutWith(&pb.PutRequest{Key: []byte("k"), IgnoreValue: true, Value: []byte("1")}), rpctypes.ErrGRPCValueProvided},
		"lease and ignored":    {opPutWith(&pb.PutRequest{Key: []byte("k"), IgnoreLease: true, Lease: 9}), rpctypes.ErrGRPCLeaseProvided},
	}
	for name, c := range refused {
		t.Run(name, func(t *testing.T) {
			p := p.with(t)
			p.txn.fails(then(opPut("first", "1"), c.op), c.want)
			p.txn.fails(then(opTxn(then(opPut("first", "1"), c.op))), c.want)
		})
	}
	p.txn.fails(&pb.TxnRequest{Compare: []*pb.Compare{{}}}, rpctypes.ErrGRPCEmptyKey)
	if kvs := p.rng.ok(get("first")).Kvs; len(kvs) != 0 {
		t.Fatalf("a refused transaction left something behind: %v", kvs)
	}
	// In the branch that is not taken, only the form of a request is checked.
	p.txn.ok(&pb.TxnRequest{Failure: []*pb.RequestOp{opPutWith(&pb.PutRequest{Key: []byte("k"), Lease: 99}), opRange(listAt("a", 7))}})
	p.txn.fails(&pb.TxnRequest{Failure: []*pb.RequestOp{opPut("", "1")}}, rpctypes.ErrGRPCEmptyKey)
}
