package power

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/orlop/orlop/tests/power/ledger"
)

const messageBytesMax = 64 << 20

// client speaks the API without etcd's client library, which would send some calls again by itself.
type client struct {
	conn  *grpc.ClientConn
	kv    etcdserverpb.KVClient
	watch etcdserverpb.WatchClient
	lease etcdserverpb.LeaseClient
	admin etcdserverpb.MaintenanceClient
}

func (m *machine) connect() *client {
	m.Helper()
	conn, err := grpc.NewClient(m.store.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytesMax)), grpc.WithDisableRetry())
	if err != nil {
		m.Fatal(err)
	}
	return &client{
		conn: conn, kv: etcdserverpb.NewKVClient(conn), watch: etcdserverpb.NewWatchClient(conn),
		lease: etcdserverpb.NewLeaseClient(conn), admin: etcdserverpb.NewMaintenanceClient(conn),
	}
}

func (c *client) close() { _ = c.conn.Close() }

// isRefusal says whether an error of a write says that it has not happened.
func isRefusal(err error) bool {
	switch status.Convert(err).Message() {
	case "etcdserver: unhealthy cluster", "etcdserver: mvcc: database space exceeded",
		"etcdserver: mvcc: required revision has been compacted":
		return true
	default:
		return false
	}
}

// observe reads everything that the store shows. Revocations that were begun are brought to their end first: a store may
// finish them in the background.
func (c *client) observe(ctx context.Context, l *ledger.Ledger) (ledger.Observation, error) {
	var seen ledger.Observation
	leases, revoked := l.Leases()
	for _, id := range revoked {
		_, err := c.lease.LeaseRevoke(ctx, &etcdserverpb.LeaseRevokeRequest{ID: id})
		if err != nil && !strings.Contains(err.Error(), "requested lease not found") {
			return seen, fmt.Errorf("revoking lease %d: %w", id, err)
		}
	}
	all, err := c.kv.Range(ctx, &etcdserverpb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}})
	if err != nil {
		return seen, fmt.Errorf("listing all keys: %w", err)
	}
	seen.Revision, seen.State = all.Header.Revision, kvsOf(all.Kvs)
	if seen.Compacted, err = c.compacted(ctx); err != nil {
		return seen, err
	}
	seen.From = max(seen.Compacted, ledger.FirstRevision)
	if seen.Events, err = c.history(ctx, seen.From, seen.Revision); err != nil {
		return seen, err
	}
	seen.Leases, err = c.leasesOf(ctx, leases)
	return seen, err
}

func (c *client) leasesOf(ctx context.Context, ids []int64) (map[int64]ledger.Lease, error) {
	leases := map[int64]ledger.Lease{}
	for _, id := range ids {
		answer, err := c.lease.LeaseTimeToLive(ctx, &etcdserverpb.LeaseTimeToLiveRequest{ID: id, Keys: true})
		if err != nil {
			return nil, fmt.Errorf("looking at lease %d: %w", id, err)
		}
		if answer.TTL <= 0 {
			continue
		}
		lease := ledger.Lease{Exists: true, TTL: answer.GrantedTTL}
		for _, key := range answer.Keys {
			lease.Keys = append(lease.Keys, string(key))
		}
		slices.Sort(lease.Keys)
		leases[id] = lease
	}
	return leases, nil
}

// compacted asks for a watch of everything; the refusal names the revision below which nothing is kept.
func (c *client) compacted(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.startWatch(ctx, 1)
	if err != nil {
		return 0, err
	}
	for {
		answer, err := stream.Recv()
		switch {
		case err != nil:
			return 0, fmt.Errorf("watching from revision 1: %w", err)
		case answer.Canceled:
			return answer.CompactRevision, nil
		case len(answer.Events) > 0:
			return 0, nil
		case answer.Header.Revision < ledger.FirstRevision:
			// Nothing was ever written: there is no event to wait for.
			return 0, nil
		}
	}
}

func (c *client) startWatch(ctx context.Context, from int64) (etcdserverpb.Watch_WatchClient, error) {
	stream, err := c.watch.Watch(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening a watch: %w", err)
	}
	create := &etcdserverpb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: from}
	err = stream.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{CreateRequest: create}})
	return stream, err
}

// history watches from one revision up to another.
func (c *client) history(ctx context.Context, from, to int64) ([]ledger.Event, error) {
	if from > to {
		return nil, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.startWatch(ctx, from)
	if err != nil {
		return nil, err
	}
	var events []ledger.Event
	for len(events) == 0 || events[len(events)-1].Mod < to {
		answer, err := stream.Recv()
		if err != nil {
			return nil, fmt.Errorf("watching from revision %d to %d, got %d events: %w", from, to, len(events), err)
		}
		if answer.Canceled {
			return nil, fmt.Errorf("the watch from revision %d was cancelled: %s", from, answer.CancelReason)
		}
		for _, event := range answer.Events {
			events = append(events, ledger.Event{KV: kvOf(event.Kv), IsDelete: event.Type == mvccpb.Event_DELETE})
		}
	}
	return events, nil
}

// past reads the keys as they were at some revisions.
func (c *client) past(ctx context.Context, l *ledger.Ledger, seen ledger.Observation, random *rand.Rand) []error {
	if seen.Revision < seen.From {
		return nil
	}
	for range 2 {
		revision := seen.From + random.Int64N(seen.Revision-seen.From+1)
		answer, err := c.kv.Range(ctx, &etcdserverpb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: revision})
		if err != nil {
			return []error{fmt.Errorf("listing all keys at revision %d: %w", revision, err)}
		}
		if !slices.Equal(kvsOf(answer.Kvs), l.StateAt(revision)) {
			return []error{errors.New("the keys at revision " + fmt.Sprint(revision) + " are not what they were")}
		}
	}
	return nil
}

func kvsOf(kvs []*mvccpb.KeyValue) []ledger.KV {
	list := make([]ledger.KV, 0, len(kvs))
	for _, kv := range kvs {
		list = append(list, kvOf(kv))
	}
	return list
}

func kvOf(kv *mvccpb.KeyValue) ledger.KV {
	return ledger.KV{
		Key: string(kv.Key), Value: ledger.Fingerprint(kv.Value), Create: kv.CreateRevision, Mod: kv.ModRevision,
		Version: kv.Version, LeaseID: kv.Lease,
	}
}
