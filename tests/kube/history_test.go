package kube_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlop/orlop/tests/kube/cluster"
)

// lostHistory are the lines by which an apiserver says that its store did not have the history that it
// should have had, or that it therefore gave up a cache and read everything again.
var lostHistory = []string{
	"required revision has been compacted",
	"required revision is a future revision",
	"too old resource version",
	"Too large resource version",
	"Terminating all watchers from cacher",
	"unexpected ListAndWatch error",
	"failed to sync with latest state",
	"etcd event received with PrevKv=nil",
	"Cache consistency check failed",
}

// cacheInitializations counts, for each kind of object, how often the apiserver read all of it to fill its
// cache: once, unless it lost its place in history.
const cacheInitializations = "apiserver_watch_cache_initializations_total"

// history is how far the apiserver was, and what it had read, at one moment.
type history struct {
	logOffset       int64
	initializations map[string]string
}

func (s *suite) observeHistory() history {
	s.Helper()
	offset, err := s.LogSize()
	s.must(err)
	return history{logOffset: offset, initializations: s.metric(cacheInitializations)}
}

// expectHistoryKept fails the test when the apiserver met lost history since a moment. It is run at the end
// of a test whatever happened in it, because it says why.
func (s *suite) expectHistoryKept(since history) {
	lines, err := s.LogFrom(since.logOffset)
	s.must(err)
	for _, text := range lostHistory {
		saying := slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return !strings.Contains(line, text) })
		if len(saying) > 0 {
			s.Errorf("kube-apiserver met lost history: %d lines say %q, first: %s", len(saying), text, saying[0])
		}
	}
	now := s.metric(cacheInitializations)
	if len(now) == 0 {
		s.Errorf("kube-apiserver does not report %s", cacheInitializations)
	}
	if !maps.Equal(now, since.initializations) {
		s.Errorf("kube-apiserver read whole collections again: before %v, now %v", since.initializations, now)
	}
}

// metric returns the apiserver's counter of this name, by its labels.
func (s *suite) metric(name string) map[string]string {
	s.Helper()
	content, err := s.Client.RESTClient().Get().AbsPath("/metrics").DoRaw(s.Context())
	s.must(err)
	values := map[string]string{}
	for line := range strings.SplitSeq(string(content), "\n") {
		var value string
		labels, found := strings.CutPrefix(line, name+"{")
		if !found {
			continue
		}
		if _, err := fmt.Sscan(labels[strings.LastIndex(labels, "}")+1:], &value); err != nil {
			s.Fatalf("unexpected metric %s: %v", line, err)
		}
		values[labels[:strings.LastIndex(labels, "}")]] = value
	}
	return values
}

// compactedHistoryIsGone: the apiserver's compaction reaches the store, and asking for what it dropped is
// answered as Kubernetes expects, so that clients know to start over.
func compactedHistoryIsGone(s *suite) {
	// Events are read from the store itself. Version 1 is before anything a cluster wrote.
	old := metav1.ListOptions{ResourceVersion: "1", ResourceVersionMatch: metav1.ResourceVersionMatchExact, Limit: 1}
	s.eventually("version 1 has been compacted", func(ctx context.Context) error {
		_, err := s.Client.CoreV1().Events("default").List(ctx, old)
		if !apierrors.IsResourceExpired(err) {
			return fmt.Errorf("a list at version 1, compaction runs every %s: %v", cluster.CompactionInterval, err)
		}
		return nil
	})
	watcher, err := s.Client.CoreV1().Events("default").Watch(s.Context(), metav1.ListOptions{ResourceVersion: "1"})
	if err == nil {
		defer watcher.Stop()
		event := <-watcher.ResultChan()
		err = apierrors.FromObject(event.Object)
	}
	if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		s.Errorf("a watch from version 1: %v", err)
	}
}
