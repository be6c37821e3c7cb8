package differential

import (
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// A difference made by hand: Orlop's answers to puts lose the previous value when it was empty. The search must come to the
// few operations that matter, on real stores.
func TestADifferenceIsReducedToWhatShowsIt(t *testing.T) {
	setup := Setup{Distort: func(_ Operation, response proto.Message) {
		if answer, ok := response.(*pb.PutResponse); ok && len(answer.PrevKv.GetValue()) == 0 {
			answer.PrevKv = nil
		}
	}}
	const seed, steps, probes = 1, 400, 60
	t.Parallel()
	found, trace := drawn(t, setup, seed, steps)
	if found == nil {
		t.Fatalf("%d operations did not show the difference", len(trace.Ops))
	}
	ops, found := Minimise(trace, found, fresh(t, setup), probes)
	report := Report(ops, found)
	// A key is put without a value, and then put again.
	if len(ops) > 2 || found.Op.Kind != "Put" || found.What != "the answer" {
		t.Fatalf("%d operations are left of %d:\n%s", len(ops), len(trace.Ops), report)
	}
	for _, part := range []string{`"kind":"Put"`, "etcdctl put --prev-kv", "prev_kv:{"} {
		if !strings.Contains(report, part) {
			t.Errorf("the report does not have %q:\n%s", part, report)
		}
	}
	again, err := DecodeStream([]byte(EncodeStream(ops)))
	if err != nil {
		t.Fatal(err)
	}
	if other, _ := fresh(t, setup)(again); other == nil || !other.isLike(found) {
		t.Fatalf("the printed stream does not show the difference again: %v", other)
	}
	if other, _ := fresh(t, Setup{})(again); other != nil {
		t.Fatalf("without the fault there is no difference, but %s: %s", other.What, other.Orlop)
	}
}

// The same without stores: a made-up rule says what differs. Each operation but a compaction counts as one revision.
func TestWhatDoesNotMatterIsLeftOut(t *testing.T) {
	put := func(key string) Operation {
		return Operation{Kind: "Put", Request: &pb.PutRequest{Key: []byte(key), Value: []byte("v"), PrevKv: true, Lease: 3}}
	}
	var ops []Operation
	for i := range 200 {
		ops = append(ops, put("noise"))
		switch i {
		case 70:
			ops = append(ops, put("guilty"))
		case 190:
			ops = append(ops, Operation{Kind: "Range", Request: &pb.RangeRequest{Key: []byte("guilty"), Revision: 72, Limit: 5, KeysOnly: true}})
		}
	}
	// The range must be at a revision at which the guilty key is there: leaving out the noise moves it.
	probe := func(ops []Operation) (*Difference, Trace) {
		trace := Trace{}
		guilty := int64(0)
		for i, op := range ops {
			trace.Ops, trace.Before = append(trace.Ops, op), append(trace.Before, int64(i))
			switch request := op.Request.(type) {
			case *pb.PutRequest:
				if string(request.Key) == "guilty" {
					guilty = int64(i + 1)
				}
			case *pb.RangeRequest:
				if guilty > 0 && request.Revision >= guilty && request.Revision <= int64(i) && request.Limit > 0 {
					return &Difference{Index: i, Op: op, What: "the answer"}, trace
				}
			}
		}
		return nil, trace
	}
	found, trace := probe(ops)
	if found == nil {
		t.Fatal("the stream does not show what is looked for")
	}
	smallest, _ := Minimise(trace, found, probe, 1000)
	want := []Operation{
		{Kind: "Put", Request: &pb.PutRequest{Key: []byte("guilty")}},
		{Kind: "Range", Request: &pb.RangeRequest{Revision: 1, Limit: 1}},
	}
	same := func(a, b Operation) bool { return a.Kind == b.Kind && proto.Equal(a.Request, b.Request) }
	if !slices.EqualFunc(smallest, want, same) {
		t.Fatalf("left are\n%s\nexpected\n%s", EncodeStream(smallest), EncodeStream(want))
	}
}

func TestAStreamIsReadAsItWasWritten(t *testing.T) {
	run := &Run{state: state{revision: 40, compacted: 7}}
	generator := NewGenerator(1, run)
	var ops []Operation
	kinds := map[Kind]bool{}
	for range 3000 {
		op := generator.Next()
		ops, kinds[op.Kind] = append(ops, op), true
	}
	for _, kind := range append(slices.Clone(methodKinds), WatchCreate, WatchCancel, WatchProgress, WatchClose, Kill, Stop) {
		if !kinds[kind] {
			t.Errorf("3000 operations and no %s among them", kind)
		}
	}
	text := EncodeStream(ops)
	again, err := DecodeStream([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for i, op := range ops {
		if again[i].String() != op.String() || op.Request != nil && !proto.Equal(op.Request, again[i].Request) {
			t.Fatalf("operation %d was written as\n%s\nand read as\n%s", i, op, again[i])
		}
	}
	if _, err := DecodeStream([]byte(`[{"kind":"Nothing"}]`)); err == nil {
		t.Error("an operation that does not exist was read")
	}
}

func TestAScriptSaysWhatEtcdctlCanSay(t *testing.T) {
	for want, op := range map[string]Operation{
		"etcdctl put --prev-kv --lease=$LEASE_7 -- 'a' '1'": {Kind: "Put", Request: &pb.PutRequest{
			Key: []byte("a"), Value: []byte("1"), PrevKv: true, Lease: 7,
		}},
		"LEASE_7=$(etcdctl lease grant 100 | cut -d' ' -f2)": {Kind: "LeaseGrant", Request: &pb.LeaseGrantRequest{ID: 7, TTL: 100}},
		"etcdctl get --limit=2 --rev=5 --from-key -- 'a'": {Kind: "Range", Request: &pb.RangeRequest{
			Key: []byte("a"), RangeEnd: []byte{0}, Limit: 2, Revision: 5,
		}},
		"etcdctl get --stream -- $'\\xfe' $'\\xff'": {Kind: "RangeStream", Request: &pb.RangeRequest{
			Key: []byte("\xfe"), RangeEnd: []byte("\xff"),
		}},
		"etcdctl txn <<'END'\nmod(\"a\") = \"0\"\n\nput -- 'a' '1'\n\n\nEND": {Kind: "Txn", Request: &pb.TxnRequest{
			Compare: []*pb.Compare{{Key: []byte("a"), Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{}}},
			Success: []*pb.RequestOp{opPut(&pb.PutRequest{Key: []byte("a"), Value: []byte("1")})},
		}},
		"# not with etcdctl: Kill": {Kind: Kill},
	} {
		if got := Script([]Operation{op}); got != want+"\n" {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	}
}
