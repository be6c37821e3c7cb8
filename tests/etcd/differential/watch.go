package differential

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// The watch id of what concerns all watchers of a stream.
const broadcastID = -1

// watcher is one watcher on both stores.
type watcher struct {
	request *pb.WatchCreateRequest
	// first is the first revision whose events it gets.
	first int64
	// next is the place in the history up to which its events are accounted for.
	next int
}

// wants says whether the watcher gets an event.
func (w *watcher) wants(event *mvccpb.Event) bool {
	from := w.request.Key
	if len(from) == 0 {
		from = []byte{0}
	}
	if event.Kv.ModRevision < w.first || !inRange(event.Kv.Key, from, w.request.RangeEnd) {
		return false
	}
	for _, filter := range w.request.Filters {
		if filter == pb.WatchCreateRequest_NOPUT && event.Type == mvccpb.Event_PUT ||
			filter == pb.WatchCreateRequest_NODELETE && event.Type == mvccpb.Event_DELETE {
			return false
		}
	}
	return true
}

// received is what one store has sent for one watcher and nobody has compared yet.
type received struct {
	events    []*mvccpb.Event
	cancelled *pb.WatchResponse
	// upTo is the revision up to which everything was sent, cut whether the last response is continued by another one.
	upTo int64
	cut  bool
}

// watchStream is one stream on one store. What arrives is checked against what every watch guarantees: order, no revision
// split over two responses, no header below an event, nothing at or below a revision that progress has claimed.
type watchStream struct {
	side      *side
	stream    pb.Watch_WatchClient
	end       context.CancelFunc
	responses chan *pb.WatchResponse
	ended     chan error

	created  []*pb.WatchResponse
	progress []*pb.WatchResponse
	watchers map[int64]*received
}

func (s *side) openStream() (*watchStream, error) {
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := s.client.Watch.Watch(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	w := &watchStream{
		side: s, stream: stream, end: cancel,
		responses: make(chan *pb.WatchResponse, 64), ended: make(chan error, 1),
		watchers: map[int64]*received{},
	}
	go w.receive(ctx)
	return w, nil
}

func (w *watchStream) receive(ctx context.Context) {
	for {
		response, err := w.stream.Recv()
		if err != nil {
			w.ended <- err
			return
		}
		select {
		case w.responses <- response:
		case <-ctx.Done():
			return
		}
	}
}

func (w *watchStream) create(request *pb.WatchCreateRequest) error {
	return w.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}})
}

func (w *watchStream) cancel(id int64) error {
	request := &pb.WatchCancelRequest{WatchId: id}
	return w.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: request}})
}

func (w *watchStream) askProgress() error {
	request := &pb.WatchProgressRequest{}
	return w.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: request}})
}

// until takes what arrives until the condition holds.
func (w *watchStream) until(what string, holds func() bool) error {
	deadline := time.After(requestDeadline)
	for !holds() {
		select {
		case response := <-w.responses:
			if err := w.take(response); err != nil {
				return err
			}
		case err := <-w.ended:
			return fmt.Errorf("the watch stream ended: %w", err)
		case <-deadline:
			return breached("not sent within %v: %s", requestDeadline, what)
		}
	}
	return nil
}

// progressTo asks for progress and returns the answer that claims the revision. etcd forgets a question that it is not yet
// ready to answer, so the question is asked again there; an answer to one before it is passed over.
func (w *watchStream) progressTo(revision int64, again time.Duration) (*pb.WatchResponse, error) {
	w.progress = nil
	for deadline := time.Now().Add(requestDeadline); time.Now().Before(deadline); {
		if err := w.askProgress(); err != nil {
			return nil, err
		}
		patience := time.After(again)
		for asked := true; asked; {
			select {
			case response := <-w.responses:
				if err := w.take(response); err != nil {
					return nil, err
				}
			case err := <-w.ended:
				return nil, fmt.Errorf("the watch stream ended: %w", err)
			case <-patience:
				asked = false
			}
			if n := len(w.progress); n > 0 && w.progress[n-1].Header.Revision >= revision {
				return w.progress[n-1], nil
			}
		}
	}
	return nil, breached("no progress to %d was told within %v", revision, requestDeadline)
}

func (w *watchStream) take(response *pb.WatchResponse) error {
	if err := w.side.clearIdentity(response); err != nil {
		return err
	}
	w.side.leases.toNames(response)
	id := response.WatchId
	if response.Created {
		if !response.Canceled {
			w.watchers[id] = &received{}
		}
		w.created = append(w.created, response)
		return nil
	}
	if id == broadcastID {
		for _, each := range w.watchers {
			each.upTo = max(each.upTo, response.Header.Revision)
		}
		w.progress = append(w.progress, response)
		return nil
	}
	to, ok := w.watchers[id]
	if !ok || to.cancelled != nil {
		return breached("a response for watcher %d, which is not there: %v", id, response)
	}
	return to.take(response)
}

func (r *received) take(response *pb.WatchResponse) error {
	for i, event := range response.Events {
		revision := event.Kv.ModRevision
		switch {
		case revision > response.Header.Revision:
			return breached("a header is at %d, below its event at %d", response.Header.Revision, revision)
		case revision < r.upTo:
			return breached("an event at %d after one, or a claim of progress, at %d", revision, r.upTo)
		case revision == r.upTo && i == 0 && !r.cut:
			return breached("revision %d is split over two responses, or comes after progress to it", revision)
		}
		r.upTo = revision
	}
	r.cut = response.Fragment
	r.events = append(r.events, response.Events...)
	switch {
	case response.Canceled:
		if response.CompactRevision != 0 {
			// etcd leaves the revision out of the header of this one response, and no client reads it.
			response.Header.Revision = 0
		}
		r.cancelled = response
	case len(response.Events) == 0:
		r.upTo = max(r.upTo, response.Header.Revision)
	}
	return nil
}
