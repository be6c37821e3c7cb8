package contract

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

func TestPutReturnsThePreviousValueOnlyWhenAsked(t *testing.T) {
	p := start(t)
	p.put.ok(put("a", "1"))
	if response := p.put.ok(put("a", "2")); response.PrevKv != nil {
		t.Fatalf("nobody asked for the previous value: %v", response)
	}
	response := p.put.ok(&pb.PutRequest{Key: []byte("a"), Value: []byte("3"), PrevKv: true})
	if string(response.PrevKv.Value) != "2" || response.PrevKv.Version != 2 {
		t.Fatalf("unexpected previous value: %v", response)
	}
	p.put.ok(&pb.PutRequest{Key: []byte("new"), Value: []byte("1"), PrevKv: true})
	p.del.ok(del("new"))
	p.put.ok(&pb.PutRequest{Key: []byte("new"), Value: []byte("2"), PrevKv: true})
	if version := p.rng.ok(get("new")).Kvs[0].Version; version != 1 {
		t.Fatalf("a key created anew starts at version 1, not %d", version)
	}
}

func TestPutCanKeepTheValueOrTheLease(t *testing.T) {
	p := start(t)
	p.grant.ok(&pb.LeaseGrantRequest{ID: 7, TTL: 1000})
	p.grant.ok(&pb.LeaseGrantRequest{ID: 8, TTL: 1000})
	p.put.ok(&pb.PutRequest{Key: []byte("a"), Value: []byte("1"), Lease: 7})

	p.put.ok(&pb.PutRequest{Key: []byte("a"), IgnoreValue: true, Lease: 8})
	p.rng.ok(get("a"))
	p.put.ok(&pb.PutRequest{Key: []byte("a"), Value: []byte("2"), IgnoreLease: true})
	kept := p.rng.ok(get("a")).Kvs[0]
	if kept.Lease != 8 || string(kept.Value) != "2" {
		t.Fatalf("lease or value was not kept: %v", kept)
	}
	p.put.ok(&pb.PutRequest{Key: []byte("a"), IgnoreValue: true, IgnoreLease: true, PrevKv: true})
	p.put.ok(&pb.PutRequest{Key: []byte("a"), IgnoreValue: true})
	if lease := p.rng.ok(get("a")).Kvs[0].Lease; lease != 0 {
		t.Fatalf("a put with lease 0 detaches, yet the lease is %d", lease)
	}
}

func TestPutRefusesWhatEtcdRefuses(t *testing.T) {
	p := start(t)
	p.put.fails(&pb.PutRequest{Value: []byte("1")}, rpctypes.ErrGRPCEmptyKey)
	p.put.fails(&pb.PutRequest{Key: []byte("a"), IgnoreValue: true}, rpctypes.ErrGRPCKeyNotFound)
	p.put.fails(&pb.PutRequest{Key: []byte("a"), IgnoreLease: true}, rpctypes.ErrGRPCKeyNotFound)
	p.put.fails(&pb.PutRequest{Key: []byte("a"), IgnoreValue: true, Value: []byte("1")}, rpctypes.ErrGRPCValueProvided)
	p.put.fails(&pb.PutRequest{Key: []byte("a"), IgnoreLease: true, Lease: 1}, rpctypes.ErrGRPCLeaseProvided)
	p.put.fails(&pb.PutRequest{Key: []byte("a"), Lease: 12345}, rpctypes.ErrGRPCLeaseNotFound)
	p.put.fails(&pb.PutRequest{Key: []byte("a"), Lease: -1}, rpctypes.ErrGRPCLeaseNotFound)
	if revision := p.rng.ok(everything()).Header.Revision; revision != 1 {
		t.Fatalf("refused writes moved the revision to %d", revision)
	}
}

func TestAnEmptyValueIsAValue(t *testing.T) {
	p := start(t)
	p.put.ok(put("a", ""))
	if count := p.rng.ok(get("a")).Count; count != 1 {
		t.Fatalf("%d keys, expected the one with the empty value", count)
	}
	p.put.ok(&pb.PutRequest{Key: []byte("a"), Value: []byte("x"), PrevKv: true})
}

func TestDeleteRanges(t *testing.T) {
	p := start(t)
	p.seed()
	for _, request := range []*pb.DeleteRangeRequest{
		{Key: []byte("absent")},
		{Key: []byte("absent"), PrevKv: true},
		{Key: []byte("b"), RangeEnd: []byte("a")},
		{Key: []byte("a")},
		{Key: []byte("a")},
		{Key: []byte("ab"), PrevKv: true},
		{Key: []byte("/registry/pods/"), RangeEnd: endOf("/registry/pods/"), PrevKv: true},
		{Key: []byte("/registry/pods/"), RangeEnd: endOf("/registry/pods/"), PrevKv: true},
		{Key: []byte("/registry/services/"), RangeEnd: []byte{0}},
		{Key: []byte{0}, RangeEnd: []byte{0}, PrevKv: true},
		{Key: []byte{0}, RangeEnd: []byte{0}, PrevKv: true},
	} {
		p.del.ok(request)
		p.rng.ok(everything())
	}
	p.del.fails(&pb.DeleteRangeRequest{}, rpctypes.ErrGRPCEmptyKey)
	p.del.fails(&pb.DeleteRangeRequest{RangeEnd: []byte("a")}, rpctypes.ErrGRPCEmptyKey)
}

func TestADeleteOfNothingDoesNotMoveTheRevision(t *testing.T) {
	p := start(t)
	p.put.ok(put("a", "1"))
	if revision := p.del.ok(del("absent")).Header.Revision; revision != 2 {
		t.Fatalf("revision %d, expected 2", revision)
	}
	if revision := p.put.ok(put("b", "1")).Header.Revision; revision != 3 {
		t.Fatalf("revision %d, expected 3", revision)
	}
}
