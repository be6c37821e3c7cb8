package server

import (
	"context"
	"math"
	"slices"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/tikv/client-go/v2/tikvrpc"
)

// KvGet tells an absent key from an empty value: the store never sets not_found.
func (s *store) KvGet(ctx context.Context, r *kvrpcpb.GetRequest) (*kvrpcpb.GetResponse, error) {
	response, err := send[kvrpcpb.GetResponse](ctx, s, tikvrpc.CmdGet, r, r.Context)
	if err == nil {
		response.NotFound = response.Value == nil && response.Error == nil && response.RegionError == nil
	}
	return response, err
}

func (s *store) KvBatchGet(ctx context.Context, r *kvrpcpb.BatchGetRequest) (*kvrpcpb.BatchGetResponse, error) {
	return send[kvrpcpb.BatchGetResponse](ctx, s, tikvrpc.CmdBatchGet, r, r.Context)
}

// KvScan leaves out the values of a scan for keys, and reads backward by reading forward: the store knows neither, and
// its own backward scan loses empty values.
func (s *store) KvScan(ctx context.Context, r *kvrpcpb.ScanRequest) (*kvrpcpb.ScanResponse, error) {
	request := *r
	if r.Reverse {
		// Backward, start_key is the upper end, which is not read.
		request.StartKey, request.EndKey = r.EndKey, r.StartKey
		request.Limit, request.Reverse = math.MaxInt32, false
	}
	response, err := send[kvrpcpb.ScanResponse](ctx, s, tikvrpc.CmdScan, &request, r.Context)
	if err != nil {
		return nil, err
	}
	if r.Reverse {
		slices.Reverse(response.Pairs)
		response.Pairs = response.Pairs[:min(len(response.Pairs), int(r.Limit))]
	}
	if r.KeyOnly {
		for _, pair := range response.Pairs {
			pair.Value = nil
		}
	}
	return response, nil
}
