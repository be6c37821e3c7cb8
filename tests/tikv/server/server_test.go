package server

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/pingcap/kvproto/pkg/kvrpcpb"
	"github.com/pingcap/kvproto/pkg/pdpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestAnAbsentKeyIsToldFromAnEmptyValue(t *testing.T) {
	c := start(t, Options{})
	c.put("empty", "")
	if response := c.get("empty", c.now()); response.NotFound || response.Error != nil {
		t.Errorf("the empty value: %v", response)
	}
	if response := c.get("absent", c.now()); !response.NotFound {
		t.Errorf("the absent key: %v", response)
	}
}

func TestAScanIsTheSameInBothDirectionsAndForKeysAlone(t *testing.T) {
	c := start(t, Options{})
	for _, key := range []string{"a", "b", "c", "d"} {
		c.put(key, map[string]string{"b": "", "c": "3"}[key])
	}
	store, region := c.at("a")
	scan := func(request kvrpcpb.ScanRequest) string {
		request.Context, request.Version = region, c.now()
		response, err := store.KvScan(c.ctx, &request)
		must(t, err)
		var found []string
		for _, pair := range response.Pairs {
			found = append(found, fmt.Sprintf("%s=%s", pair.Key, pair.Value))
		}
		return strings.Join(found, " ")
	}
	for _, check := range []struct {
		request kvrpcpb.ScanRequest
		want    string
	}{
		{kvrpcpb.ScanRequest{StartKey: []byte("b"), EndKey: []byte("d"), Limit: 9}, "b= c=3"},
		{kvrpcpb.ScanRequest{StartKey: []byte("d"), EndKey: []byte("b"), Limit: 9, Reverse: true}, "c=3 b="},
		{kvrpcpb.ScanRequest{EndKey: []byte("b"), Limit: 2, Reverse: true}, "d= c=3"},
		{kvrpcpb.ScanRequest{StartKey: []byte("c"), Limit: 1, KeyOnly: true}, "c="},
	} {
		if got := scan(check.request); got != check.want {
			t.Errorf("%v gives %q, want %q", check.request, got, check.want)
		}
	}
}

func TestOnlyTheLeaderOfTheRightRegionAnswers(t *testing.T) {
	c := start(t, Options{Stores: 3, Splits: []string{"m"}})
	c.put("a", "1")
	c.put("z", "2")
	store, region := c.at("a")
	read := func() *kvrpcpb.GetResponse {
		response, err := store.KvGet(c.ctx, &kvrpcpb.GetRequest{Context: region, Key: []byte("a"), Version: c.now()})
		must(t, err)
		return response
	}
	if response := read(); string(response.Value) != "1" {
		t.Fatalf("before any change: %v", response)
	}
	c.admin(fmt.Sprintf("/transfer?region=%s", c.admin("/region?key=a")))
	if response := read(); response.RegionError.GetNotLeader() == nil {
		t.Errorf("from the former leader: %v", response)
	}
	store, region = c.at("a")
	c.admin("/split?key=g")
	if response := read(); response.RegionError.GetEpochNotMatch() == nil {
		t.Errorf("with the region as it was before the split: %v", response)
	}
	if lines := strings.Count(c.admin("/regions"), "\n"); lines != 3 {
		t.Errorf("%d regions, want 3", lines)
	}
}

func TestAFaultIsWhatItSays(t *testing.T) {
	c := start(t, Options{})
	region := func(kind string, is func(*kvrpcpb.PrewriteResponse) bool) {
		c.admin("/inject?method=KvPrewrite&kind=" + kind)
		response, err := c.prewrite("region error", "1", c.now())
		must(t, err)
		if !is(response) {
			t.Errorf("%s: %v", kind, response)
		}
	}
	region("busy", func(r *kvrpcpb.PrewriteResponse) bool { return r.RegionError.GetServerIsBusy() != nil })
	region("notleader", func(r *kvrpcpb.PrewriteResponse) bool { return r.RegionError.GetNotLeader() != nil })
	region("epoch", func(r *kvrpcpb.PrewriteResponse) bool { return r.RegionError.GetEpochNotMatch() != nil })
	region("regionnotfound", func(r *kvrpcpb.PrewriteResponse) bool { return r.RegionError.GetRegionNotFound() != nil })
	if response := c.get("region error", c.now()); !response.NotFound {
		t.Errorf("a region error left something behind: %v", response)
	}
	for kind, executed := range map[string]bool{"refuse": false, "lose": true} {
		c.admin("/inject?method=KvPrewrite&kind=" + kind)
		if _, err := c.prewrite(kind, "1", c.now()); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", kind, err)
		}
		if locked := c.get(kind, c.now()).Error.GetLocked() != nil; locked != executed {
			t.Errorf("%s: executed is %v", kind, locked)
		}
	}
}

func TestAFaultHitsTheCallsThatItNames(t *testing.T) {
	c := start(t, Options{Splits: []string{"m"}})
	c.admin("/inject?method=KvPrewrite&kind=refuse&count=2&skip=1&region=" + c.admin("/region?key=a"))
	for i, want := range []codes.Code{codes.OK, codes.Unavailable, codes.Unavailable, codes.OK} {
		if _, err := c.prewrite("z", "", c.now()); err != nil {
			t.Errorf("in the other region: %v", err)
		}
		if _, err := c.prewrite(fmt.Sprint("a", i), "", c.now()); status.Code(err) != want {
			t.Errorf("call %d: %v, want %v", i, err, want)
		}
	}
	if counts := c.admin("/counts"); !strings.Contains(counts, `"KvPrewrite":8`) {
		t.Errorf("counts: %s", counts)
	}
	c.admin("/inject?method=KvPrewrite&kind=refuse")
	c.admin("/clear")
	if _, err := c.prewrite("b", "", c.now()); err != nil {
		t.Errorf("after /clear: %v", err)
	}
}

func TestAMistypedFaultIsRefused(t *testing.T) {
	c := start(t, Options{})
	for _, request := range []string{"/inject?method=KvGet&kind=nonsense", "/inject?kind=busy&count=x", "/advance?ms=-1"} {
		response, err := http.Get("http://" + c.server.AdminAddr + request)
		must(t, err)
		_ = response.Body.Close()
		if response.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s", request, response.Status)
		}
	}
}

func TestLocksAreFoundInTheirRangeAndUpToTheLimit(t *testing.T) {
	c := start(t, Options{})
	for _, key := range []string{"a", "b", "c", "d"} {
		_, err := c.prewrite(key, "", c.now())
		must(t, err)
	}
	store, region := c.at("a")
	response, err := store.KvScanLock(c.ctx, &kvrpcpb.ScanLockRequest{
		Context: region, StartKey: []byte("b"), EndKey: []byte("d"), MaxVersion: c.now(), Limit: 1,
	})
	must(t, err)
	if len(response.Locks) != 1 || string(response.Locks[0].Key) != "b" || response.Locks[0].LockTtl != 3000 {
		t.Errorf("found %v", response.Locks)
	}
}

func TestALiveLockIsDescribedAndOneOutOfTimeIsRolledBack(t *testing.T) {
	c := start(t, Options{})
	startTS := c.now()
	_, err := c.prewrite("a", "", startTS)
	must(t, err)
	check := func() *kvrpcpb.CheckTxnStatusResponse {
		store, region := c.at("a")
		response, err := store.KvCheckTxnStatus(c.ctx, &kvrpcpb.CheckTxnStatusRequest{
			Context: region, PrimaryKey: []byte("a"), LockTs: startTS, CallerStartTs: c.now(), CurrentTs: c.now(),
		})
		must(t, err)
		return response
	}
	if response := check(); response.LockInfo.GetLockVersion() != startTS || response.LockTtl == 0 {
		t.Errorf("while it lives: %v", response)
	}
	c.admin("/advance?ms=60000")
	if response := check(); response.Action != kvrpcpb.Action_TTLExpireRollback {
		t.Errorf("a minute later: %v", response)
	}
}

func TestTheSafePointForgetsAndStopsAtALock(t *testing.T) {
	c := start(t, Options{})
	c.put("a", "old")
	before := c.now()
	c.put("a", "new")
	lockTS := c.now()
	_, err := c.prewrite("b", "", lockTS)
	must(t, err)
	move := func(to uint64) *pdpb.UpdateGCSafePointResponse {
		response, err := c.pd.UpdateGCSafePoint(c.ctx, &pdpb.UpdateGCSafePointRequest{SafePoint: to})
		must(t, err)
		return response
	}
	if response := move(c.now()); response.Header.Error == nil || response.NewSafePoint != 0 {
		t.Errorf("over a lock: %v", response)
	}
	if string(c.get("a", before).Value) != "old" {
		t.Error("it forgot although it refused")
	}
	if response := move(lockTS - 1); response.NewSafePoint != lockTS-1 {
		t.Errorf("below the lock: %v", response)
	}
	if !c.get("a", before).NotFound || string(c.get("a", lockTS-1).Value) != "new" {
		t.Error("what lies below the safe point is still there, or what lies above is gone")
	}
	if response := move(1); response.NewSafePoint != lockTS-1 {
		t.Errorf("back: %v", response)
	}
}

func TestTheLeastServiceSafePointCountsUntilItExpires(t *testing.T) {
	c := start(t, Options{})
	register := func(service string, ttl int64, at uint64) (string, uint64) {
		response, err := c.pd.UpdateServiceGCSafePoint(c.ctx, &pdpb.UpdateServiceGCSafePointRequest{
			ServiceId: []byte(service), TTL: ttl, SafePoint: at,
		})
		must(t, err)
		return string(response.ServiceId), response.MinSafePoint
	}
	check := func(what string, service string, ttl int64, at uint64, name string, least uint64) {
		t.Helper()
		if gotName, got := register(service, ttl, at); gotName != name || got != least {
			t.Errorf("%s: %s at %d, want %s at %d", what, gotName, got, name, least)
		}
	}
	check("nobody has collected anything yet", "blue", 60, 100, gcWorker, 0)
	check("the collector goes first", gcWorker, math.MaxInt64, 200, "blue", 100)
	check("too late: it would hold what is gone", "green", 60, 50, "blue", 100)
	c.admin("/advance?ms=61000")
	check("blue has expired", "green", 60, 300, gcWorker, 200)
	check("green goes", "green", 0, 0, gcWorker, 200)
}

func TestTimestampsRiseAlsoWhenTheClockIsMoved(t *testing.T) {
	c := start(t, Options{})
	last := c.now()
	for i := range 1000 {
		if i == 500 {
			c.admin("/advance?ms=600000")
		}
		now := c.now()
		if now <= last || i == 500 && now>>18-last>>18 < 600_000 {
			t.Fatalf("timestamp %d after %d", now, last)
		}
		last = now
	}
}

func TestADirectoryKeepsTheRecords(t *testing.T) {
	options := Options{Data: t.TempDir()}
	first := start(t, options)
	first.put("a", "1")
	first.server.Close()
	// The directory is locked until the store lets go of it.
	must(t, first.server.cluster.client.Close())
	second := start(t, options)
	if response := second.get("a", second.now()); string(response.Value) != "1" {
		t.Errorf("after a restart: %v", response)
	}
}
