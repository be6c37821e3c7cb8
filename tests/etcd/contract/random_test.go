package contract

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/orlop/orlop/tests/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	// ORLOP_TEST_SEED repeats a run that failed; without it every run is another one.
	seedVariable = "ORLOP_TEST_SEED"
	randomSteps  = 3000
	nestingMax   = 2
)

// The same random requests to both stores, every answer compared. The history that came of them is then watched on both.
func TestRandomRequestsAreAnsweredAlike(t *testing.T) {
	p := start(t)
	randomRun(t, p)
}

func TestTheMemoryEngineAnswersAlike(t *testing.T) {
	randomRun(t, startOrlopWith(t, harness.Flags("--engine", "memory")))
}

func TestAKeyPrefixIsInvisible(t *testing.T) {
	randomRun(t, startOrlopWith(t, harness.Flags("--key-prefix", "tenant-a")))
}

func randomRun(t *testing.T, p *pair) {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv(seedVariable); text != "" {
		given, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s=%s: %v", seedVariable, text, err)
		}
		seed = given
	}
	t.Logf("%s=%d", seedVariable, seed)
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), revision: 1}
	for id := range int64(len(randomKeys)) {
		p.grant.ok(&pb.LeaseGrantRequest{ID: id + 1, TTL: 100_000})
	}
	for range randomSteps {
		g.step(p)
		g.revision = p.rng.ok(get("absent")).Header.Revision
	}
	p.put.ok(put("last", "of all"))
	w := p.openWatches()
	// At the compaction's own revision etcd has forgotten the previous values.
	first := max(g.compacted+1, 2)
	w.create(&pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: first, PrevKv: true})
	etcd := w.etcd.next()
	for etcd.Header.Revision > etcd.Events[len(etcd.Events)-1].Kv.ModRevision {
		etcd.Events = append(etcd.Events, w.etcd.next().Events...)
	}
	requireSame(t, "the events of a watch", etcd.Events, w.orlop.events(0, len(etcd.Events)))
}

// Few, so that they meet often. Each lease belongs to one key: a lease of several keys ends in other
// revisions than with etcd.
var randomKeys = []string{"a", "a\x00", "ab", "b", "b/", "b/c", "b0", "c", "\xfe\xff"}

type generator struct {
	*rand.Rand
	revision  int64
	compacted int64
}

func (g *generator) step(p *pair) {
	p.t.Helper()
	switch n := g.IntN(100); {
	case n < 30:
		p.put.same(g.put())
	case n < 60:
		p.rng.same(g.rng())
	case n < 70:
		request := g.del()
		if g.IntN(4) == 0 {
			request.RangeEnd = []byte{0}
		}
		p.del.same(request)
	case n < 95:
		p.txn.same(g.txn(0))
	case n < 97:
		lease := int64(g.IntN(len(randomKeys)) + 1)
		p.revoke.same(&pb.LeaseRevokeRequest{ID: lease})
		p.grant.same(&pb.LeaseGrantRequest{ID: lease, TTL: 100_000})
	case n == 97 && g.IntN(5) == 0:
		request := &pb.CompactionRequest{Revision: g.anyRevision(), Physical: g.coin()}
		p.compact.same(request)
		if request.Revision <= g.revision {
			g.compacted = max(g.compacted, request.Revision)
		}
	}
}

func (g *generator) coin() bool { return g.IntN(2) == 0 }

func (g *generator) key() (int, []byte) {
	i := g.IntN(len(randomKeys))
	return i, []byte(randomKeys[i])
}

// anyRevision is mostly a revision that exists, sometimes one that is compacted or in the future.
func (g *generator) anyRevision() int64 {
	return g.compacted + g.Int64N(g.revision-g.compacted+1) + int64(g.IntN(20)/19) - int64(g.IntN(20)/19)
}

func (g *generator) span() ([]byte, []byte) {
	_, key := g.key()
	_, end := g.key()
	switch g.IntN(4) {
	case 0:
		return key, end
	case 1:
		return key, endOf(string(key[:1]))
	default:
		return key, nil
	}
}

func (g *generator) put() *pb.PutRequest {
	i, key := g.key()
	request := &pb.PutRequest{Key: key, PrevKv: g.coin(), IgnoreValue: g.IntN(10) == 0, IgnoreLease: g.IntN(10) == 0}
	if g.IntN(20) != 0 && !request.IgnoreValue {
		request.Value = []byte(strconv.Itoa(g.IntN(100)))
	}
	if g.IntN(3) == 0 && !request.IgnoreLease {
		request.Lease = int64(i + 1)
	}
	return request
}

func (g *generator) del() *pb.DeleteRangeRequest {
	key, end := g.span()
	return &pb.DeleteRangeRequest{Key: key, RangeEnd: end, PrevKv: g.coin()}
}

func (g *generator) rng() *pb.RangeRequest {
	key, end := g.span()
	request := &pb.RangeRequest{Key: key, RangeEnd: end, KeysOnly: g.IntN(4) == 0, CountOnly: g.IntN(4) == 0, Serializable: g.coin()}
	if g.coin() {
		request.Limit = int64(g.IntN(5))
	}
	if g.IntN(3) == 0 {
		request.Revision = g.anyRevision()
	}
	if g.IntN(4) == 0 {
		request.SortTarget = pb.RangeRequest_SortTarget(g.IntN(5))
		request.SortOrder = pb.RangeRequest_SortOrder(g.IntN(3))
	}
	for _, bound := range []*int64{&request.MinModRevision, &request.MaxModRevision, &request.MinCreateRevision, &request.MaxCreateRevision} {
		if g.IntN(10) == 0 {
			*bound = g.anyRevision()
		}
	}
	return request
}

func (g *generator) txn(depth int) *pb.TxnRequest {
	request := &pb.TxnRequest{}
	for range g.IntN(3) {
		request.Compare = append(request.Compare, g.compare())
	}
	request.Success, request.Failure = g.branch(depth), g.branch(depth)
	return request
}

// branch has at most one transaction in it: see TestWhatEtcdOverlooksIsADuplicateToo.
func (g *generator) branch(depth int) []*pb.RequestOp {
	var ops []*pb.RequestOp
	for range g.IntN(4) {
		switch n := g.IntN(9); {
		case n < 4:
			ops = append(ops, opPutWith(g.put()))
		case n < 7:
			ops = append(ops, opRange(g.rng()))
		default:
			ops = append(ops, opDel(g.del()))
		}
	}
	if depth < nestingMax && g.IntN(3) == 0 {
		ops = slices.Insert(ops, g.IntN(len(ops)+1), opTxn(g.txn(depth+1)))
	}
	return ops
}

func (g *generator) compare() *pb.Compare {
	key, end := g.span()
	compare := &pb.Compare{Key: key, RangeEnd: end, Result: pb.Compare_CompareResult(g.IntN(4))}
	switch g.IntN(5) {
	case 0:
		compare.Target, compare.TargetUnion = pb.Compare_VERSION, &pb.Compare_Version{Version: int64(g.IntN(4))}
	case 1:
		compare.Target, compare.TargetUnion = pb.Compare_CREATE, &pb.Compare_CreateRevision{CreateRevision: g.anyRevision()}
	case 2:
		compare.Target, compare.TargetUnion = pb.Compare_MOD, &pb.Compare_ModRevision{ModRevision: g.anyRevision()}
	case 3:
		compare.Target, compare.TargetUnion = pb.Compare_VALUE, &pb.Compare_Value{Value: fmt.Append(nil, g.IntN(100))}
	default:
		compare.Target, compare.TargetUnion = pb.Compare_LEASE, &pb.Compare_Lease{Lease: int64(g.IntN(len(randomKeys) + 1))}
	}
	return compare
}
