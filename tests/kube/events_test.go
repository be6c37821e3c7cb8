package kube_test

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/orlop/orlop/tests/kube/cluster"
)

// createEvent records an Event about nothing; Events are the objects that the apiserver stores with a lease.
func (s *suite) createEvent(ns, name string) *corev1.Event {
	s.Helper()
	now := metav1.Now()
	event, err := s.Client.CoreV1().Events(ns).Create(s.Context(), &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: name},
		InvolvedObject: corev1.ObjectReference{Kind: "Namespace", Name: ns, Namespace: ns},
		Reason:         "Test", Message: "about " + name, Type: corev1.EventTypeNormal,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}, metav1.CreateOptions{})
	s.must(err)
	return event
}

// watchEvents watches one Event of a namespace. The apiserver has no cache of them: this is a watch on the
// store itself.
func (s *suite) watchEvents(ns, name string) watch.Interface {
	s.Helper()
	watcher, err := s.Client.CoreV1().Events(ns).Watch(s.Context(), metav1.ListOptions{
		FieldSelector: "metadata.name=" + name, TimeoutSeconds: watchSeconds(),
	})
	s.must(err)
	return watcher
}

// watchSeconds keeps the apiserver from ending a watch within a run of the suite.
func watchSeconds() *int64 {
	seconds := int64((24 * time.Hour).Seconds())
	return &seconds
}

// eventsExpireAndWatchersSeeIt: an Event is deleted when its time is over and not before, and a watcher is
// told, with the object as it was.
func eventsExpireAndWatchersSeeIt(s *suite) {
	ns := s.namespace("expiry")
	watcher := s.watchEvents(ns, "short")
	defer watcher.Stop()
	started := time.Now()
	created := s.createEvent(ns, "short")
	s.seeInOrder(watcher, watch.Added)

	deleted := s.next(watcher)
	if lived := time.Since(started); lived < cluster.EventTTL {
		s.Errorf("the event lived for %s of its %s", lived, cluster.EventTTL)
	}
	last, ok := deleted.Object.(*corev1.Event)
	if deleted.Type != watch.Deleted || !ok || last.Message != created.Message {
		s.Fatalf("expected the deletion of %s, got %s %v", created.Name, deleted.Type, deleted.Object)
	}
	if resourceVersion(s, last) <= resourceVersion(s, created) {
		s.Errorf("deleted at version %s, created at %s", last.ResourceVersion, created.ResourceVersion)
	}
	_, err := s.Client.CoreV1().Events(ns).Get(s.Context(), "short", metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		s.Errorf("an expired event: %v", err)
	}
}
