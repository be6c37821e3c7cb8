package robustness

import (
	"context"
	"fmt"
	"math/rand"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/robustness/client"
	"go.etcd.io/etcd/tests/v3/robustness/identity"
	"go.etcd.io/etcd/tests/v3/robustness/traffic"
)

const (
	// Two cores serve and judge: more requests would only make the judging longer.
	requestsPerSecond = 150
	keyValueClients   = 5
	watchClients      = 3
	bookmarkClients   = 2
	leaseClients      = 2
	// The shortest TTL that the store grants.
	leaseTTL = 2
	// kube-apiserver asks for progress this often while somebody waits for a fresh list.
	progressPeriod = 100 * time.Millisecond
	// Keys of the leases that expire; no other traffic knows them.
	leasePrefix = "expiring/"
)

func init() {
	// etcd's defaults suit a machine of their own. Here others work too, and a fault may last for some of them.
	traffic.RequestTimeout = 500 * time.Millisecond
	traffic.WatchTimeout = time.Second
}

// load is what the clients do to the store until it is told to finish.
type load struct {
	ctx     context.Context
	server  *server
	clients *client.ClientSet
	ids     identity.Provider
	random  *rand.Rand
	finish  chan struct{}
	running sync.WaitGroup
	// compacting and expiring tell whoever aims at them that a compaction is asked for, or that a lease is due.
	compacting, expiring chan struct{}
	// compacted and leased count what was answered, so that no scenario ends before there was some of it.
	compacted, leased atomic.Int64
	// errors are those of our own equipment.
	errors chan error
}

func newLoad(ctx context.Context, s *server, seed int64) *load {
	ids := identity.NewIDProvider()
	return &load{
		ctx:        ctx,
		server:     s,
		ids:        ids,
		clients:    client.NewSet(ids, time.Now()),
		random:     rand.New(rand.NewSource(seed)),
		finish:     make(chan struct{}),
		compacting: make(chan struct{}, 1),
		expiring:   make(chan struct{}, 1),
		errors:     make(chan error, 100),
	}
}

func (l *load) endpoints() []string {
	return []string{l.server.Endpoint}
}

// start starts everything that the scenario wants; etcd's traffic first.
func (l *load) start(sc scenario, lg *zap.Logger) error {
	limiter := rate.NewLimiter(requestsPerSecond, requestsPerSecond)
	keys, storage := traffic.NewKeyStore(10, "key"), traffic.NewKubernetesStorage()
	keyValue := &traffic.KeyValue{MemberClientCount: keyValueClients}
	err := traffic.SimulateKeyValueTraffic(l.ctx, &l.running, keyValue, l.endpoints(), l.clients, sc.traffic,
		traffic.RunTrafficLoopParam{
			QPSLimiter:                         limiter,
			IDs:                                l.ids,
			LeaseIDStorage:                     identity.NewLeaseIDStorage(),
			NonUniqueRequestConcurrencyLimiter: traffic.NewConcurrencyLimiter(3),
			KeyStore:                           keys,
			Storage:                            storage,
			Finish:                             l.finish,
		})
	if err != nil {
		return err
	}
	watch := &traffic.Watch{MemberClientCount: watchClients, RevisionOffsetRange: traffic.Range{Min: -100, Max: 100}}
	err = traffic.SimulateWatchTraffic(l.ctx, &l.running, watch, l.endpoints(), l.clients, sc.traffic,
		traffic.RunWatchLoopParam{
			Config: *watch, QPSLimiter: limiter, KeyStore: keys, Storage: storage, Finish: l.finish, Logger: lg,
		})
	if err != nil {
		return err
	}
	for range bookmarkClients {
		l.loop(l.watchWithBookmarks)
	}
	for range leaseClients {
		l.loop(l.leaseLoop)
	}
	l.loop(l.compactLoop)
	return nil
}

// loop lets a client of its own do its work until it is told to finish.
func (l *load) loop(work func(*client.RecordingClient, *rand.Rand)) {
	c, err := l.clients.NewClient(l.endpoints())
	if err != nil {
		l.errors <- err
		return
	}
	random := rand.New(rand.NewSource(l.random.Int63()))
	l.running.Add(1)
	go func() {
		defer l.running.Done()
		defer c.Close()
		work(c, random)
	}()
}

// pause waits, and says whether there is more to do afterwards.
func (l *load) pause(length time.Duration) bool {
	select {
	case <-l.finish:
		return false
	case <-l.ctx.Done():
		return false
	case <-time.After(length):
		return true
	}
}

// watchWithBookmarks watches everything as a cache of kube-apiserver does, and asks for progress meanwhile.
func (l *load) watchWithBookmarks(c *client.RecordingClient, _ *rand.Rand) {
	next := int64(0)
	for l.pause(0) {
		ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(l.ctx))
		events := c.Watch(ctx, "", next, true, true, true)
		for watching := true; watching; {
			select {
			case <-l.finish:
				watching = false
			case <-time.After(progressPeriod):
			case response, open := <-events:
				watching = open && response.Err() == nil
				if watching {
					next = response.Header.Revision + 1
				} else if response.CompactRevision > 0 {
					next = response.CompactRevision
				}
			}
			// Also while events arrive: progress must not overtake them.
			_ = c.RequestProgress(ctx)
		}
		cancel()
		for range events {
		}
	}
}

// leaseLoop grants leases of one key each; most of them are left to expire.
func (l *load) leaseLoop(c *client.RecordingClient, random *rand.Rand) {
	for l.pause(time.Duration(100+random.Intn(200)) * time.Millisecond) {
		ctx, cancel := context.WithTimeout(l.ctx, traffic.RequestTimeout)
		granted, err := c.LeaseGrant(ctx, leaseTTL)
		if err == nil {
			due := time.Duration(granted.TTL) * time.Second
			time.AfterFunc(due, func() { notify(l.expiring) })
			number := l.ids.NewRequestID()
			_, err = c.PutWithLease(ctx, fmt.Sprintf("%s%d", leasePrefix, number), strconv.Itoa(number), int64(granted.ID))
			if err == nil {
				l.leased.Add(1)
				if random.Intn(4) == 0 {
					_, _ = c.LeaseRevoke(ctx, int64(granted.ID))
				}
			}
		}
		cancel()
	}
}

const (
	compactRevKey = "compact_rev_key"
	compactPeriod = 300 * time.Millisecond
)

// compactLoop compacts as kube-apiserver does: who advances the key compacts through the revision that was there when it
// was advanced before. What the compaction will remove from the log is collected first.
func (l *load) compactLoop(c *client.RecordingClient, _ *rand.Rand) {
	var version, revision int64
	for l.pause(compactPeriod) {
		ctx, cancel := context.WithTimeout(l.ctx, traffic.RequestTimeout)
		response, err := c.Txn(ctx).
			If(clientv3.Compare(clientv3.Version(compactRevKey), "=", version)).
			// No value is put twice, not even after an answer was lost.
			Then(clientv3.OpPut(compactRevKey, fmt.Sprintf("%d (%d)", revision, l.ids.NewRequestID()))).
			Else(clientv3.OpGet(compactRevKey)).
			Commit()
		cancel()
		if err != nil {
			continue
		}
		before := revision
		revision = response.Header.Revision
		if !response.Succeeded {
			version = response.Responses[0].GetResponseRange().Kvs[0].Version
			continue
		}
		version++
		if before != 0 {
			l.compact(c, before)
		}
	}
}

func (l *load) compact(c *client.RecordingClient, revision int64) {
	if err := l.server.Collect(); err != nil {
		l.errors <- err
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, traffic.RequestTimeout)
	defer cancel()
	notify(l.compacting)
	if _, err := c.Compact(ctx, revision); err == nil {
		l.compacted.Add(1)
	}
}

// notify tells one who listens, and nobody else.
func notify(channel chan struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}
