package contract

import (
	"context"
	"fmt"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
)

func TestTheHealthService(t *testing.T) {
	p := start(t)
	p.each(func(s *side) {
		health := healthpb.NewHealthClient(s.conn)
		response, err := health.Check(context.Background(), &healthpb.HealthCheckRequest{})
		if err != nil || response.Status != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("%s: %v %v", s.name, response, err)
		}
		_, err = health.Check(context.Background(), &healthpb.HealthCheckRequest{Service: "nothing.Here"})
		if status.Code(err) != codes.NotFound {
			t.Errorf("%s: an unknown service answers %v", s.name, err)
		}
	})
}

// etcd has no reflection; with it, tools such as grpcurl need no .proto files.
func TestReflectionListsTheServices(t *testing.T) {
	p := start(t)
	stream, err := reflectionpb.NewServerReflectionClient(p.orlop.conn).ServerReflectionInfo(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	request := &reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
	}
	if err := stream.Send(request); err != nil {
		t.Fatal(err)
	}
	response, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, service := range response.GetListServicesResponse().GetService() {
		names = append(names, service.Name)
	}
	for _, want := range []string{
		"etcdserverpb.KV", "etcdserverpb.Watch", "etcdserverpb.Lease", "etcdserverpb.Cluster",
		"etcdserverpb.Maintenance", "etcdserverpb.Auth", "grpc.health.v1.Health",
	} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not listed: %q", want, names)
		}
	}
}

// kube-apiserver opens few connections with many streams on each.
func TestAThousandStreamsOnOneConnection(t *testing.T) {
	p := start(t)
	var streams []*watchStream
	for range 1000 {
		w := p.orlop.openWatch(t)
		w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: watchKey("a")}})
		streams = append(streams, w)
	}
	for _, w := range streams {
		w.next()
	}
	p.put.ok(put("a", "1"))
	for i, w := range streams {
		if events := w.events(0, 1); events[0].Kv.ModRevision != 2 {
			t.Fatalf("stream %d: %v", i, events)
		}
	}
}

func TestAnUnknownMethodIsUnimplemented(t *testing.T) {
	p := start(t)
	p.each(func(s *side) {
		for _, method := range []string{"/etcdserverpb.KV/Nothing", "/etcdserverpb.Nothing/Range"} {
			err := s.conn.Invoke(context.Background(), method, &pb.RangeRequest{}, &pb.RangeResponse{})
			if status.Code(err) != codes.Unimplemented {
				t.Errorf("%s: %s answers %v", s.name, method, err)
			}
		}
	})
}

// A client that goes away in the middle of everything leaves the store untouched.
func TestAbandonedRequestsHarmNobody(t *testing.T) {
	p := start(t)
	for i := range 200 {
		ctx, cancel := context.WithCancel(context.Background())
		go cancel()
		_, _ = p.orlop.kv.Put(ctx, put(fmt.Sprintf("k%d", i), "v"))
	}
	ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
	defer cancel()
	before, err := p.orlop.kv.Range(ctx, everything())
	if err != nil {
		t.Fatal(err)
	}
	after, err := p.orlop.kv.Put(ctx, put("last", "v"))
	if err != nil || after.Header.Revision < before.Header.Revision+1 || before.Header.Revision < before.Count+1 {
		t.Fatalf("%v after %d keys at revision %d (%v)", after, before.Count, before.Header.Revision, err)
	}
}
