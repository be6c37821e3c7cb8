package differential

import (
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// How soon etcd is asked again for progress that it was not yet ready to tell.
const progressAgain = 50 * time.Millisecond

// createWatcher also waits for the end of a watcher that begins below the compaction.
func (r *Run) createWatcher(op Operation) *Difference {
	request := op.Request.(*pb.WatchCreateRequest)
	if r.watches[op.Stream] == nil {
		if d := r.openStream(op.Stream); d != nil {
			return d
		}
	}
	etcd, orlop := r.both(func(s *side) (proto.Message, error) {
		stream := s.streams[op.Stream]
		if err := stream.create(proto.CloneOf(request)); err != nil {
			return nil, err
		}
		if err := stream.until("the watcher is created", func() bool { return len(stream.created) > 0 }); err != nil {
			return nil, err
		}
		created := stream.created[0]
		stream.created = nil
		return created, nil
	})
	if d := compare("the created response", etcd, orlop); d != nil {
		return d
	}
	created := etcd.response.(*pb.WatchResponse)
	if created.Canceled {
		return nil
	}
	w := &watcher{request: request, first: request.StartRevision}
	if request.StartRevision == 0 {
		w.first = created.Header.Revision + 1
	}
	r.watches[op.Stream][created.WatchId] = w
	past := request.StartRevision > 0 && request.StartRevision <= r.revision
	r.unfenced = r.unfenced || past
	if past && request.StartRevision < r.compacted {
		return r.awaitCancelled(op.Stream, created.WatchId)
	}
	return nil
}

func (r *Run) openStream(number int) *Difference {
	etcd, orlop := r.both(func(s *side) (proto.Message, error) {
		stream, err := s.openStream()
		s.streams[number] = stream
		return &pb.WatchResponse{}, err
	})
	r.watches[number], r.ghosts[number] = map[int64]*watcher{}, map[int64]bool{}
	return compare("a new stream", etcd, orlop)
}

func (r *Run) cancelWatcher(op Operation) *Difference {
	if d := r.settle(); d != nil {
		return d
	}
	id := op.Request.(*pb.WatchCancelRequest).WatchId
	for _, s := range r.sides() {
		if err := s.streams[op.Stream].cancel(id); err != nil {
			return &Difference{What: s.name + " fails", Orlop: err.Error()}
		}
	}
	if r.watches[op.Stream][id] == nil {
		// Nobody answers; an answer all the same would be for a watcher that is not there.
		return nil
	}
	return r.awaitCancelled(op.Stream, id)
}

// awaitCancelled compares how both stores say that a watcher is no more.
func (r *Run) awaitCancelled(number int, id int64) *Difference {
	etcd, orlop := r.both(func(s *side) (proto.Message, error) {
		stream := s.streams[number]
		err := stream.until("the watcher is cancelled", func() bool { return stream.watchers[id].cancelled != nil })
		if err != nil {
			return nil, err
		}
		return stream.watchers[id].cancelled, nil
	})
	if d := compare("the cancellation", etcd, orlop); d != nil {
		return d
	}
	r.forget(number, id, etcd.response.(*pb.WatchResponse))
	return nil
}

func (r *Run) forget(number int, id int64, cancelled *pb.WatchResponse) {
	if cancelled.CompactRevision != 0 {
		r.ghosts[number][id] = r.watches[number][id].request.WatchId != 0
	}
	delete(r.watches[number], id)
	for _, s := range r.sides() {
		delete(s.streams[number].watchers, id)
	}
}

// askProgress asks when both stores have told everything, so that the answer is the newest revision.
func (r *Run) askProgress(number int) *Difference {
	if d := r.settle(); d != nil {
		return d
	}
	if !r.canTellProgress(number) {
		return nil
	}
	etcd, orlop := r.both(func(s *side) (proto.Message, error) {
		again := requestDeadline
		if s == r.etcd {
			again = progressAgain
		}
		return progressOf(s.streams[number], r.revision, again)
	})
	return compare("progress", etcd, orlop)
}

func progressOf(stream *watchStream, revision int64, again time.Duration) (proto.Message, error) {
	told, err := stream.progressTo(revision, again)
	if err != nil {
		return nil, err
	}
	return told, nil
}

func (r *Run) closeStream(number int) *Difference {
	if d := r.settle(); d != nil {
		return d
	}
	r.dropStream(number)
	return nil
}

func (r *Run) dropStream(number int) {
	delete(r.watches, number)
	delete(r.ghosts, number)
	for _, s := range r.sides() {
		s.streams[number].end()
		delete(s.streams, number)
	}
}
