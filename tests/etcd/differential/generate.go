package differential

import (
	"math/rand/v2"
	"strconv"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"
)

// Few keys, so that operations meet often: neighbours, prefixes of each other, separators, bytes that are no text.
var keys = []string{"a", "a\x00", "ab", "b", "b$", "b/", "b/c", "b0", "c", "\x00", "\xfe\xff", "\xff\xff"}

const (
	nestingMax    = 3
	streamNumbers = 3
	leaseIDs      = 6
	longTTLSecs   = 100_000
	// Short leases have ids of their own, so that no key is attached to them.
	firstShortLease = 900
	// The most operations that a transaction may have.
	opsMax = 128
	// A request of more is refused in etcd's words; one of twice as much by the transport.
	requestBytesMax = 1536 << 10
)

// Generator draws operations. What it draws depends on the seed and on what etcd has answered so far.
type Generator struct {
	*rand.Rand
	known  *state
	chosen int64
}

// NewGenerator returns a generator for a run, whose state it looks at.
func NewGenerator(seed uint64, run *Run) *Generator {
	return &Generator{Rand: rand.New(rand.NewPCG(seed, 0)), known: &run.state}
}

type weighted struct {
	weight int
	draw   func(*Generator) Operation
}

// How often each kind is drawn, among all together.
var weights = []weighted{
	{260, func(g *Generator) Operation { return Operation{Kind: "Put", Request: g.put()} }},
	{200, func(g *Generator) Operation { return Operation{Kind: "Range", Request: g.rng()} }},
	{60, func(g *Generator) Operation { return Operation{Kind: "RangeStream", Request: g.rng()} }},
	{80, func(g *Generator) Operation { return Operation{Kind: "DeleteRange", Request: g.del()} }},
	{210, func(g *Generator) Operation { return Operation{Kind: "Txn", Request: g.txn(0)} }},
	{12, func(g *Generator) Operation { return Operation{Kind: "Compact", Request: g.compaction()} }},
	{24, (*Generator).grant},
	{14, func(g *Generator) Operation {
		return Operation{Kind: "LeaseRevoke", Request: &pb.LeaseRevokeRequest{ID: g.lease()}}
	}},
	{14, func(g *Generator) Operation {
		return Operation{Kind: "LeaseTimeToLive", Request: &pb.LeaseTimeToLiveRequest{ID: g.lease(), Keys: g.coin()}}
	}},
	{8, func(g *Generator) Operation {
		return Operation{Kind: "LeaseKeepAlive", Request: &pb.LeaseKeepAliveRequest{ID: g.lease()}}
	}},
	{6, func(*Generator) Operation { return Operation{Kind: "LeaseLeases", Request: &pb.LeaseLeasesRequest{}} }},
	{6, func(*Generator) Operation { return Operation{Kind: "Status", Request: &pb.StatusRequest{}} }},
	{8, func(g *Generator) Operation {
		return Operation{Kind: "HashKV", Request: &pb.HashKVRequest{Revision: g.revisionOrNone()}}
	}},
	{2, func(*Generator) Operation { return Operation{Kind: "Defragment", Request: &pb.DefragmentRequest{}} }},
	{4, (*Generator).alarm},
	{50, (*Generator).watchCreate},
	{14, (*Generator).watchCancel},
	{14, func(g *Generator) Operation { return Operation{Kind: WatchProgress, Stream: g.IntN(streamNumbers)} }},
	{3, func(g *Generator) Operation { return Operation{Kind: WatchClose, Stream: g.IntN(streamNumbers)} }},
	{4, (*Generator).sized},
	{1, func(*Generator) Operation { return Operation{Kind: Kill} }},
	{1, func(*Generator) Operation { return Operation{Kind: Stop} }},
}

// Next draws the next operation.
func (g *Generator) Next() Operation {
	for kind, raised := range g.known.alarms {
		// Not for long: little else can be compared meanwhile.
		if raised && g.IntN(8) == 0 {
			return Operation{Kind: "Alarm", Request: &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, Alarm: kind}}
		}
	}
	total := 0
	for _, w := range weights {
		total += w.weight
	}
	n := g.IntN(total)
	for _, w := range weights {
		if n -= w.weight; n < 0 {
			return w.draw(g)
		}
	}
	panic("a number below the sum of all weights is below one of them")
}

// Last are the operations that end a stream: they look at all that can still be seen of it.
func (g *Generator) Last() []Operation {
	const pastMax = 60
	all := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
	ops := []Operation{
		{Kind: "Alarm", Request: &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, Alarm: pb.AlarmType_NOSPACE}},
		{Kind: "Alarm", Request: &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, Alarm: pb.AlarmType_CORRUPT}},
		{Kind: WatchCreate, Stream: streamNumbers, Request: &pb.WatchCreateRequest{
			Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: g.known.compacted + 1, PrevKv: true,
		}},
		{Kind: "LeaseLeases", Request: &pb.LeaseLeasesRequest{}},
		{Kind: "RangeStream", Request: proto.CloneOf(all)},
	}
	for revision := max(g.known.compacted, g.known.revision-pastMax, 1); revision <= g.known.revision; revision++ {
		at := proto.CloneOf(all)
		at.Revision = revision
		ops = append(ops, Operation{Kind: "Range", Request: at})
	}
	for id := range int64(leaseIDs) {
		ops = append(ops, Operation{Kind: "LeaseTimeToLive", Request: &pb.LeaseTimeToLiveRequest{ID: id + 1, Keys: true}})
	}
	return ops
}

func (g *Generator) coin() bool { return g.IntN(2) == 0 }

// rarely is true once in so many times.
func (g *Generator) rarely(times int) bool { return g.IntN(times) == 0 }

func (g *Generator) key() []byte {
	if g.rarely(200) {
		return nil
	}
	return []byte(keys[g.IntN(len(keys))])
}

func (g *Generator) value() []byte {
	if g.rarely(10) {
		return nil
	}
	return []byte(strconv.Itoa(g.IntN(100)))
}

// revision is mostly one that exists, sometimes one that is compacted or in the future.
func (g *Generator) revision() int64 {
	switch g.IntN(20) {
	case 0:
		return g.known.revision + 1 + g.Int64N(3)
	case 1:
		return max(g.known.compacted-g.Int64N(3), 1)
	case 2:
		return g.known.compacted
	}
	return g.known.compacted + g.Int64N(max(g.known.revision-g.known.compacted, 0)+1)
}

func (g *Generator) revisionOrNone() int64 {
	if g.rarely(3) {
		return 0
	}
	return g.revision()
}

// span is a key, a half-open range (perhaps empty or inverted), a prefix, a range without end, or everything.
func (g *Generator) span() (from, end []byte) {
	from = g.key()
	switch g.IntN(8) {
	case 0:
		return from, g.key()
	case 1:
		if len(from) > 0 {
			return from, []byte(clientv3.GetPrefixRangeEnd(string(from[:1])))
		}
	case 2:
		return from, []byte{0}
	case 3:
		return []byte{0}, []byte{0}
	}
	return from, nil
}

// lease is one of the few ids that a stream grants, one of the last that the stores chose, or one that nobody granted.
func (g *Generator) lease() int64 {
	switch {
	case g.rarely(30):
		return 404
	case g.rarely(4) && g.chosen > 0:
		return firstChosenLease + max(g.chosen-1-g.Int64N(3), 0)
	}
	return 1 + g.Int64N(leaseIDs)
}

func (g *Generator) grant() Operation {
	request := &pb.LeaseGrantRequest{ID: 1 + g.Int64N(leaseIDs), TTL: longTTLSecs}
	switch g.IntN(12) {
	case 0:
		request.ID, request.TTL = firstShortLease+g.Int64N(20), int64(g.IntN(4)-1)
	case 1:
		request.TTL = 9_000_000_000 + int64(g.IntN(2))
	case 2:
		request.ID = -request.ID
	case 3, 4:
		request.ID = firstChosenLease + g.chosen
		g.chosen++
	}
	return Operation{Kind: "LeaseGrant", Request: request}
}

func (g *Generator) compaction() *pb.CompactionRequest {
	request := &pb.CompactionRequest{Revision: g.revision(), Physical: g.coin()}
	if g.rarely(20) {
		request.Revision = int64(g.IntN(2)) - 1
	}
	return request
}

func (g *Generator) alarm() Operation {
	request := &pb.AlarmRequest{
		Action: pb.AlarmRequest_AlarmAction(g.IntN(3)), Alarm: []pb.AlarmType{pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT}[g.IntN(8)/7],
	}
	if request.Action == pb.AlarmRequest_GET && g.coin() {
		request.Alarm = pb.AlarmType_NONE
	}
	return Operation{Kind: "Alarm", Request: request}
}

// sized is a put of a size that is large but fine, just too much, or refused before it is read.
func (g *Generator) sized() Operation {
	op := Operation{Kind: "Put", Request: &pb.PutRequest{Key: g.key(), PrevKv: g.coin()}}
	switch g.IntN(5) {
	case 0, 1:
		op.ValueBytes = 700 << 10
	case 2:
		op.ValueBytes = requestBytesMax + 1
	case 3:
		op.ValueBytes = 2 * requestBytesMax
	case 4:
		op.KeyBytes = requestBytesMax + 1
	}
	return op
}

func (g *Generator) watchCreate() Operation {
	from, end := g.span()
	request := &pb.WatchCreateRequest{
		Key: from, RangeEnd: end, PrevKv: g.coin(), Fragment: g.rarely(4), ProgressNotify: g.rarely(4),
	}
	switch g.IntN(8) {
	case 0, 1, 2:
		request.StartRevision = g.revision()
	case 3:
		request.StartRevision = g.known.revision + 1 + g.Int64N(20)
	}
	if g.rarely(40) {
		request.StartRevision = -1
	}
	if g.rarely(5) {
		// -1 would make the responses for the watcher look as if they were for the whole stream.
		request.WatchId = g.Int64N(12)
		if g.rarely(10) {
			request.WatchId = -7
		}
	}
	for _, filter := range []pb.WatchCreateRequest_FilterType{pb.WatchCreateRequest_NOPUT, pb.WatchCreateRequest_NODELETE} {
		if g.rarely(6) {
			request.Filters = append(request.Filters, filter)
		}
	}
	return Operation{Kind: WatchCreate, Stream: g.IntN(streamNumbers), Request: request}
}

func (g *Generator) watchCancel() Operation {
	return Operation{
		Kind: WatchCancel, Stream: g.IntN(streamNumbers), Request: &pb.WatchCancelRequest{WatchId: g.Int64N(12)},
	}
}
