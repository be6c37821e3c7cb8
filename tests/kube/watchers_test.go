package kube_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listersv1 "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/orlop/orlop/tests/kube/cluster"
)

// watchers follow the config maps of one namespace through a crash, in the two ways clients do: as a plain
// watch, and as an informer that keeps a copy.
type watchers struct {
	watch    watch.Interface
	informer listersv1.ConfigMapNamespaceLister
	// fullReads counts how often the informer asked for everything instead of for what is new; firstReads
	// is how often it did to begin with.
	fullReads  atomic.Int64
	firstReads int64

	mutex   sync.Mutex
	changes map[string][]change
	version int64
	err     error
}

// startWatchers returns when both have seen what is there.
func (s *suite) startWatchers(ns string) *watchers {
	s.Helper()
	w := &watchers{changes: map[string][]change{}}
	list, err := s.Client.CoreV1().ConfigMaps(ns).List(s.Context(), metav1.ListOptions{})
	s.must(err)
	w.version, err = strconv.ParseInt(list.ResourceVersion, 10, 64)
	s.must(err)
	w.watch, err = s.Client.CoreV1().ConfigMaps(ns).Watch(s.Context(), metav1.ListOptions{
		ResourceVersion: list.ResourceVersion, AllowWatchBookmarks: true, TimeoutSeconds: watchSeconds(),
	})
	s.must(err)
	s.Cleanup(w.watch.Stop)
	go w.follow()

	config := rest.CopyConfig(s.Config)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &readCounter{next: next, full: &w.fullReads} })
	client, err := kubernetes.NewForConfig(config)
	s.must(err)
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(ns))
	informer := factory.Core().V1().ConfigMaps().Informer()
	w.informer = factory.Core().V1().ConfigMaps().Lister().ConfigMaps(ns)
	factory.Start(s.Context().Done())
	if !cache.WaitForCacheSync(s.Context().Done(), informer.HasSynced) {
		s.Fatal("the informer did not start")
	}
	w.firstReads = w.fullReads.Load()
	return w
}

// readCounter counts requests that read a whole collection: lists, and watches that begin with a list.
type readCounter struct {
	next http.RoundTripper
	full *atomic.Int64
}

func (c *readCounter) RoundTrip(request *http.Request) (*http.Response, error) {
	query := request.URL.Query()
	if query.Get("watch") != "true" || query.Get("sendInitialEvents") == "true" {
		c.full.Add(1)
	}
	return c.next.RoundTrip(request)
}

// follow records what the plain watch delivers until it ends.
func (w *watchers) follow() {
	for event := range w.watch.ResultChan() {
		w.mutex.Lock()
		if err := w.take(event); err != nil && w.err == nil {
			w.err = err
		}
		w.mutex.Unlock()
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if w.err == nil {
		w.err = errors.New("the watch that was opened before the crash ended")
	}
}

// take checks that an event follows those before it, and notes it.
func (w *watchers) take(event watch.Event) error {
	if event.Type == watch.Error {
		return fmt.Errorf("the watch failed: %v", event.Object)
	}
	object, err := meta.Accessor(event.Object)
	if err != nil {
		return err
	}
	version, err := strconv.ParseInt(object.GetResourceVersion(), 10, 64)
	if err != nil {
		return err
	}
	ordered := version > w.version || event.Type == watch.Bookmark && version == w.version
	if !ordered {
		return fmt.Errorf("%s %s has version %d, after %d", event.Type, object.GetName(), version, w.version)
	}
	w.version = version
	if configMap, ok := event.Object.(*corev1.ConfigMap); ok && event.Type != watch.Bookmark {
		seen := change{kind: event.Type, version: version, step: configMap.Data["step"]}
		w.changes[configMap.Name] = append(w.changes[configMap.Name], seen)
	}
	return nil
}

// expect waits until both watchers know exactly what the records say, and ends the test when they do not
// come to it, or when the informer had to read everything again.
func (w *watchers) expect(s *suite, records []*record) {
	s.Helper()
	halted := func() error { return errors.Join(s.Halted(), w.failure()) }
	s.must(cluster.Poll(s.Context(), "the watch of before has delivered every change", halted,
		func(context.Context) error { return w.delivered(records) }))
	s.eventually("the informer knows every object", func(context.Context) error { return w.known(records) })
	if again := w.fullReads.Load() - w.firstReads; again != 0 {
		s.Errorf("the informer read the whole collection %d times more", again)
	}
}

// failure says what was wrong with the plain watch, or that it ended.
func (w *watchers) failure() error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.err
}

// delivered is nil when the plain watch has delivered what the records say: each change once, in order.
func (w *watchers) delivered(records []*record) error {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	for _, r := range records {
		same := func(seen, want change) bool {
			return seen.kind == want.kind && seen.step == want.step &&
				(want.version == unknownVersion || seen.version == want.version)
		}
		if !slices.EqualFunc(w.changes[r.name], r.changes, same) {
			return fmt.Errorf("%s: the watch saw %+v, written was %+v", r.name, w.changes[r.name], r.changes)
		}
	}
	return nil
}

// known is nil when the copy that the informer keeps is what the records say.
func (w *watchers) known(records []*record) error {
	expected := map[string]string{}
	for _, r := range records {
		if last := r.last(); last.kind != watch.Deleted {
			expected[r.name] = last.step
		}
	}
	objects, err := w.informer.List(labels.Everything())
	if err != nil {
		return err
	}
	found := 0
	for _, object := range objects {
		step, ours := object.Data["step"]
		if !ours {
			continue
		}
		found++
		if want, exists := expected[object.Name]; !exists || want != step {
			return fmt.Errorf("the informer has %s at step %s, written was %q", object.Name, step, want)
		}
	}
	return equal("the number of objects in the informer", found, len(expected))
}
