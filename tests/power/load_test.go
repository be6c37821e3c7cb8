package power

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/orlop/orlop/tests/power/ledger"
)

const (
	writers = 8
	// Keys of each writer, and keys that all of them fight for.
	ownKeys, sharedKeys = 12, 3
	// Sizes of values. The largest transaction of the largest ones is within what a request may be.
	smallBytes, mediumBytes, largeBytes = 200, 8 << 10, 256 << 10
	// Longer than any run: no lease expires by itself.
	leaseTTL = 36_000
	// A compaction is asked for about once in so many writes of one writer.
	compactEvery = 60
)

// load is many clients that write until a call of theirs fails for a reason that leaves open what happened.
type load struct {
	machine *machine
	client  *client
	// Values are large, so that segments fill: otherwise most are small, and one in ten is of a few pages.
	isLarge bool
	// Whether segments are rewritten beside the writes.
	defragments bool
	quit        atomic.Bool
	ctx         context.Context
	cancel      context.CancelFunc
	all         sync.WaitGroup
	mu          sync.Mutex
	// Why each writer ended.
	ends []error
	// Writes that were refused for want of space.
	full int
}

// load starts to write. Each life has keys of its own for what must not exist yet.
func (m *machine) load(change func(*load)) *load {
	m.Helper()
	l := &load{machine: m, client: m.connect()}
	if change != nil {
		change(l)
	}
	l.ctx, l.cancel = context.WithTimeout(context.Background(), deadline)
	for number := range writers {
		w := &writer{load: l, random: rand.New(rand.NewPCG(m.random.Uint64(), uint64(number))), number: number}
		w.tag = fmt.Sprintf("%d-%d-%x", m.cuts, number, w.random.Uint32())
		l.all.Go(w.run)
	}
	if l.defragments {
		l.all.Go(l.defragment)
	}
	m.Cleanup(l.end)
	return l
}

// end lets every writer have the answer to its last call, and returns when nobody writes any more. Nothing is under way
// then in a store that runs: a call that was given up would go on in it.
func (l *load) end() {
	l.quit.Store(true)
	l.all.Wait()
	l.cancel()
	l.client.close()
}

// wait waits until this many more calls were answered.
func (l *load) wait(answers int) {
	l.machine.Helper()
	goal := l.machine.ledger.Answers() + answers
	eventually(l.machine.T, "the store answers", func() bool { return l.machine.ledger.Answers() >= goal })
}

// defragment has segments rewritten all the time. A refusal, as for want of space, is not the end of that.
func (l *load) defragment() {
	for !l.quit.Load() {
		if _, err := l.client.admin.Defragment(l.ctx, &etcdserverpb.DefragmentRequest{}); err != nil && !isRefusal(err) {
			return
		}
	}
}

// writer is one client. Its own keys nobody else touches.
type writer struct {
	load   *load
	random *rand.Rand
	number int
	tag    string
	count  int
}

func (w *writer) run() {
	for !w.load.quit.Load() {
		var err error
		switch draw := w.random.IntN(100); {
		case draw < 50:
			err = w.send(ledger.Write{Puts: []ledger.Put{{Key: w.ownKey(), Value: w.value()}}})
		case draw < 62:
			err = w.send(ledger.Write{Deletes: []string{w.ownKey()}})
		case draw < 80:
			err = w.send(w.several())
		case draw < 95:
			err = w.swap()
		case draw < 97:
			err = w.leased()
		default:
			if w.random.IntN(compactEvery/20) == 0 {
				err = w.compact()
			}
		}
		if err != nil && !w.load.goesOn(err) {
			return
		}
	}
}

// goesOn says whether a writer goes on after an error.
func (l *load) goesOn(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !isRefusal(err) {
		l.ends = append(l.ends, err)
		return false
	}
	if status.Code(err) == codes.ResourceExhausted {
		l.full++
	}
	return true
}

func (w *writer) ownKey() string {
	return fmt.Sprintf("own/%d/%02d", w.number, w.random.IntN(ownKeys))
}

// value is one that nobody else writes, ever.
func (w *writer) value() string {
	w.count++
	value := fmt.Sprintf("%s-%d ", w.tag, w.count)
	size := w.random.IntN(smallBytes)
	if w.random.IntN(10) == 0 {
		size = w.random.IntN(mediumBytes)
	}
	if w.load.isLarge {
		size = w.random.IntN(largeBytes)
	}
	return value + strings.Repeat("v", size)
}

// several is a transaction over a few keys, that deletes one more.
func (w *writer) several() ledger.Write {
	write := ledger.Write{Deletes: []string{w.ownKey()}}
	for i := range 1 + w.random.IntN(4) {
		write.Puts = append(write.Puts, ledger.Put{Key: fmt.Sprintf("several/%d/%d", w.number, i), Value: w.value()})
	}
	return write
}

// swap changes a key that others change, too, if it is still as it was read.
func (w *writer) swap() error {
	key := fmt.Sprintf("shared/%d", w.random.IntN(sharedKeys))
	read, err := w.load.client.kv.Range(w.load.ctx, &etcdserverpb.RangeRequest{Key: []byte(key)})
	if err != nil {
		return err
	}
	write := ledger.Write{Expect: map[string]int64{key: 0}}
	for _, kv := range read.Kvs {
		write.Expect[key] = kv.ModRevision
	}
	if write.Expect[key] != 0 && w.random.IntN(8) == 0 {
		write.Deletes = []string{key}
	} else {
		write.Puts = []ledger.Put{{Key: key, Value: w.value()}}
	}
	return w.send(write)
}

// leased grants a lease, puts keys with it, and revokes it now and then.
func (w *writer) leased() error {
	id := 1 + w.random.Int64N(1<<40)
	granted := w.load.machine.ledger.Grant(id, leaseTTL)
	if _, err := w.load.client.lease.LeaseGrant(w.load.ctx, &etcdserverpb.LeaseGrantRequest{ID: id, TTL: leaseTTL}); err != nil {
		return err
	}
	granted()
	put := ledger.Put{Key: fmt.Sprintf("leased/%d/%d", w.number, w.random.IntN(3)), Value: w.value(), LeaseID: id}
	if err := w.send(ledger.Write{Puts: []ledger.Put{put}}); err != nil || w.random.IntN(3) > 0 {
		return err
	}
	// At which revision that happens is not in the answer: the call stays one that may have happened, and the lease
	// one that must be gone.
	w.load.machine.ledger.Begin(ledger.Write{Revoke: id})
	_, err := w.load.client.lease.LeaseRevoke(w.load.ctx, &etcdserverpb.LeaseRevokeRequest{ID: id})
	return err
}

func (w *writer) compact() error {
	revision := w.load.machine.ledger.KnownThrough()
	if revision < ledger.FirstRevision {
		return nil
	}
	return w.load.client.compact(w.load.ctx, w.load.machine.ledger, revision)
}

func (c *client) compact(ctx context.Context, l *ledger.Ledger, revision int64) error {
	compacted := l.Compact(revision)
	_, err := c.kv.Compact(ctx, &etcdserverpb.CompactionRequest{Revision: revision})
	if err == nil {
		compacted()
	}
	return err
}

func (w *writer) send(write ledger.Write) error {
	return w.load.client.send(w.load.ctx, w.load.machine.ledger, write)
}

// send sends a write and notes its answer. Values are noted by their fingerprints.
func (c *client) send(ctx context.Context, l *ledger.Ledger, write ledger.Write) error {
	txn := &etcdserverpb.TxnRequest{}
	for key, mod := range write.Expect {
		txn.Compare = append(txn.Compare, &etcdserverpb.Compare{
			Key: []byte(key), Target: etcdserverpb.Compare_MOD, Result: etcdserverpb.Compare_EQUAL,
			TargetUnion: &etcdserverpb.Compare_ModRevision{ModRevision: mod},
		})
	}
	noted := write
	noted.Puts = nil
	for _, put := range write.Puts {
		request := &etcdserverpb.PutRequest{Key: []byte(put.Key), Value: []byte(put.Value), Lease: put.LeaseID}
		txn.Success = append(txn.Success, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestPut{RequestPut: request}})
		put.Value = ledger.Fingerprint([]byte(put.Value))
		noted.Puts = append(noted.Puts, put)
	}
	for _, key := range write.Deletes {
		request := &etcdserverpb.DeleteRangeRequest{Key: []byte(key)}
		txn.Success = append(txn.Success, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestDeleteRange{RequestDeleteRange: request}})
	}
	call := l.Begin(noted)
	revision, changed, err := c.do(ctx, txn)
	switch {
	case err == nil && changed:
		call.Acknowledge(revision)
	case err == nil || isRefusal(err):
		call.Refuse()
	}
	return err
}

// do sends a transaction, by the plain call where there is one for it.
func (c *client) do(ctx context.Context, txn *etcdserverpb.TxnRequest) (revision int64, changed bool, err error) {
	if len(txn.Compare) == 0 && len(txn.Success) == 1 {
		if put := txn.Success[0].GetRequestPut(); put != nil {
			answer, err := c.kv.Put(ctx, put)
			return answer.GetHeader().GetRevision(), true, err
		}
		answer, err := c.kv.DeleteRange(ctx, txn.Success[0].GetRequestDeleteRange())
		return answer.GetHeader().GetRevision(), answer.GetDeleted() > 0, err
	}
	answer, err := c.kv.Txn(ctx, txn)
	if err != nil {
		return 0, false, err
	}
	for _, part := range answer.Responses {
		changed = changed || part.GetResponsePut() != nil || part.GetResponseDeleteRange().GetDeleted() > 0
	}
	return answer.Header.Revision, changed, nil
}
