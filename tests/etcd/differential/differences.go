package differential

import (
	"cmp"
	"maps"
	"regexp"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// This file is the one place that says in what Orlop may differ from etcd. An answer is made comparable by normalise; an
// operation that the two answer differently for a reason is not sent to either: the reasons are in the list of excuses.
// Whatever is not here is compared: every field, every revision, the code and the text of every error.
//
// A lease of several keys would belong here: Orlop deletes its keys in steps of 128, each at a revision of its own, etcd all
// of them at one. A stream has fewer keys than that, so that the leases of a stream end in one step.

// firstChosenLease is the first name of a lease whose id the store chooses: the ids are random numbers, so that a stream
// names the lease, and each side knows which id the name stands for.
const firstChosenLease = 1 << 40

// A lease of so many seconds or less could expire while a stream runs.
const shortTTLSecs = 50_000

// state is what is known about both stores while a stream runs, all of it from etcd's answers.
type state struct {
	revision  int64
	compacted int64
	// compactions has every revision at which history was compacted.
	compactions map[int64]bool
	// shortLeases may expire at any moment.
	shortLeases map[int64]bool
	// watches has the watchers of each open stream, by id.
	watches map[int]map[int64]*watcher
	// ghosts are the watchers of a stream that were cancelled as compacted, by id, and whether a client chose that id.
	ghosts map[int]map[int64]bool
	// alarms that were raised by the stream.
	alarms map[pb.AlarmType]bool
	// forgetful stores keep nothing over a restart.
	forgetful bool
}

type excuse struct {
	why     string
	applies func(*state, Operation) bool
}

// The operations that are not sent, and why.
var excuses = []excuse{
	{
		"the memory engine keeps nothing beyond the process",
		func(s *state, op Operation) bool { return s.forgetful && (op.Kind == Kill || op.Kind == Stop) },
	},
	{
		"a restart while the CORRUPT alarm is raised: neither store becomes ready",
		func(s *state, op Operation) bool {
			return s.alarms[pb.AlarmType_CORRUPT] && (op.Kind == Kill || op.Kind == Stop)
		},
	},
	{
		"there is no such watch stream",
		func(s *state, op Operation) bool {
			return op.isOfStream() && op.Kind != WatchCreate && s.watches[op.Stream] == nil
		},
	},
	{
		// etcd sends the change at the compacted revision without its previous value, which Kubernetes takes for an internal
		// error. Orlop cancels the watch as compacted.
		"a watch with previous values from exactly the compacted revision on",
		func(s *state, op Operation) bool {
			request, ok := op.Request.(*pb.WatchCreateRequest)
			return ok && request.PrevKv && request.StartRevision > 0 && request.StartRevision == s.compacted
		},
	},
	{
		// etcd forgets a question for progress that it cannot answer yet; Orlop answers it when it can. A stream without
		// watchers gets no answer from either, which could only be shown by waiting.
		"progress of a stream without watchers, or with one that waits for a later revision",
		func(s *state, op Operation) bool {
			return op.Kind == WatchProgress && !s.canTellProgress(op.Stream)
		},
	},
	{
		// etcd keeps such a watcher in its stream until the client cancels it once more: meanwhile its id is taken, and the
		// stream never tells progress. In Orlop it is gone.
		"a stream's progress, or the id of a watcher, after the watcher was cancelled as compacted",
		func(s *state, op Operation) bool { return op.isOfStream() && s.meetsGhost(op) },
	},
	{
		// etcd overlooks these and lets one key change twice at one revision.
		"a transaction that changes a key twice without etcd seeing it",
		func(_ *state, op Operation) bool {
			request, ok := op.Request.(*pb.TxnRequest)
			return ok && overlooked(request)
		},
	},
	{
		// etcd takes -1 for its own mark of "never compacted" and reads the newest state, until the first compaction. Orlop
		// refuses it as compacted, as it and etcd do with every other negative number.
		"a range at revision -1 in a transaction, while nothing was ever compacted",
		func(s *state, op Operation) bool {
			request, ok := op.Request.(*pb.TxnRequest)
			return ok && len(s.compactions) == 0 && readsAtMinusOne(request)
		},
	},
	{
		"a RangeStream with something to order by and no order: etcd loses keys there",
		func(_ *state, op Operation) bool {
			request, ok := op.Request.(*pb.RangeRequest)
			return ok && op.Kind == "RangeStream" &&
				request.SortOrder == pb.RangeRequest_NONE && request.SortTarget != pb.RangeRequest_KEY
		},
	},
	{
		// etcd remembers what it had hashed then, and answers with it; 0 stands for the newest revision otherwise.
		"HashKV of a revision, or of 0, at which history was compacted",
		func(s *state, op Operation) bool {
			request, ok := op.Request.(*pb.HashKVRequest)
			return ok && s.compactions[request.Revision]
		},
	},
	{
		"a lease that may expire at any moment",
		func(s *state, op Operation) bool {
			found := false
			if op.Request != nil {
				visitInt64s(op.Request.ProtoReflect(), func(name string, value int64) int64 {
					found = found || isLeaseField(name) && s.shortLeases[value]
					return value
				})
			}
			return found
		},
	},
	{
		"an order between lease ids that the stores chose",
		func(_ *state, op Operation) bool {
			request, ok := op.Request.(*pb.TxnRequest)
			return ok && anyCompare(request, func(c *pb.Compare) bool {
				return c.GetLease() >= firstChosenLease && (c.Result == pb.Compare_LESS || c.Result == pb.Compare_GREATER)
			})
		},
	},
}

// excused returns why an operation is not sent, or nothing.
func (s *state) excused(op Operation) string {
	for _, excuse := range excuses {
		if excuse.applies(s, op) {
			return excuse.why
		}
	}
	return ""
}

func (s *state) canTellProgress(stream int) bool {
	for _, w := range s.watches[stream] {
		if w.first > s.revision && w.request.StartRevision != 0 {
			return false
		}
	}
	return len(s.watches[stream]) > 0 && len(s.ghosts[stream]) == 0
}

func (s *state) meetsGhost(op Operation) bool {
	ghosts := s.ghosts[op.Stream]
	switch request := op.Request.(type) {
	case *pb.WatchCancelRequest:
		_, is := ghosts[request.WatchId]
		return is
	case *pb.WatchCreateRequest:
		_, is := ghosts[request.WatchId]
		if request.WatchId == 0 {
			// The store chooses an id, and might meet the ghost of one that a client chose.
			is = slices.Contains(slices.Collect(maps.Values(ghosts)), true)
		}
		return is
	}
	return op.Kind == WatchProgress && len(ghosts) > 0
}

func anyCompare(txn *pb.TxnRequest, is func(*pb.Compare) bool) bool {
	if slices.ContainsFunc(txn.Compare, is) {
		return true
	}
	return slices.ContainsFunc(slices.Concat(txn.Success, txn.Failure), func(op *pb.RequestOp) bool {
		inner := op.GetRequestTxn()
		return inner != nil && anyCompare(inner, is)
	})
}

func readsAtMinusOne(txn *pb.TxnRequest) bool {
	return slices.ContainsFunc(slices.Concat(txn.Success, txn.Failure), func(op *pb.RequestOp) bool {
		inner := op.GetRequestTxn()
		return op.GetRequestRange().GetRevision() == -1 || inner != nil && readsAtMinusOne(inner)
	})
}

// overlooked says whether a branch puts a key in one nested transaction and deletes it in a later one, or puts a key that
// it deletes by a range without end.
func overlooked(txn *pb.TxnRequest) bool {
	return overlookedIn(txn.Success) || overlookedIn(txn.Failure)
}

func overlookedIn(branch []*pb.RequestOp) bool {
	var before []*pb.PutRequest
	puts, deletes := writes(branch)
	for _, del := range deletes {
		if string(del.RangeEnd) == "\x00" && slices.ContainsFunc(puts, func(put *pb.PutRequest) bool { return covers(del, put) }) {
			return true
		}
	}
	for _, op := range branch {
		inner := op.GetRequestTxn()
		if inner == nil {
			continue
		}
		if overlooked(inner) {
			return true
		}
		innerPuts, innerDeletes := writes([]*pb.RequestOp{op})
		for _, put := range before {
			if slices.ContainsFunc(innerDeletes, func(del *pb.DeleteRangeRequest) bool { return covers(del, put) }) {
				return true
			}
		}
		before = append(before, innerPuts...)
	}
	return false
}

// writes returns all puts and deletes of a branch and of every branch in it.
func writes(branch []*pb.RequestOp) (puts []*pb.PutRequest, deletes []*pb.DeleteRangeRequest) {
	for _, op := range branch {
		switch {
		case op.GetRequestPut() != nil:
			puts = append(puts, op.GetRequestPut())
		case op.GetRequestDeleteRange() != nil:
			deletes = append(deletes, op.GetRequestDeleteRange())
		case op.GetRequestTxn() != nil:
			p, d := writes(slices.Concat(op.GetRequestTxn().Success, op.GetRequestTxn().Failure))
			puts, deletes = append(puts, p...), append(deletes, d...)
		}
	}
	return puts, deletes
}

func covers(del *pb.DeleteRangeRequest, put *pb.PutRequest) bool {
	return inRange(put.Key, del.Key, del.RangeEnd)
}

// inRange says whether a key is in a range of the API: one key, a range without end, or a half-open one.
func inRange(key, from, end []byte) bool {
	switch {
	case len(end) == 0:
		return string(key) == string(from)
	case string(end) == "\x00":
		return string(key) >= string(from)
	default:
		return string(key) >= string(from) && string(key) < string(end)
	}
}

// Go's text of a protobuf message has one space or two, as each build draws by lot.
var memberInText = regexp.MustCompile(`memberID:\d+ *`)

// normalise makes an answer comparable with the other store's. What is missing, though every store has it, is an error.
func (s *side) normalise(response proto.Message, known *state) error {
	if err := s.clearIdentity(response); err != nil {
		return err
	}
	s.leases.toNames(response)
	switch response := response.(type) {
	case *pb.LeaseTimeToLiveResponse:
		// Time passes between the two answers.
		if response.TTL > response.GrantedTTL {
			return breached("%d s are left of a lease of %d s", response.TTL, response.GrantedTTL)
		}
		if response.TTL > 0 {
			response.TTL = response.GrantedTTL
		}
		// Neither store promises an order.
		slices.SortFunc(response.Keys, slices.Compare[[]byte])
	case *pb.LeaseLeasesResponse:
		response.Leases = slices.DeleteFunc(response.Leases, func(l *pb.LeaseStatus) bool { return known.shortLeases[l.ID] })
		slices.SortFunc(response.Leases, func(a, b *pb.LeaseStatus) int { return cmp.Compare(a.ID, b.ID) })
	case *pb.HashKVResponse:
		// It covers each store's own encoding.
		response.Hash = 0
	case *pb.AlarmResponse:
		for _, alarm := range response.Alarms {
			if alarm.MemberID != s.member {
				return breached("an alarm of member %x, which is not there: it is %x", alarm.MemberID, s.member)
			}
			alarm.MemberID = 0
		}
	case *pb.StatusResponse:
		s.normaliseStatus(response)
	}
	return nil
}

// normaliseStatus keeps what a client decides by. Sizes, quota and Raft's numbers are each store's own, and etcd names its
// storage version only after some time.
func (s *side) normaliseStatus(response *pb.StatusResponse) {
	kept := &pb.StatusResponse{Header: response.Header, Version: response.Version, IsLearner: response.IsLearner}
	for _, text := range response.Errors {
		kept.Errors = append(kept.Errors, memberInText.ReplaceAllString(text, ""))
	}
	slices.Sort(kept.Errors)
	proto.Reset(response)
	proto.Merge(response, kept)
}

// clearIdentity clears what names a store, after checking that it is there.
func (s *side) clearIdentity(response proto.Message) error {
	header := response.(interface{ GetHeader() *pb.ResponseHeader }).GetHeader()
	if header == nil {
		return nil
	}
	if s.member == 0 {
		s.member = header.MemberId
	}
	known := header.MemberId == s.member || s.fleet && header.MemberId == s.asked
	if header.ClusterId == 0 || !known || header.RaftTerm == 0 && !isWatch(response) {
		return breached("a header must name the cluster, the same member as ever and the term: %v", header)
	}
	header.ClusterId, header.MemberId, header.RaftTerm = 0, 0, 0
	return nil
}

func isWatch(response proto.Message) bool {
	_, ok := response.(*pb.WatchResponse)
	return ok
}

func isLeaseField(name string) bool { return name == "lease" || name == "ID" }

// leaseNames knows which id one store has chosen for each lease that a stream names.
type leaseNames struct{ ids, names map[int64]int64 }

func newLeaseNames() leaseNames {
	return leaseNames{ids: map[int64]int64{}, names: map[int64]int64{}}
}

func (l leaseNames) add(name, id int64) { l.ids[name], l.names[id] = id, name }

func (l leaseNames) toNames(message proto.Message) { replaceLeases(message, l.names) }

func (l leaseNames) toIDs(message proto.Message) { replaceLeases(message, l.ids) }

func replaceLeases(message proto.Message, with map[int64]int64) {
	visitInt64s(message.ProtoReflect(), func(name string, value int64) int64 {
		if other, ok := with[value]; ok && isLeaseField(name) {
			return other
		}
		return value
	})
}
