package server

import (
	"context"
	"errors"
	"io"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"github.com/tikv/pd/client/clients/router"
)

// clusterID is the name that PD gives the cluster.
const clusterID = 7_300_000_000_000_000_001

// pd answers as the one member of PD.
type pd struct {
	pdpb.UnimplementedPDServer
	cluster *cluster
	// url is what clients are told.
	url string
}

func header() *pdpb.ResponseHeader { return &pdpb.ResponseHeader{ClusterId: clusterID} }

func refused(message string) *pdpb.ResponseHeader {
	return &pdpb.ResponseHeader{
		ClusterId: clusterID,
		Error:     &pdpb.Error{Type: pdpb.ErrorType_UNKNOWN, Message: message},
	}
}

func (s *pd) GetMembers(context.Context, *pdpb.GetMembersRequest) (*pdpb.GetMembersResponse, error) {
	url := []string{s.url}
	member := &pdpb.Member{Name: "pd", MemberId: 1, PeerUrls: url, ClientUrls: url}
	return &pdpb.GetMembersResponse{
		Header: header(), Members: []*pdpb.Member{member}, Leader: member, EtcdLeader: member,
	}, nil
}

func (s *pd) Tso(stream pdpb.PD_TsoServer) error {
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		count := max(request.GetCount(), 1)
		physical, logical := s.cluster.clock.take(int64(count))
		response := &pdpb.TsoResponse{
			Header: header(), Count: count, Timestamp: &pdpb.Timestamp{Physical: physical, Logical: logical},
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}

// The keys in the requests below are encoded by the client, as are the borders of regions.

func (s *pd) GetRegion(_ context.Context, r *pdpb.GetRegionRequest) (*pdpb.GetRegionResponse, error) {
	region, leader, _, down := s.cluster.regions.GetRegionByKey(r.GetRegionKey())
	return regionResponse(region, leader, down), nil
}

func (s *pd) GetPrevRegion(_ context.Context, r *pdpb.GetRegionRequest) (*pdpb.GetRegionResponse, error) {
	region, leader, _, down := s.cluster.regions.GetPrevRegionByKey(r.GetRegionKey())
	return regionResponse(region, leader, down), nil
}

func (s *pd) GetRegionByID(_ context.Context, r *pdpb.GetRegionByIDRequest) (*pdpb.GetRegionResponse, error) {
	region, leader, _, down := s.cluster.regions.GetRegionByID(r.GetRegionId())
	return regionResponse(region, leader, down), nil
}

func regionResponse(region *metapb.Region, leader *metapb.Peer, down []*metapb.Peer) *pdpb.GetRegionResponse {
	response := &pdpb.GetRegionResponse{Header: header(), Region: region, Leader: leader}
	for _, peer := range down {
		response.DownPeers = append(response.DownPeers, &pdpb.PeerStats{Peer: peer})
	}
	return response
}

func (s *pd) ScanRegions(_ context.Context, r *pdpb.ScanRegionsRequest) (*pdpb.ScanRegionsResponse, error) {
	response := &pdpb.ScanRegionsResponse{Header: header()}
	for _, region := range s.cluster.regions.ScanRegions(r.GetStartKey(), r.GetEndKey(), int(r.GetLimit())) {
		response.RegionMetas = append(response.RegionMetas, region.Meta)
		response.Leaders = append(response.Leaders, region.Leader)
		response.Regions = append(response.Regions, described(region))
	}
	return response, nil
}

func described(region *router.Region) *pdpb.Region {
	return &pdpb.Region{Region: region.Meta, Leader: region.Leader}
}

func (s *pd) GetStore(_ context.Context, r *pdpb.GetStoreRequest) (*pdpb.GetStoreResponse, error) {
	store := s.cluster.regions.GetStore(r.GetStoreId())
	if store == nil {
		return &pdpb.GetStoreResponse{Header: refused("there is no such store")}, nil
	}
	return &pdpb.GetStoreResponse{Header: header(), Store: store}, nil
}

func (s *pd) GetAllStores(context.Context, *pdpb.GetAllStoresRequest) (*pdpb.GetAllStoresResponse, error) {
	return &pdpb.GetAllStoresResponse{Header: header(), Stores: s.cluster.regions.GetAllStores()}, nil
}
