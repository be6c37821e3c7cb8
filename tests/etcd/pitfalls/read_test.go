package pitfalls

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/orlop/orlop/tests/harness"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// kine counted what it returned. kube-apiserver takes count for the number of all keys: a list would end after its first
// page, and controllers delete what they believe gone.
func TestPitfall01CountIsRightWhenTheLimitCuts(t *testing.T) {
	onBoth(t, func(s *store) {
		const keys, limit = 25, 10
		var last int64
		for i := range keys {
			last = s.put(fmt.Sprintf("k%02d", i), "v")
		}
		s.put("k99", "later")
		request := prefix("k")
		request.Limit = limit
		for revision, count := range map[int64]int64{0: keys + 1, last: keys, last - 5: keys - 5} {
			request.Revision = revision
			page := s.get(request)
			if page.Count != count || !page.More || len(page.Kvs) != limit {
				s.t.Errorf("at %d: count %d, more %v, %d keys; expected %d, true, %d", revision, page.Count, page.More, len(page.Kvs), count, limit)
			}
		}
	})
}

// kine#676: a list at a revision lacked a key that a transaction with a lower revision committed later. A client that lists
// and then watches from there would never hear of the key.
func TestPitfall04AListAndTheWatchBehindItMissNothing(t *testing.T) {
	const writers, writes, lists = 8, 150, 30
	onBoth(t, func(s *store) {
		var group sync.WaitGroup
		for writer := range writers {
			group.Go(func() {
				for i := range writes {
					name := fmt.Sprintf("k/%d/%d", writer, i%10)
					var err error
					if i%4 == 3 {
						_, err = s.KV.DeleteRange(s.context(), &pb.DeleteRangeRequest{Key: []byte(name)})
					} else {
						_, err = s.KV.Put(s.context(), &pb.PutRequest{Key: []byte(name), Value: fmt.Append(nil, i)})
					}
					if err != nil {
						s.t.Errorf("writing %s: %v", name, err)
					}
				}
			})
		}
		var listed []*pb.RangeResponse
		for range lists {
			listed = append(listed, s.get(prefix("k/")))
		}
		group.Wait()
		final := s.get(prefix("k/"))
		for _, list := range listed {
			again := prefix("k/")
			again.Revision = list.Header.Revision
			if later := s.get(again); !slices.EqualFunc(later.Kvs, list.Kvs, func(a, b *mvccpb.KeyValue) bool { return proto.Equal(a, b) }) {
				s.t.Fatalf("a list at %d changed afterwards: %v, then %v", list.Header.Revision, list.Kvs, later.Kvs)
			}
			s.requireFollows(list, final)
		}
	})
}

// requireFollows requires that a list, and the events of a watch behind it, come to a later list.
func (s *store) requireFollows(list, final *pb.RangeResponse) {
	s.t.Helper()
	kvs := map[string]*mvccpb.KeyValue{}
	for _, kv := range list.Kvs {
		kvs[string(kv.Key)] = kv
	}
	w := s.openWatch()
	defer w.cancel()
	w.create(all("k/", list.Header.Revision+1))
	for at := list.Header.Revision; at < final.Header.Revision; {
		for _, event := range w.next().Events {
			if at = event.Kv.ModRevision; event.Type == mvccpb.Event_DELETE {
				delete(kvs, string(event.Kv.Key))
			} else {
				kvs[string(event.Kv.Key)] = event.Kv
			}
		}
	}
	if len(kvs) != len(final.Kvs) {
		s.t.Fatalf("the list at %d and the watch behind it come to %d keys, there are %d", list.Header.Revision, len(kvs), len(final.Kvs))
	}
	for _, kv := range final.Kvs {
		if !proto.Equal(kvs[string(kv.Key)], kv) {
			s.t.Fatalf("the list at %d and the watch behind it come to %v, it is %v", list.Header.Revision, kvs[string(kv.Key)], kv)
		}
	}
}

// etcd#18667: a transaction that reads at an older revision was answered by what each member had compacted. It must be
// refused as a whole once that revision is compacted, and leave nothing behind.
func TestPitfall10ATransactionThatReadsAnOldRevisionIsWholeOrRefused(t *testing.T) {
	onBoth(t, func(s *store) {
		old := s.put("a", "old")
		newest := s.put("a", "new")
		at := key("a")
		at.Revision = old
		request := &pb.TxnRequest{Success: []*pb.RequestOp{opPut("b", "1"), opRange(at)}}
		response, err := s.KV.Txn(s.context(), request)
		if err != nil {
			s.t.Fatal(err)
		}
		if kvs := response.Responses[1].GetResponseRange().Kvs; len(kvs) != 1 || string(kvs[0].Value) != "old" {
			s.t.Fatalf("read at %d: %v", old, kvs)
		}
		s.compact(newest, true)
		_, err = s.KV.Txn(s.context(), &pb.TxnRequest{Success: []*pb.RequestOp{opPut("c", "1"), opRange(at)}})
		s.fails(err, rpctypes.ErrGRPCCompacted)
		s.Kill9()
		s.Restart()
		s.reconnect()
		if left := s.get(key("c")); left.Count != 0 || left.Header.Revision != newest+1 {
			s.t.Fatalf("the refused transaction left %v", left)
		}
	})
}

// mem_etcd takes a value of no bytes for a deletion. Such a key would vanish from lists, and its watchers see it deleted.
func TestPitfall13AnEmptyValueIsNoDeletion(t *testing.T) {
	onBoth(t, func(s *store) {
		w := s.openWatch()
		w.create(all("a", 0))
		s.put("a", "1")
		revision := s.put("a", "")
		if event := w.events(2)[1]; event.Type != mvccpb.Event_PUT || string(event.PrevKv.GetValue()) != "1" {
			s.t.Fatalf("unexpected event: %v", event)
		}
		s.Restart()
		s.reconnect()
		if list := s.get(prefix("a")); list.Count != 1 || list.Kvs[0].ModRevision != revision || list.Kvs[0].Version != 2 {
			s.t.Fatalf("unexpected list: %v", list)
		}
	})
}

// KubeBrain separates key and revision by '$', others order by something that is not the bytes. RBAC's names have colons,
// groups have dots, and one resource's name begins another's: lists and watches would lack keys, or show a neighbour's.
func TestPitfall14EveryByteMayBeInAKey(t *testing.T) {
	names := []string{
		"/registry/pods/a", "/registry/pods/a\x00", "/registry/pods/a$", "/registry/pods/a$1", "/registry/pods/a.b", "/registry/pods/a/b",
		"/registry/pods/a:b", "/registry/pods/\xff", "/registry/podtemplates/a", "/registry/pods$", "/registry/pods.group/a", "/registry/pod",
	}
	onBoth(t, func(s *store) {
		w := s.openWatch()
		w.create(all("/registry/pods/", 0))
		for _, name := range names {
			s.put(name, name)
		}
		var want []string
		for _, name := range names {
			if strings.HasPrefix(name, "/registry/pods/") {
				want = append(want, name)
			}
		}
		var watched []string
		for _, event := range w.events(len(want)) {
			watched = append(watched, string(event.Kv.Key))
		}
		if !slices.Equal(watched, want) {
			s.t.Errorf("watched %q, expected %q", watched, want)
		}
		slices.Sort(want)
		var listed []string
		for _, kv := range s.get(prefix("/registry/pods/")).Kvs {
			listed = append(listed, string(kv.Key))
		}
		if !slices.Equal(listed, want) {
			s.t.Errorf("listed %q, expected %q", listed, want)
		}
		for _, name := range names {
			if one := s.get(key(name)); one.Count != 1 || string(one.Kvs[0].Value) != name {
				s.t.Errorf("%q is %v", name, one)
			}
		}
	})
}

// etcd#20418: after its process was stopped for a while, a leader answered reads with what it had before. A scheduler would
// bind a pod twice. Here the whole store stops and goes on, in the middle of reads and writes.
func TestPitfall16NoReadIsStaleAfterThePause(t *testing.T) {
	const pauses, readers, writesBetween = 3, 4, 50
	onBoth(t, func(s *store) {
		var acknowledged, writes atomic.Int64
		acknowledged.Store(s.put("counter", "0"))
		ctx, end := context.WithCancel(context.Background())
		var group sync.WaitGroup
		group.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				response, err := s.KV.Put(ctx, &pb.PutRequest{Key: []byte("counter"), Value: fmt.Append(nil, i)})
				if err == nil {
					acknowledged.Store(response.Header.Revision)
					writes.Add(1)
				} else if ctx.Err() == nil {
					s.t.Errorf("writing: %v", err)
					return
				}
			}
		})
		for range readers {
			group.Go(func() {
				for ctx.Err() == nil {
					before := acknowledged.Load()
					response, err := s.KV.Range(ctx, key("counter"))
					if ctx.Err() != nil {
						return
					}
					if err != nil || response.Header.Revision < before || response.Kvs[0].ModRevision < before {
						s.t.Errorf("%d was acknowledged before the read, which shows %v %v", before, response, err)
						return
					}
				}
			})
		}
		for range pauses {
			s.Signal(syscall.SIGSTOP)
			// A read that is not answered shows that the process stands still, with other requests on their way to it.
			harness.Eventually(s.t, "the process stands still", func() bool {
				short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
				_, err := s.KV.Range(short, key("absent"))
				return status.Code(err) == codes.DeadlineExceeded
			})
			s.Signal(syscall.SIGCONT)
			from := writes.Load()
			harness.Eventually(s.t, "writes go on", func() bool { return writes.Load() > from+writesBetween || s.t.Failed() })
		}
		end()
		group.Wait()
	})
}

// Servers and clients have limits of 4 MiB for a message unless they are raised: a LIST of a few thousand pods would fail
// for ever.
func TestPitfall18AnswersOfManyMegabytesArrive(t *testing.T) {
	const values = 24
	onBoth(t, func(s *store) {
		s.fill(values)
		if list := s.get(prefix("big")); len(list.Kvs) != values {
			s.t.Fatalf("%d values, expected %d", len(list.Kvs), values)
		}
		// A client that takes less at a time gets an error for the one answer and all of it from the stream. etcd's first piece
		// is ten keys, whatever their size.
		const pieceMax = 16 << 20
		_, err := s.KV.Range(s.context(), prefix("big"), grpc.MaxCallRecvMsgSize(pieceMax))
		if status.Code(err) != codes.ResourceExhausted {
			s.t.Fatalf("unexpected answer: %v", err)
		}
		s.requireStreamed(values, pieceMax)
	})
}

// kubernetes#138631: no message of gRPC's Go client can be larger than 2 GiB. Whoever asks for more must be told so, and
// the store must live; nothing starts it again here. Without ORLOP_TEST_LONG it is the client alone that takes no more.
func TestPitfall18AnAnswerBeyondTwoGibibytesIsAnErrorAndTheStreamIsNot(t *testing.T) {
	if os.Getenv("ORLOP_TEST_LONG") == "" {
		onOrlop(t, func(s *store) { s.requireTooLarge(64, 32<<20) })
		return
	}
	onOrlop(t, func(s *store) { s.requireTooLarge(2100, 1<<31-1) })
}

func (s *store) requireTooLarge(values, bytesMax int) {
	s.t.Helper()
	s.fill(values)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	_, err := s.KV.Range(ctx, prefix("big"), grpc.MaxCallRecvMsgSize(bytesMax))
	if text := status.Convert(err).Message(); status.Code(err) != codes.ResourceExhausted || !strings.Contains(text, "message larger than max") {
		s.t.Fatalf("unexpected answer: %v", err)
	}
	s.requireStreamed(values, 4<<20)
	s.put("after", "1")
}

func (s *store) fill(values int) {
	s.t.Helper()
	value := strings.Repeat("x", 1<<20)
	for i := range values {
		s.put(fmt.Sprintf("big%05d", i), value)
	}
}

func (s *store) requireStreamed(values, pieceMax int) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	stream, err := s.KV.RangeStream(ctx, prefix("big"), grpc.MaxCallRecvMsgSize(pieceMax))
	if err != nil {
		s.t.Fatal(err)
	}
	count := 0
	for {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			s.t.Fatalf("after %d values: %v", count, err)
		}
		count += len(piece.RangeResponse.Kvs)
	}
	if count != values {
		s.t.Fatalf("%d values were streamed, expected %d", count, values)
	}
}

// kube-apiserver shows a client "413 too large", and prunes managedFields, only if the text is exactly etcd's; any other is
// an internal error.
func TestPitfall19AnObjectOfOneAndAHalfMebibytesFitsAndALargerOneIsRefusedInEtcdsWords(t *testing.T) {
	onBoth(t, func(s *store) {
		s.put("fits", strings.Repeat("x", 1536<<10-512))
		_, err := s.KV.Put(s.context(), &pb.PutRequest{Key: []byte("large"), Value: make([]byte, 1_600_000)})
		s.fails(err, rpctypes.ErrGRPCRequestTooLarge)
		request := &pb.TxnRequest{Success: []*pb.RequestOp{opPut("large", strings.Repeat("x", 1_600_000))}}
		_, err = s.KV.Txn(s.context(), request)
		s.fails(err, rpctypes.ErrGRPCRequestTooLarge)
		if s.get(key("large")).Count != 0 || s.get(key("fits")).Count != 1 {
			s.t.Fatal("the wrong one was stored")
		}
	})
}
