package observability

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/orlop/orlop/tests/harness"
)

const (
	traceID      = "0af7651916cd43dd8448eb211c80319c"
	clientSpanID = "b7ad6b7169203331"
)

// sink is a collector that keeps the spans that it is sent.
type sink struct {
	collector.UnimplementedTraceServiceServer

	lock  sync.Mutex
	spans []*trace.Span
}

func (s *sink) Export(_ context.Context, request *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	for _, resource := range request.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			s.spans = append(s.spans, scope.GetSpans()...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// below returns the spans under the one with this id, in the order in which they began.
func (s *sink) below(parent string) []*trace.Span {
	s.lock.Lock()
	defer s.lock.Unlock()
	var found []*trace.Span
	for _, span := range s.spans {
		if hex.EncodeToString(span.GetTraceId()) == traceID && hex.EncodeToString(span.GetParentSpanId()) == parent {
			found = append(found, span)
		}
	}
	slices.SortFunc(found, func(a, b *trace.Span) int {
		return int(int64(a.GetStartTimeUnixNano()) - int64(b.GetStartTimeUnixNano()))
	})
	return found
}

// only returns the one span under the one with this id.
func (s *sink) only(t *testing.T, parent, name string) string {
	t.Helper()
	found := s.below(parent)
	if len(found) != 1 || found[0].GetName() != name {
		t.Fatalf("under %s are %v, expected %s", parent, found, name)
	}
	return hex.EncodeToString(found[0].GetSpanId())
}

// A write that a client sends to a server that does not lead is one trace over both servers.
func TestAForwardedWriteIsOneTrace(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sink := &sink{}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, sink)
	go server.Serve(listener)
	t.Cleanup(server.Stop)

	store := harness.StartOrlop(t, harness.Fleet(t), harness.Flags(
		"--enable-distributed-tracing", "--distributed-tracing-address", listener.Addr().String()))
	connection, err := grpc.NewClient(store.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", fmt.Sprintf("00-%s-%s-01", traceID, clientSpanID))
	if _, err := pb.NewKVClient(connection).Put(ctx, &pb.PutRequest{Key: []byte("k"), Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	// Both send what is left before they end.
	store.Stop()

	const put = "etcdserverpb.KV/Put"
	taken := sink.only(t, clientSpanID, put)
	forward := sink.only(t, taken, "forward")
	led := sink.only(t, forward, put)
	var steps []string
	for _, span := range sink.below(led) {
		steps = append(steps, span.GetName())
	}
	if want := []string{"queue", "evaluate", "engine.commit", "publish"}; !slices.Equal(steps, want) {
		t.Errorf("at the leader were %v, expected %v", steps, want)
	}
}
