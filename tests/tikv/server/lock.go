package server

import (
	"bytes"
	"context"
	"errors"
	"math"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/testutils"
	"github.com/tikv/client-go/v2/tikvrpc"
)

// heldLock is the lock that the transaction holds on the key, or nil.
func (c *cluster) heldLock(key []byte, startTS uint64) *kvrpcpb.LockInfo {
	store := c.client.MvccStore.(interface {
		MvccGetByKey([]byte) *kvrpcpb.MvccInfo
	})
	lock := store.MvccGetByKey(key).GetLock()
	if lock == nil || lock.StartTs != startTS {
		return nil
	}
	return &kvrpcpb.LockInfo{Key: key, PrimaryLock: lock.Primary, LockVersion: startTS, LockType: lock.Type}
}

// KvCheckTxnStatus describes a lock that is alive: the store does not, and clients count on it.
func (s *store) KvCheckTxnStatus(
	ctx context.Context, r *kvrpcpb.CheckTxnStatusRequest,
) (*kvrpcpb.CheckTxnStatusResponse, error) {
	response, err := send[kvrpcpb.CheckTxnStatusResponse](ctx, s, tikvrpc.CmdCheckTxnStatus, r, r.Context)
	if err != nil || response.LockTtl == 0 {
		return response, err
	}
	lock := s.cluster.heldLock(r.PrimaryKey, r.LockTs)
	if lock == nil { // It went between the two looks.
		lock = &kvrpcpb.LockInfo{Key: r.PrimaryKey, PrimaryLock: r.PrimaryKey, LockVersion: r.LockTs}
	}
	lock.LockTtl = response.LockTtl
	response.LockInfo = lock
	return response, nil
}

// timeToLive is the TTL of the lock on the key, in milliseconds. Only the error of a read that meets the lock has it.
func (c *cluster) timeToLive(key []byte) uint64 {
	_, err := c.client.MvccStore.Get(key, math.MaxUint64-1, kvrpcpb.IsolationLevel_SI, nil)
	var locked *testutils.ErrLocked
	if errors.As(err, &locked) {
		return locked.TTL
	}
	return 0
}

// KvScanLock keeps to the range and the limit, which the store does not look at, and tells how long locks live.
func (s *store) KvScanLock(ctx context.Context, r *kvrpcpb.ScanLockRequest) (*kvrpcpb.ScanLockResponse, error) {
	response, err := send[kvrpcpb.ScanLockResponse](ctx, s, tikvrpc.CmdScanLock, r, r.Context)
	if err != nil {
		return nil, err
	}
	var within []*kvrpcpb.LockInfo
	for _, lock := range response.Locks {
		before := bytes.Compare(lock.Key, r.StartKey) < 0
		behind := len(r.EndKey) > 0 && bytes.Compare(lock.Key, r.EndKey) >= 0
		full := r.Limit > 0 && len(within) == int(r.Limit)
		if !before && !behind && !full {
			lock.LockTtl = s.cluster.timeToLive(lock.Key)
			within = append(within, lock)
		}
	}
	response.Locks = within
	return response, nil
}

// KvResolveLock resolves the locks of many transactions one after another: the store takes one at a time.
func (s *store) KvResolveLock(
	ctx context.Context, r *kvrpcpb.ResolveLockRequest,
) (*kvrpcpb.ResolveLockResponse, error) {
	if len(r.TxnInfos) == 0 {
		return send[kvrpcpb.ResolveLockResponse](ctx, s, tikvrpc.CmdResolveLock, r, r.Context)
	}
	response := &kvrpcpb.ResolveLockResponse{}
	for _, txn := range r.TxnInfos {
		one := &kvrpcpb.ResolveLockRequest{Context: r.Context, StartVersion: txn.Txn, CommitVersion: txn.Status}
		answer, err := send[kvrpcpb.ResolveLockResponse](ctx, s, tikvrpc.CmdResolveLock, one, r.Context)
		if err != nil || answer.RegionError != nil || answer.Error != nil {
			return answer, err
		}
	}
	return response, nil
}
