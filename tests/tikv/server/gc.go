package server

import (
	"context"
	"math"
	"sync"

	"github.com/pingcap/kvproto/pkg/pdpb"
)

// gcWorker is the service that PD always has: whoever advances the safe point of the cluster.
const gcWorker = "gc_worker"

// safePoints are what PD keeps about garbage collection: how far the cluster was told to forget, and how far each
// service allows it.
type safePoints struct {
	mu       sync.Mutex
	safe     uint64
	services map[string]servicePoint
}

type servicePoint struct {
	safe uint64
	// expires is in PD's seconds.
	expires int64
}

// least is the lowest safe point that is in force, and whose. As in PD, gcWorker is made when it is missing.
func (p *safePoints) least(now int64) (string, servicePoint) {
	if p.services == nil {
		p.services = map[string]servicePoint{}
	}
	name, least := "", servicePoint{safe: math.MaxUint64}
	for service, point := range p.services {
		if point.expires < now {
			delete(p.services, service)
		} else if point.safe < least.safe {
			name, least = service, point
		}
	}
	if _, there := p.services[gcWorker]; there {
		return name, least
	}
	first := servicePoint{expires: math.MaxInt64}
	if name != "" {
		first.safe = least.safe
	}
	p.services[gcWorker] = first
	return gcWorker, first
}

func (s *pd) GetGCSafePoint(context.Context, *pdpb.GetGCSafePointRequest) (*pdpb.GetGCSafePointResponse, error) {
	s.cluster.gc.mu.Lock()
	defer s.cluster.gc.mu.Unlock()
	return &pdpb.GetGCSafePointResponse{Header: header(), SafePoint: s.cluster.gc.safe}, nil
}

// UpdateGCSafePoint moves the cluster's safe point, never back, and forgets at once all that TiKV may forget from then
// on: the worst case for a reader below it, who misses keys without an error.
func (s *pd) UpdateGCSafePoint(
	_ context.Context, r *pdpb.UpdateGCSafePointRequest,
) (*pdpb.UpdateGCSafePointResponse, error) {
	p := &s.cluster.gc
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.GetSafePoint() > p.safe {
		// A lock below the safe point is the mistake that this finds: the store refuses to collect over it.
		if err := s.cluster.client.MvccStore.GC(nil, nil, r.GetSafePoint()); err != nil {
			return &pdpb.UpdateGCSafePointResponse{Header: refused(err.Error()), NewSafePoint: p.safe}, nil
		}
		p.safe = r.GetSafePoint()
	}
	return &pdpb.UpdateGCSafePointResponse{Header: header(), NewSafePoint: p.safe}, nil
}

// UpdateServiceGCSafePoint registers how far a service allows to forget, and answers with the least of all.
func (s *pd) UpdateServiceGCSafePoint(
	_ context.Context, r *pdpb.UpdateServiceGCSafePointRequest,
) (*pdpb.UpdateServiceGCSafePointResponse, error) {
	p, now, service := &s.cluster.gc, s.cluster.clock.seconds(), string(r.GetServiceId())
	p.mu.Lock()
	defer p.mu.Unlock()
	name, least := p.least(now)
	switch {
	case service == gcWorker && r.GetTTL() != math.MaxInt64:
		return &pdpb.UpdateServiceGCSafePointResponse{Header: refused("gc_worker must not expire")}, nil
	case r.GetTTL() <= 0:
		delete(p.services, service)
		name, least = p.least(now)
	case r.GetSafePoint() >= least.safe:
		// One that allows less than all others already do would come too late, and is not taken.
		expires := int64(math.MaxInt64)
		if r.GetTTL() < math.MaxInt64-now {
			expires = now + r.GetTTL()
		}
		p.services[service] = servicePoint{safe: r.GetSafePoint(), expires: expires}
		name, least = p.least(now)
	}
	ttl := least.expires
	if ttl != math.MaxInt64 {
		ttl -= now
	}
	return &pdpb.UpdateServiceGCSafePointResponse{
		Header: header(), ServiceId: []byte(name), TTL: ttl, MinSafePoint: least.safe,
	}, nil
}
