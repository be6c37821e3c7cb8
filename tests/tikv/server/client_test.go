package server

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// patience is how long a call that should be answered may take, on any machine.
const patience = 30 * time.Second

// client talks to a cluster as a client library does, one call at a time and without retries.
type client struct {
	t      *testing.T
	ctx    context.Context
	server *Server
	pd     pdpb.PDClient
}

func start(t *testing.T, options Options) *client {
	t.Helper()
	options.PDAddr, options.AdminAddr = "127.0.0.1:0", "127.0.0.1:0"
	options.Stores = max(options.Stores, 1)
	server, err := Start(options)
	must(t, err)
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return &client{t: t, ctx: ctx, server: server, pd: pdpb.NewPDClient(dial(t, server.PDAddr))}
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// admin sends a request to the side door.
func (c *client) admin(request string) string {
	c.t.Helper()
	response, err := http.Get("http://" + c.server.AdminAddr + request)
	must(c.t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	must(c.t, err)
	if response.StatusCode != http.StatusOK {
		c.t.Fatalf("%s: %s: %s", request, response.Status, body)
	}
	return string(body)
}

// now is a fresh timestamp.
func (c *client) now() uint64 {
	c.t.Helper()
	stream, err := c.pd.Tso(c.ctx)
	must(c.t, err)
	must(c.t, stream.Send(&pdpb.TsoRequest{Count: 1}))
	response, err := stream.Recv()
	must(c.t, err)
	must(c.t, stream.CloseSend())
	return uint64(response.Timestamp.Physical)<<18 + uint64(response.Timestamp.Logical)
}

// at is the store that leads the key's region, and what a request to it says about the region.
func (c *client) at(key string) (tikvpb.TikvClient, *kvrpcpb.Context) {
	c.t.Helper()
	found, err := c.pd.GetRegion(c.ctx, &pdpb.GetRegionRequest{RegionKey: regionKey([]byte(key))})
	must(c.t, err)
	return c.store(found.Leader), &kvrpcpb.Context{
		RegionId: found.Region.Id, RegionEpoch: found.Region.RegionEpoch, Peer: found.Leader,
	}
}

func (c *client) store(peer *metapb.Peer) tikvpb.TikvClient {
	c.t.Helper()
	found, err := c.pd.GetStore(c.ctx, &pdpb.GetStoreRequest{StoreId: peer.StoreId})
	must(c.t, err)
	return tikvpb.NewTikvClient(dial(c.t, found.Store.Address))
}

// prewrite locks the key for a value, with the key itself as primary.
func (c *client) prewrite(key, value string, startTS uint64) (*kvrpcpb.PrewriteResponse, error) {
	c.t.Helper()
	store, region := c.at(key)
	return store.KvPrewrite(c.ctx, &kvrpcpb.PrewriteRequest{
		Context: region, PrimaryLock: []byte(key), StartVersion: startTS, LockTtl: 3000,
		Mutations: []*kvrpcpb.Mutation{{Op: kvrpcpb.Op_Put, Key: []byte(key), Value: []byte(value)}},
	})
}

func (c *client) commit(key string, startTS uint64) (*kvrpcpb.CommitResponse, error) {
	c.t.Helper()
	store, region := c.at(key)
	return store.KvCommit(c.ctx, &kvrpcpb.CommitRequest{
		Context: region, Keys: [][]byte{[]byte(key)}, StartVersion: startTS, CommitVersion: c.now(),
	})
}

func (c *client) put(key, value string) {
	c.t.Helper()
	startTS := c.now()
	prewritten, err := c.prewrite(key, value, startTS)
	must(c.t, err)
	if len(prewritten.Errors) > 0 || prewritten.RegionError != nil {
		c.t.Fatalf("prewrite: %v", prewritten)
	}
	committed, err := c.commit(key, startTS)
	must(c.t, err)
	if committed.Error != nil || committed.RegionError != nil {
		c.t.Fatalf("commit: %v", committed)
	}
}

func (c *client) get(key string, version uint64) *kvrpcpb.GetResponse {
	c.t.Helper()
	store, region := c.at(key)
	response, err := store.KvGet(c.ctx, &kvrpcpb.GetRequest{Context: region, Key: []byte(key), Version: version})
	must(c.t, err)
	return response
}
