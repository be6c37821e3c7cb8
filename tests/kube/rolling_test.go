package kube_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	rollingRounds  = 2
	rollingWriters = 4
	// rollingGrace is how long a server may take to end: it promises 5 s.
	rollingGrace = 10 * time.Second
	// rollingBefore is how many acknowledged changes there are before the first server is stopped, and after the last.
	rollingBefore = 100
)

// rollingRestartFailsNoRequest stops and starts every server, one after the other, under writes: none of them fails,
// nothing is lost, and no watch has to begin anew.
func rollingRestartFailsNoRequest(s *suite) {
	ns := s.namespace("rolling")
	defer s.expectHistoryKept(s.observeHistory())
	watchers := s.startWatchers(ns)
	maps := s.Client.CoreV1().ConfigMaps(ns)
	var acknowledged atomic.Int64
	stop := make(chan struct{})
	written := make([][]*record, rollingWriters)
	var tasks sync.WaitGroup
	for writer := range rollingWriters {
		tasks.Go(func() {
			var err error
			written[writer], err = writeUntil(s.Context(), maps, fmt.Sprintf("writer-%d", writer), stop, &acknowledged)
			if err != nil {
				s.Errorf("a write failed: %v", err)
			}
		})
	}
	more := func() {
		enough := acknowledged.Load() + rollingBefore
		s.eventually("writes go on", func(context.Context) error {
			if count := acknowledged.Load(); count < enough {
				return fmt.Errorf("%d changes were acknowledged", count)
			}
			return nil
		})
	}
	more()
	for range rollingRounds {
		s.must(s.Store.Roll(s.Context(), rollingGrace))
		more()
	}
	close(stop)
	tasks.Wait()
	records := s.settleAll(maps, slices.Concat(written...))
	s.Logf("%d objects over %d restarts of servers", len(records), rollingRounds*3)
	watchers.expect(s, records)
}
