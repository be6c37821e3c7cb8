package robustness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/tests/v3/robustness/client"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.etcd.io/etcd/tests/v3/robustness/traffic"
	"go.etcd.io/etcd/tests/v3/robustness/validate"

	"github.com/orlop/orlop/tests/harness"
)

const (
	secondsVariable = "ORLOP_ROBUSTNESS_SECONDS"
	seedVariable    = "ORLOP_ROBUSTNESS_SEED"
	defaultSeconds  = 5
	// Faults must meet a store that is at work, and a history must be worth judging.
	revisionsBefore, revisionsMin = 30, 100
	// The model takes a second for most histories. One that takes this long is a failure, as with etcd.
	validationTimeout = 2 * time.Minute
	// The moments that a fault waits for come several times a second.
	momentDeadline = time.Minute
)

// scenario is traffic and a fault.
type scenario struct {
	traffic traffic.Traffic
	options []harness.Option
	// seeded are options that depend on the seed.
	seeded func(seed int64) []harness.Option
	// strike lets the fault strike once, or returns false when there was no moment for it. It is called again and again.
	strike func(*run) bool
	// strikesMin is how often it strikes at least, however long that takes; once if it is not set.
	strikesMin int
	// met is what the store says when it has met the fault, where it says something.
	met string
	// mayEnd says that the fault can make the process stop itself.
	mayEnd bool
}

// run is a scenario that runs.
type run struct {
	*testing.T
	*load
	scenario scenario
	seed     int64
	strikes  int
	// kv is for what is not part of the history.
	kv *clientv3.Client
}

// play plays the scenario and fails the test unless the history is one that etcd could have.
func play(t *testing.T, sc scenario) {
	t.Helper()
	if err := try(t, sc); err != nil {
		t.Fatal(err)
	}
}

// try plays the scenario and returns what is wrong with its history.
func try(t *testing.T, sc scenario) error {
	t.Helper()
	seed := seedOf(t)
	rand.Seed(seed)
	options := sc.options
	if sc.seeded != nil {
		options = append(options, sc.seeded(seed)...)
	}
	server := startServer(t, options...)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	kv, err := clientv3.New(clientv3.Config{Endpoints: []string{server.Endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	r := &run{T: t, load: newLoad(ctx, server, seed), scenario: sc, seed: seed, kv: kv}
	var judged bytes.Buffer
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewDevelopmentEncoderConfig()), zapcore.AddSync(&judged), zap.InfoLevel)
	lg := zap.New(core)
	reports, err := r.record(lg)
	if err != nil {
		return r.keep(kept{reports: reports, err: err})
	}
	if err := r.judge(lg, &judged, reports); err != nil {
		return err
	}
	r.sum(reports)
	return nil
}

// judge returns what is wrong with a history, and keeps everything about it then.
func (r *run) judge(lg *zap.Logger, judged *bytes.Buffer, reports []report.ClientReport) error {
	adjusted := ModelReports(reports, r.server.log, r.ids)
	config := validate.Config{ExpectRevisionUnique: r.scenario.traffic.ExpectUniqueRevision()}
	result := validate.ValidateAndReturnVisualize(lg, config, adjusted, PersistedRequests(r.server.log), validationTimeout)
	if err := errors.Join(result.Error(), r.check(reports)); err != nil {
		return r.keep(kept{reports: adjusted, result: &result, judged: judged.String(), err: err})
	}
	return nil
}

func seedOf(t *testing.T) int64 {
	t.Helper()
	seed := time.Now().UnixNano()
	if text := os.Getenv(seedVariable); text != "" {
		given, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", seedVariable, err)
		}
		seed = given
	}
	t.Logf("seed %d; %s=%d gives it back", seed, seedVariable, seed)
	return seed
}

func duration(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv(secondsVariable)
	if text == "" {
		return defaultSeconds * time.Second
	}
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds < 1 {
		t.Fatalf("%s=%s: expected a number of seconds", secondsVariable, text)
	}
	return time.Duration(seconds) * time.Second
}

// record lets load and fault have their time and returns what every client was told. An error is already a finding.
func (r *run) record(lg *zap.Logger) ([]report.ClientReport, error) {
	if err := traffic.CheckEmptyDatabaseAtStart(r.ctx, lg, r.endpoints(), r.clients); err != nil {
		return nil, err
	}
	newest := make(chan int64, 1)
	watched := make(chan error, 1)
	go func() {
		watched <- client.CollectClusterWatchEvents(r.ctx, client.CollectClusterWatchEventsParam{
			Lg: lg, Endpoints: r.endpoints(), MaxRevisionChan: newest, ClientSet: r.clients,
		})
	}()
	if err := r.load.start(r.scenario, lg); err != nil {
		return nil, err
	}
	r.strikeUntil(time.Now().Add(duration(r.T)))
	close(r.finish)
	r.running.Wait()
	r.lastWord()
	r.awaitExpiry()
	err := r.server.Collect()
	if err == nil {
		err = r.server.log.Complete()
	}
	if err == nil {
		newest <- r.server.log.Last
		err = <-watched
	}
	select {
	case other := <-r.errors:
		err = errors.Join(other, err)
	default:
	}
	return r.clients.Reports(), err
}

// strikeUntil lets the fault strike until the time is over, and there is enough to judge.
func (r *run) strikeUntil(end time.Time) {
	r.awaitRevision(revisionsBefore)
	for r.strikes < max(1, r.scenario.strikesMin) || time.Now().Before(end) {
		if len(r.errors) > 0 {
			return
		}
		if r.scenario.strike(r) {
			r.strikes++
		} else if time.Since(end) > momentDeadline {
			r.Fatalf("no moment for the fault was found within %v", momentDeadline)
		}
		r.restartIfEnded()
	}
	r.awaitRevision(revisionsMin)
	harness.Eventually(r.T, "leases are granted, and a compaction was answered", func() bool {
		r.restartIfEnded()
		return len(r.errors) > 0 || (r.compacted.Load() > 0 && r.leased.Load() > 0)
	})
}

func (r *run) awaitRevision(revision int64) {
	r.Helper()
	harness.Eventually(r.T, fmt.Sprintf("the store is at revision %d", revision), func() bool {
		r.restartIfEnded()
		ctx, cancel := context.WithTimeout(r.ctx, traffic.RequestTimeout)
		defer cancel()
		response, err := r.kv.Get(ctx, "x")
		return len(r.errors) > 0 || (err == nil && response.Header.Revision >= revision)
	})
}

// lastWord writes once more: what came before is then known to have happened or not.
func (r *run) lastWord() {
	r.Helper()
	c, err := r.clients.NewClient(r.endpoints())
	if err != nil {
		r.Fatal(err)
	}
	defer c.Close()
	harness.Eventually(r.T, "the store takes writes when the faults are over", func() bool {
		r.restartIfEnded()
		ctx, cancel := context.WithTimeout(r.ctx, traffic.RequestTimeout)
		defer cancel()
		_, err := c.Put(ctx, "last word", strconv.Itoa(r.ids.NewRequestID()))
		return err == nil
	})
}

// awaitExpiry waits until every lease that was left alone has taken its key along.
func (r *run) awaitExpiry() {
	r.Helper()
	harness.Eventually(r.T, "leases that nobody keeps alive end", func() bool {
		r.restartIfEnded()
		ctx, cancel := context.WithTimeout(r.ctx, traffic.RequestTimeout)
		defer cancel()
		response, err := r.kv.Get(ctx, leasePrefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && response.Count == 0
	})
}

// check is what etcd's validators do not look at.
func (r *run) check(reports []report.ClientReport) error {
	log := r.server.log
	return errors.Join(checkPreviousValues(reports), checkAcknowledged(reports, log), checkDeletions(reports, log),
		checkLeases(reports, log))
}

// sum says how much was done, and fails the test where something that it stands for was left out.
func (r *run) sum(reports []report.ClientReport) {
	operations, events := 0, 0
	for _, client := range reports {
		operations += len(client.KeyValue)
		events += client.WatchEventCount()
	}
	log := r.server.log
	if len(log.Compacted) == 0 || len(log.Leases) == 0 || events == 0 {
		r.Errorf("the traffic has left something out: %d compactions, %d leases, %d events", len(log.Compacted), len(log.Leases), events)
	}
	if met := r.scenario.met; met != "" && !strings.Contains(r.server.Log(), met) {
		r.Errorf("the fault has not struck: the store does not say %q", met)
	}
	r.Logf("%d operations, %d events, %d revisions, %d leases (%d ended), %d compactions, %d strikes, %d starts",
		operations, events, log.Last, len(log.Leases), len(log.Revoked), len(log.Compacted), r.strikes, log.Takeovers)
}
