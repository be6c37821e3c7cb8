package server

import (
	"context"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/tikvpb"
	"github.com/tikv/client-go/v2/tikvrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// store answers as the TiKV at one address. Calls that no method is written for are Unimplemented.
type store struct {
	tikvpb.UnimplementedTikvServer
	cluster *cluster
	address string
}

// send has client-go's store execute a request; it checks leader, epoch and region, as TiKV does.
func send[Response any](
	ctx context.Context, s *store, command tikvrpc.CmdType, request any, of *kvrpcpb.Context,
) (*Response, error) {
	if of == nil {
		of = &kvrpcpb.Context{}
	}
	answer, err := s.cluster.client.SendRequest(ctx, s.address, tikvrpc.NewRequest(command, request, *of), 0)
	if err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	response, ok := answer.Resp.(*Response)
	if !ok {
		return nil, status.Errorf(codes.Internal, "%v was answered with %T", command, answer.Resp)
	}
	return response, nil
}
