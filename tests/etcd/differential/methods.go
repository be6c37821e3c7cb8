package differential

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/orlop/orlop/tests/etcd/wire"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// method is a call with one request and, in the end, one answer.
type method struct {
	empty func() proto.Message
	call  func(context.Context, *wire.Client, proto.Message) (proto.Message, error)
}

// The methods that a stream may call.
var methods = map[Kind]method{
	"Range":           unary(kv, pb.KVClient.Range),
	"Put":             unary(kv, pb.KVClient.Put),
	"DeleteRange":     unary(kv, pb.KVClient.DeleteRange),
	"Txn":             unary(kv, pb.KVClient.Txn),
	"Compact":         unary(kv, pb.KVClient.Compact),
	"RangeStream":     {empty: func() proto.Message { return &pb.RangeRequest{} }, call: rangeStream},
	"LeaseGrant":      unary(lease, pb.LeaseClient.LeaseGrant),
	"LeaseRevoke":     unary(lease, pb.LeaseClient.LeaseRevoke),
	"LeaseTimeToLive": unary(lease, pb.LeaseClient.LeaseTimeToLive),
	"LeaseLeases":     unary(lease, pb.LeaseClient.LeaseLeases),
	"LeaseKeepAlive":  {empty: func() proto.Message { return &pb.LeaseKeepAliveRequest{} }, call: keepAlive},
	"Status":          unary(maint, pb.MaintenanceClient.Status),
	"HashKV":          unary(maint, pb.MaintenanceClient.HashKV),
	"Alarm":           unary(maint, pb.MaintenanceClient.Alarm),
	"Defragment":      unary(maint, pb.MaintenanceClient.Defragment),
}

// The methods in a fixed order.
var methodKinds = slices.Sorted(maps.Keys(methods))

func kv(c *wire.Client) pb.KVClient             { return c.KV }
func lease(c *wire.Client) pb.LeaseClient       { return c.Lease }
func maint(c *wire.Client) pb.MaintenanceClient { return c.Maint }

// emptyRequest returns what the request of a kind is read into, nil where nothing is sent.
func emptyRequest(kind Kind) (proto.Message, bool) {
	switch kind {
	case WatchCreate:
		return &pb.WatchCreateRequest{}, true
	case WatchCancel:
		return &pb.WatchCancelRequest{}, true
	case WatchProgress, WatchClose, Kill, Stop:
		return nil, true
	}
	m, ok := methods[kind]
	if !ok {
		return nil, false
	}
	return m.empty(), true
}

func unary[C any, Q, R proto.Message](
	client func(*wire.Client) C,
	call func(C, context.Context, Q, ...grpc.CallOption) (R, error),
) method {
	var zero Q
	return method{
		empty: func() proto.Message { return zero.ProtoReflect().New().Interface() },
		call: func(ctx context.Context, c *wire.Client, request proto.Message) (proto.Message, error) {
			response, err := call(client(c), ctx, request.(Q))
			if err != nil {
				return nil, err
			}
			return response, nil
		},
	}
}

// A breach is what no store may do, whatever the other one does.
type breach string

func (b breach) Error() string { return string(b) }

func breached(format string, args ...any) error { return breach(fmt.Sprintf(format, args...)) }

// rangeStream reads a stream to its end and puts its pieces together: where it is cut is each store's own business, that
// header, more and count are on the last piece only, and the keys in order, is not.
func rangeStream(ctx context.Context, c *wire.Client, request proto.Message) (proto.Message, error) {
	stream, err := c.KV.RangeStream(ctx, request.(*pb.RangeRequest))
	if err != nil {
		return nil, err
	}
	whole := &pb.RangeResponse{}
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			if whole.Header == nil {
				return nil, breached("a stream ended without a header")
			}
			return whole, nil
		}
		if err != nil {
			return nil, err
		}
		piece := message.RangeResponse
		switch {
		case whole.Header != nil:
			return nil, breached("a piece follows the one with the header: %v", piece)
		case piece.Header == nil && (piece.More || piece.Count != 0):
			return nil, breached("more or count on a piece that is not the last: %v", piece)
		}
		for _, kv := range piece.Kvs {
			if n := len(whole.Kvs); n > 0 && strings.Compare(string(whole.Kvs[n-1].Key), string(kv.Key)) >= 0 {
				return nil, breached("%q comes after %q", kv.Key, whole.Kvs[n-1].Key)
			}
			whole.Kvs = append(whole.Kvs, kv)
		}
		whole.Header, whole.More, whole.Count = piece.Header, piece.More, piece.Count
	}
}

func keepAlive(ctx context.Context, c *wire.Client, request proto.Message) (proto.Message, error) {
	stream, err := c.Lease.LeaseKeepAlive(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(request.(*pb.LeaseKeepAliveRequest)); err != nil {
		return nil, err
	}
	response, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	return response, nil
}
