package server

import (
	"bytes"

	"github.com/pingcap/kvproto/pkg/metapb"
	"github.com/tikv/client-go/v2/testutils"
	"github.com/tikv/client-go/v2/util/codec"
)

// cluster is what all stores and PD share.
type cluster struct {
	client  *testutils.MockClient
	regions *testutils.MockCluster
	clock   clock
	gc      safePoints
	faults  faults
}

func newCluster(client *testutils.MockClient, regions *testutils.MockCluster) *cluster {
	return &cluster{client: client, regions: regions, faults: faults{counts: map[string]int64{}}}
}

// regionKey is the form in which regions and PD know a key of a transaction.
func regionKey(key []byte) []byte {
	if len(key) == 0 {
		return key
	}
	return codec.EncodeBytes(nil, key)
}

// split cuts the region that holds key, so that one begins there. The leader of the new one is on the next store.
func (c *cluster) split(key []byte) *metapb.Region {
	at := regionKey(key)
	region, _, _, _ := c.regions.GetRegionByKey(at)
	if bytes.Equal(region.StartKey, at) {
		return region
	}
	peers := c.regions.AllocIDs(len(region.Peers))
	leader := peers[len(c.regions.GetAllRegions())%len(peers)]
	return c.regions.SplitRaw(region.Id, c.regions.AllocID(), at, peers, leader)
}

// transfer makes the region's next peer its leader. false: there is no such region.
func (c *cluster) transfer(id uint64) bool {
	region, leader := c.regions.GetRegion(id)
	if region == nil {
		return false
	}
	for i, peer := range region.Peers {
		if peer.Id == leader {
			c.regions.ChangeLeader(id, region.Peers[(i+1)%len(region.Peers)].Id)
			break
		}
	}
	return true
}
