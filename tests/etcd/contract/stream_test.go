package contract

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// How long nothing must arrive before a test believes that nothing was sent. It only has to be long enough to catch a
// store that answers what it must not; it decides over no success.
const quietPeriod = 300 * time.Millisecond

// The watch id of what concerns all watchers of a stream, and of a watcher that was refused.
const broadcastID = -1

// watchStream is one gRPC stream of watches on one store. What is received is checked against what every watch
// guarantees: order, no revision split over two responses, no header below an event.
type watchStream struct {
	t         *testing.T
	name      string
	stream    pb.Watch_WatchClient
	responses chan *pb.WatchResponse
	ended     chan error
	// sent holds, per watcher, the revision up to which everything was sent.
	sent map[int64]int64
	// cut holds the watchers whose last response was a fragment that another one continues.
	cut map[int64]bool
}

func (s *side) openWatch(t *testing.T) *watchStream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	stream, err := s.watch.Watch(ctx)
	if err != nil {
		t.Fatalf("%s: opening a watch stream: %v", s.name, err)
	}
	w := &watchStream{
		t:         t,
		name:      s.name,
		stream:    stream,
		responses: make(chan *pb.WatchResponse, 1024),
		ended:     make(chan error, 1),
		sent:      map[int64]int64{},
		cut:       map[int64]bool{},
	}
	go w.receive()
	return w
}

func (w *watchStream) receive() {
	for {
		response, err := w.stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			w.ended <- err
			return
		}
		w.responses <- response
	}
}

func (w *watchStream) send(request *pb.WatchRequest) {
	w.t.Helper()
	if err := w.stream.Send(request); err != nil {
		w.t.Fatalf("%s: sending %v: %v", w.name, request, err)
	}
}

func (w *watchStream) next() *pb.WatchResponse {
	w.t.Helper()
	select {
	case response := <-w.responses:
		w.check(response)
		return response
	case err := <-w.ended:
		w.t.Fatalf("%s: the watch stream ended: %v", w.name, err)
	case <-time.After(requestDeadline):
		w.t.Fatalf("%s: nothing arrived on the watch stream within %v", w.name, requestDeadline)
	}
	return nil
}

// events reads until n events of a watcher have arrived. The number of responses that bring them is the store's choice.
func (w *watchStream) events(id int64, n int) []*mvccpb.Event {
	w.t.Helper()
	var events []*mvccpb.Event
	for len(events) < n {
		response := w.next()
		if response.WatchId != id || response.Canceled || response.Created {
			w.t.Fatalf("%s: expected %d events of watcher %d, have %d and got %v", w.name, n, id, len(events), response)
		}
		events = append(events, response.Events...)
	}
	if len(events) > n {
		w.t.Fatalf("%s: %d events, expected %d: %v", w.name, len(events), n, events)
	}
	return events
}

// quiet requires that nothing arrives.
func (w *watchStream) quiet() {
	w.t.Helper()
	select {
	case response := <-w.responses:
		w.t.Fatalf("%s: nothing was expected, got %v", w.name, response)
	case err := <-w.ended:
		w.t.Fatalf("%s: the watch stream ended: %v", w.name, err)
	case <-time.After(quietPeriod):
	}
}

func (w *watchStream) check(response *pb.WatchResponse) {
	w.t.Helper()
	if response.Header == nil || response.Header.ClusterId == 0 || response.Header.MemberId == 0 {
		w.t.Fatalf("%s: a response without a full header: %v", w.name, response)
	}
	sent := w.sent[response.WatchId]
	for i, event := range response.Events {
		revision := event.Kv.ModRevision
		switch {
		case revision > response.Header.Revision:
			w.t.Fatalf("%s: the header is at %d, below its event at %d", w.name, response.Header.Revision, revision)
		case revision < sent:
			w.t.Fatalf("%s: an event at %d after %d", w.name, revision, sent)
		case revision == sent && i == 0 && !w.cut[response.WatchId]:
			w.t.Fatalf("%s: revision %d is split over two responses", w.name, revision)
		}
		sent = revision
	}
	w.cut[response.WatchId] = response.Fragment
	switch {
	case response.Created || response.Canceled:
		delete(w.sent, response.WatchId)
	case len(response.Events) > 0:
		w.sent[response.WatchId] = sent
	case response.WatchId == broadcastID:
		for id := range w.sent {
			w.sent[id] = max(w.sent[id], response.Header.Revision)
		}
	default:
		w.sent[response.WatchId] = max(sent, response.Header.Revision)
	}
}

// watches is a stream on each store, fed with the same requests.
type watches struct {
	pair  *pair
	etcd  *watchStream
	orlop *watchStream
}

func (p *pair) openWatches() *watches {
	p.t.Helper()
	return &watches{pair: p, etcd: p.etcd.openWatch(p.t), orlop: p.orlop.openWatch(p.t)}
}

// create asks for a watcher and requires the same first answer from both stores.
func (w *watches) create(request *pb.WatchCreateRequest) *pb.WatchResponse {
	w.pair.t.Helper()
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}})
	return w.next()
}

func (w *watches) cancel(id int64) {
	w.pair.t.Helper()
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
}

func (w *watches) askProgress() {
	w.pair.t.Helper()
	w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
}

func (w *watches) send(request *pb.WatchRequest) {
	w.pair.t.Helper()
	w.etcd.send(proto.CloneOf(request))
	w.orlop.send(proto.CloneOf(request))
}

// next requires the same next response from both stores and returns it.
func (w *watches) next() *pb.WatchResponse {
	w.pair.t.Helper()
	etcd, orlop := w.etcd.next(), w.orlop.next()
	clearIdentity(w.pair.t, "etcd", etcd)
	clearIdentity(w.pair.t, "orlop", orlop)
	if etcd.CompactRevision != 0 {
		// etcd leaves the revision out of the header of this one response, and no client reads it.
		etcd.Header.Revision, orlop.Header.Revision = 0, 0
	}
	requireSame(w.pair.t, "a watch response", etcd, orlop)
	return orlop
}

// events requires the same n events of a watcher from both stores, however they are grouped into responses.
func (w *watches) events(id int64, n int) []*mvccpb.Event {
	w.pair.t.Helper()
	etcd, orlop := w.etcd.events(id, n), w.orlop.events(id, n)
	requireSame(w.pair.t, "the events of a watch", etcd, orlop)
	return orlop
}

func (w *watches) quiet() {
	w.pair.t.Helper()
	w.etcd.quiet()
	w.orlop.quiet()
}
