package server

import (
	"context"
	"fmt"
	"path"
	"reflect"
	"runtime/debug"
	"sync"
	"time"

	"github.com/pingcap/kvproto/pkg/errorpb"
	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fault is what some calls meet.
type fault struct {
	// Method is the name of the call: KvPrewrite, KvCommit, GetRegion and so on.
	Method string
	// Kind is one of Kinds.
	Kind string
	// Count is how many calls it is still to hit.
	Count int64
	// Skip is how many calls pass before that.
	Skip int64
	// Milliseconds is the length of a delay, and the pause that busy asks for.
	Milliseconds int64
	// Region is the only region whose calls are hit; 0 is any.
	Region uint64
}

// The kinds of faults.
const (
	busy           = "busy"           // ServerIsBusy; not executed
	notLeader      = "notleader"      // NotLeader, with no leader named; not executed
	epochNotMatch  = "epoch"          // EpochNotMatch; not executed
	regionNotFound = "regionnotfound" // RegionNotFound; not executed
	refuse         = "refuse"         // not executed, Unavailable
	lose           = "lose"           // executed, Unavailable
	delay          = "delay"          // executed after a while
	hang           = "hang"           // executed, never answered
	stall          = "stall"          // not executed, never answered
)

var kinds = map[string]bool{
	busy: true, notLeader: true, epochNotMatch: true, regionNotFound: true,
	refuse: true, lose: true, delay: true, hang: true, stall: true,
}

// faults are the rules in force, and how often each method was called.
type faults struct {
	mu     sync.Mutex
	rules  []*fault
	counts map[string]int64
}

func (f *faults) add(rule fault) error {
	if !kinds[rule.Kind] {
		return fmt.Errorf("there is no fault %q", rule.Kind)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, &rule)
	return nil
}

func (f *faults) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules, f.counts = nil, map[string]int64{}
}

// meet counts a call and returns the fault that it meets, if it meets one.
func (f *faults) meet(method string, request any) (fault, bool) {
	var region uint64
	if r, ok := request.(interface{ GetContext() *kvrpcpb.Context }); ok {
		region = r.GetContext().GetRegionId()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[method]++
	for _, rule := range f.rules {
		if rule.Method != method || rule.Count == 0 || rule.Region != 0 && rule.Region != region {
			continue
		}
		if rule.Skip > 0 {
			rule.Skip--
			continue
		}
		rule.Count--
		return *rule, true
	}
	return fault{}, false
}

// intercept lets each call meet its fault. A panic of the store, its way to say "not possible", becomes an error.
func (c *cluster) intercept(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
) (response any, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			debug.PrintStack()
			err = status.Errorf(codes.Internal, "%s: %v", info.FullMethod, reason)
		}
	}()
	method := path.Base(info.FullMethod)
	rule, met := c.faults.meet(method, request)
	if !met {
		return handle(ctx, request)
	}
	switch rule.Kind {
	case refuse:
		return nil, status.Error(codes.Unavailable, "injected: not executed")
	case lose:
		_, _ = handle(ctx, request)
		return nil, status.Error(codes.Unavailable, "injected: the answer is lost")
	case delay:
		time.Sleep(time.Duration(rule.Milliseconds) * time.Millisecond)
		return handle(ctx, request)
	case hang:
		_, _ = handle(ctx, request)
		<-ctx.Done()
		return nil, ctx.Err()
	case stall:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return withRegionError(info.Server, method, regionError(rule))
}

func regionError(rule fault) *errorpb.Error {
	e := &errorpb.Error{Message: "injected"}
	switch rule.Kind {
	case busy:
		e.ServerIsBusy = &errorpb.ServerIsBusy{Reason: "injected", BackoffMs: uint64(rule.Milliseconds)}
	case notLeader:
		e.NotLeader = &errorpb.NotLeader{}
	case epochNotMatch:
		e.EpochNotMatch = &errorpb.EpochNotMatch{}
	case regionNotFound:
		e.RegionNotFound = &errorpb.RegionNotFound{}
	}
	return e
}

// withRegionError is the method's response with nothing in it but the error. Every response of TiKV has a field of this
// name, and no interface to set it.
func withRegionError(server any, method string, e *errorpb.Error) (any, error) {
	response := reflect.New(reflect.ValueOf(server).MethodByName(method).Type().Out(0).Elem())
	field := response.Elem().FieldByName("RegionError")
	if !field.IsValid() {
		return nil, status.Errorf(codes.Internal, "%s has no region error", method)
	}
	field.Set(reflect.ValueOf(e))
	return response.Interface(), nil
}
