package differential

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/orlop/orlop/tests/etcd/wire"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

// Difference is the first operation at which the stores did not agree.
type Difference struct {
	Index int
	Op    Operation
	// What differed, in words of which there are few: a smaller stream shows the same difference if it has the same What for
	// the same kind of operation.
	What        string
	Etcd, Orlop string
}

func (d *Difference) isLike(other *Difference) bool {
	return other != nil && d.Op.Kind == other.Op.Kind && d.What == other.What
}

// finish is the kind of what comes after the last operation.
const finish Kind = "Finish"

// Run is a stream while it runs on two stores.
type Run struct {
	*pair
	state
	// Sent has the operations that were sent, Before the revision before each of them.
	Sent   []Operation
	Before []int64
	// history has all events so far, as etcd told them.
	history []*mvccpb.Event
	// unfenced is set when etcd may not have caught up with a watcher that began in the past.
	unfenced bool
}

// Start starts two empty stores for a stream.
func Start(t *testing.T, setup Setup) *Run {
	t.Helper()
	r := &Run{
		pair: startPair(t, setup),
		state: state{
			revision: 1, forgetful: setup.Forgetful, compactions: map[int64]bool{},
			shortLeases: map[int64]bool{}, watches: map[int]map[int64]*watcher{},
			ghosts: map[int]map[int64]bool{}, alarms: map[pb.AlarmType]bool{},
		},
	}
	if d := r.openTails(); d != nil {
		t.Fatalf("watching two new stores: %v", d)
	}
	return r
}

// Step sends one operation to both stores, unless there is an excuse for it, and compares the outcomes.
func (r *Run) Step(op Operation) *Difference {
	if r.excused(op) != "" {
		return nil
	}
	r.Sent, r.Before = append(r.Sent, op), append(r.Before, r.revision)
	var d *Difference
	switch op.Kind {
	case WatchCreate:
		d = r.createWatcher(op)
	case WatchCancel:
		d = r.cancelWatcher(op)
	case WatchProgress:
		d = r.askProgress(op.Stream)
	case WatchClose:
		d = r.closeStream(op.Stream)
	case Kill, Stop:
		d = r.restart(op.Kind)
	case "Compact":
		// What was not sent before may be compacted.
		if d = r.settle(); d == nil {
			d = r.fence()
		}
		if d == nil {
			d = r.call(op)
		}
	default:
		d = r.call(op)
	}
	return r.at(d, op)
}

// Finish compares what both stores may still have to say.
func (r *Run) Finish() *Difference {
	if d := r.settle(); d != nil {
		return r.at(d, Operation{Kind: finish})
	}
	for number := range r.watches {
		if !r.canTellProgress(number) {
			continue
		}
		if d := r.askProgress(number); d != nil {
			return r.at(d, Operation{Kind: finish})
		}
	}
	return nil
}

func (r *Run) at(d *Difference, op Operation) *Difference {
	if d != nil {
		d.Index, d.Op = len(r.Sent)-1, op
	}
	return d
}

func (r *Run) call(op Operation) *Difference {
	etcd, orlop := r.both(func(s *side) (proto.Message, error) { return s.call(op) })
	if granted, ok := etcd.response.(*pb.LeaseGrantResponse); ok && granted.TTL < shortTTLSecs {
		r.shortLeases[op.Request.(*pb.LeaseGrantRequest).ID] = true
	}
	for s, o := range map[*side]*outcome{r.etcd: &etcd, r.orlop: &orlop} {
		if o.err == nil {
			o.err = s.normalise(o.response, &r.state)
		}
	}
	if orlop.err == nil && r.setup.Distort != nil {
		r.setup.Distort(op, orlop.response)
	}
	if d := compare("the answer", etcd, orlop); d != nil {
		return d
	}
	if etcd.err == nil {
		r.learn(op, etcd.response)
	}
	return nil
}

// learn keeps of an answer what later operations depend on.
func (r *Run) learn(op Operation, response proto.Message) {
	header := response.(interface{ GetHeader() *pb.ResponseHeader }).GetHeader()
	r.revision = max(r.revision, header.GetRevision())
	switch request := op.Request.(type) {
	case *pb.CompactionRequest:
		r.compacted = max(r.compacted, request.Revision)
		r.compactions[request.Revision] = true
	case *pb.AlarmRequest:
		if request.Action != pb.AlarmRequest_GET {
			r.alarms[request.Alarm] = request.Action == pb.AlarmRequest_ACTIVATE
		}
	}
}

func compare(what string, etcd, orlop outcome) *Difference {
	d := &Difference{What: what, Etcd: etcd.String(), Orlop: orlop.String()}
	for _, o := range []outcome{etcd, orlop} {
		var b breach
		if errors.As(o.err, &b) {
			d.What = "a promise"
			d.Orlop += "\n(" + b.Error() + ")"
			return d
		}
	}
	switch {
	case etcd.err != nil && orlop.err != nil:
		if !wire.SameStatus(etcd.err, orlop.err) {
			d.What = "the error"
			return d
		}
	case etcd.err != nil:
		d.What = "success for an error"
		return d
	case orlop.err != nil:
		d.What = "an error for success"
		return d
	case !proto.Equal(etcd.response, orlop.response):
		d.Orlop += "\n(- etcd, + orlop)\n" + cmp.Diff(etcd.response, orlop.response, protocmp.Transform())
		return d
	}
	return nil
}

// restart ends both processes and starts them again. All watch streams end with them.
func (r *Run) restart(how Kind) *Difference {
	if d := r.settle(); d != nil {
		return d
	}
	for number := range r.watches {
		r.dropStream(number)
	}
	for _, s := range r.sides() {
		s.tail.end()
		if how == Kill {
			s.store.Kill9()
		} else {
			s.store.Stop()
		}
		s.store.Restart()
		s.client = wire.Connect(r.t, s.store)
	}
	return r.openTails()
}

// openTails watches everything from the next revision on.
func (r *Run) openTails() *Difference {
	etcd, orlop := r.both(func(s *side) (proto.Message, error) {
		var err error
		if s.tail, err = s.openStream(); err != nil {
			return nil, err
		}
		all := &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: r.revision + 1, PrevKv: true}
		if err := s.tail.create(all); err != nil {
			return nil, err
		}
		if err := s.tail.until("the tail is created", func() bool { return len(s.tail.created) > 0 }); err != nil {
			return nil, err
		}
		return s.tail.created[0], nil
	})
	return compare("a watch of everything", etcd, orlop)
}

// fence waits until etcd has caught up with every watcher. It does so for all of them at once, some time after they were
// created; so a last one, for which there is an event, shows that the others before it are done, too.
func (r *Run) fence() *Difference {
	if !r.unfenced || r.revision == 1 {
		return nil
	}
	err := func() error {
		fence, err := r.etcd.openStream()
		if err != nil {
			return err
		}
		defer fence.end()
		all := &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: r.revision}
		if err := fence.create(all); err != nil {
			return err
		}
		return fence.until("the newest event", func() bool {
			return fence.watchers[0] != nil && len(fence.watchers[0].events) > 0
		})
	}()
	if err != nil {
		return &Difference{What: "etcd fails", Etcd: err.Error()}
	}
	r.unfenced = false
	return nil
}

// settle waits until both stores have sent every event up to now to every watcher, and compares them.
func (r *Run) settle() *Difference {
	newest := Operation{Kind: "Range", Request: &pb.RangeRequest{Key: []byte("absent"), CountOnly: true}}
	if d := r.call(newest); d != nil {
		return d
	}
	if d := r.extendHistory(); d != nil {
		return d
	}
	for number, watchers := range r.watches {
		for id, w := range watchers {
			if d := r.settleWatcher(number, id, w); d != nil {
				return d
			}
		}
	}
	return nil
}

func (r *Run) extendHistory() *Difference {
	if n := len(r.history); n > 0 && r.history[n-1].Kv.ModRevision >= r.revision || r.revision == 1 {
		return nil
	}
	d := r.eventsOf("a watch of everything", func(s *side) *watchStream { return s.tail }, 0, func(events []*mvccpb.Event) bool {
		return len(events) > 0 && events[len(events)-1].Kv.ModRevision >= r.revision
	})
	if d == nil {
		r.history = append(r.history, takeEvents(r.etcd.tail, 0)...)
		takeEvents(r.orlop.tail, 0)
	}
	return d
}

func (r *Run) settleWatcher(number int, id int64, w *watcher) *Difference {
	expected := 0
	for _, event := range r.history[w.next:] {
		if w.wants(event) {
			expected++
		}
	}
	d := r.eventsOf("the events of a watcher", func(s *side) *watchStream { return s.streams[number] }, id,
		func(events []*mvccpb.Event) bool { return len(events) >= expected })
	if d == nil {
		w.next = len(r.history)
		for _, s := range r.sides() {
			takeEvents(s.streams[number], id)
		}
		if cancelled := r.etcd.streams[number].watchers[id].cancelled; cancelled != nil {
			r.forget(number, id, cancelled)
		}
	}
	return d
}

func takeEvents(w *watchStream, id int64) []*mvccpb.Event {
	events := w.watchers[id].events
	w.watchers[id].events = nil
	return events
}

// eventsOf waits until both stores have sent enough to a watcher, or have cancelled it, and compares what they sent.
func (r *Run) eventsOf(what string, stream func(*side) *watchStream, id int64, enough func([]*mvccpb.Event) bool) *Difference {
	etcd, orlop := r.both(func(s *side) (proto.Message, error) {
		from := stream(s)
		err := from.until(what, func() bool {
			return enough(from.watchers[id].events) || from.watchers[id].cancelled != nil
		})
		all := &pb.WatchResponse{Events: from.watchers[id].events}
		if cancelled := from.watchers[id].cancelled; cancelled != nil {
			proto.Merge(all, cancelled)
		}
		if err != nil {
			return nil, fmt.Errorf("%w; have %v", err, all)
		}
		return all, nil
	})
	return compare(what, etcd, orlop)
}
