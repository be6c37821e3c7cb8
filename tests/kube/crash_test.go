package kube_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	clientv1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

const (
	crashRounds  = 5
	crashWriters = 8
	// crashAfter is how many acknowledged changes a round collects before the store is killed.
	crashAfter = 300
	// shownErrors is how many wrong objects are shown one by one.
	shownErrors = 5
)

// crashOfTheStoreLosesNothing kills the store, or the server that leads it, amid writes, again and again, and starts it again on the same
// data. Nothing that was acknowledged is lost, and nobody else has to be restarted or to read all again.
func crashOfTheStoreLosesNothing(s *suite) {
	ns := s.namespace("crash")
	s.kubectl("", "create", "configmap", "marker", "--from-literal=color=red", "--namespace="+ns)
	defer s.expectHistoryKept(s.observeHistory())
	watchers := s.startWatchers(ns)
	kubectl := s.startKubectlWatch("kubectl-watch-crash", ns, "ADDED marker red")
	events := s.watchEvents(ns, "before-the-crash")
	defer events.Stop()
	s.createEvent(ns, "before-the-crash")
	s.seeInOrder(events, watch.Added)

	var records []*record
	for round := range crashRounds {
		records = append(records, s.crashOnce(ns, round)...)
		s.Logf("round %d: %d objects so far", round, len(records))
		if s.Failed() {
			s.FailNow()
		}
	}
	watchers.expect(s, records)

	s.kubectlWorks(ns)
	s.eventually("the kubectl of before goes on", func(context.Context) error {
		return printed(kubectl, "ADDED marker red", "MODIFIED marker blue", "DELETED marker blue")
	})
	// The Event was stored with a lease. Its end comes after the crashes, which give a lease its full time
	// again, and is seen by the watch of before, which is a watch on the store itself.
	s.seeInOrder(events, watch.Deleted)
}

// crashOnce writes until the store is killed, starts it again, and returns what was written and checked.
func (s *suite) crashOnce(ns string, round int) []*record {
	s.Helper()
	maps := s.Client.CoreV1().ConfigMaps(ns)
	var acknowledged atomic.Int64
	var killed atomic.Bool
	stop := make(chan struct{})
	written := make([][]*record, crashWriters)
	var tasks sync.WaitGroup
	for writer := range crashWriters {
		tasks.Go(func() {
			prefix := fmt.Sprintf("round-%d-writer-%d", round, writer)
			var err error
			written[writer], err = writeUntil(s.Context(), maps, prefix, stop, &acknowledged)
			if err != nil && !killed.Load() {
				s.Errorf("a write failed before the store was killed: %v", err)
			}
		})
	}
	err := s.Poll(s.Context(), "writes are under way", func(context.Context) error {
		if count := acknowledged.Load(); count < crashAfter {
			return fmt.Errorf("%d changes were acknowledged", count)
		}
		return nil
	})
	killed.Store(true)
	s.must(err)
	s.must(s.Store.Kill(s.Context()))
	s.must(s.Store.Restart(s.Context()))
	close(stop)
	tasks.Wait()

	s.eventually("the apiserver reaches the store again", func(ctx context.Context) error {
		_, err := s.Client.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
		return err
	})
	return s.settleAll(maps, slices.Concat(written...))
}

// settleAll compares all objects with what is known about them, and returns the records.
func (s *suite) settleAll(maps clientv1.ConfigMapInterface, records []*record) []*record {
	s.Helper()
	wrong := 0
	for _, r := range records {
		if err := r.settle(s.read(maps, r.name)); err != nil {
			if wrong++; wrong <= shownErrors {
				s.Error(err)
			}
		}
	}
	if wrong > 0 {
		s.Errorf("%d of %d objects are not as they were acknowledged", wrong, len(records))
	}
	return records
}

// read returns the object as the store has it, and nil when it is certain that it is not there.
func (s *suite) read(maps clientv1.ConfigMapInterface, name string) *corev1.ConfigMap {
	s.Helper()
	var found *corev1.ConfigMap
	s.eventually(name+" can be read", func(ctx context.Context) error {
		object, err := maps.Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		found = object
		return err
	})
	return found
}

// writeUntil creates objects, changes each twice and deletes every third, until a write fails or it is
// told to stop. It returns all that it wrote or tried to.
func writeUntil(
	ctx context.Context, maps clientv1.ConfigMapInterface, prefix string, stop <-chan struct{}, acknowledged *atomic.Int64,
) ([]*record, error) {
	var records []*record
	for i := 0; ; i++ {
		r := &record{name: fmt.Sprintf("%s-%d", prefix, i)}
		records = append(records, r)
		life := []watch.EventType{watch.Added, watch.Modified, watch.Modified}
		if i%3 == 2 {
			life = append(life, watch.Deleted)
		}
		for _, kind := range life {
			select {
			case <-stop:
				return records, nil
			default:
			}
			if err := r.apply(ctx, maps, kind); err != nil {
				return records, err
			}
			acknowledged.Add(1)
		}
	}
}

// kubectlWorks does with kubectl, on the apiserver that has been running all the time, what needs the
// store, the controllers and the scheduler.
func (s *suite) kubectlWorks(ns string) {
	s.Helper()
	in := "--namespace=" + ns
	s.kubectl("", "patch", "configmap/marker", in, `--patch={"data":{"color":"blue"}}`)
	s.kubectl("", "delete", "configmap/marker", in)
	s.kubectl(deploymentManifest("after", 3, ""), "apply", in, "-f", "-")
	s.eventually("3 new pods run", func(ctx context.Context) error { return s.podsRun(ctx, ns, "after", 3) })
	s.kubectl("", "delete", "deployment/after", in, "--cascade=foreground", rolloutLimit)
	for _, node := range s.nodes.Names {
		object, err := s.Client.CoreV1().Nodes().Get(s.Context(), node, metav1.GetOptions{})
		s.must(err)
		for _, condition := range object.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status != corev1.ConditionTrue {
				s.Errorf("%s is not ready after the crashes: %s", node, condition.Message)
			}
		}
	}
}
