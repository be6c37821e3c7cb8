package server

import (
	"context"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/tikvrpc"
)

// KvPrewrite writes locks. A one-phase or async commit is declined, which a response with no timestamps says.
func (s *store) KvPrewrite(ctx context.Context, r *kvrpcpb.PrewriteRequest) (*kvrpcpb.PrewriteResponse, error) {
	request := *r
	request.TryOnePc, request.UseAsyncCommit = false, false
	return send[kvrpcpb.PrewriteResponse](ctx, s, tikvrpc.CmdPrewrite, &request, r.Context)
}

func (s *store) KvCommit(ctx context.Context, r *kvrpcpb.CommitRequest) (*kvrpcpb.CommitResponse, error) {
	return send[kvrpcpb.CommitResponse](ctx, s, tikvrpc.CmdCommit, r, r.Context)
}

func (s *store) KvBatchRollback(
	ctx context.Context, r *kvrpcpb.BatchRollbackRequest,
) (*kvrpcpb.BatchRollbackResponse, error) {
	return send[kvrpcpb.BatchRollbackResponse](ctx, s, tikvrpc.CmdBatchRollback, r, r.Context)
}

func (s *store) KvTxnHeartBeat(
	ctx context.Context, r *kvrpcpb.TxnHeartBeatRequest,
) (*kvrpcpb.TxnHeartBeatResponse, error) {
	return send[kvrpcpb.TxnHeartBeatResponse](ctx, s, tikvrpc.CmdTxnHeartBeat, r, r.Context)
}
