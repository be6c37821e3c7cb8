package kube_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/watch"

	"github.com/orlop/orlop/tests/kube/cluster"
)

// next returns the next event of a watch, and ends the test when there is none in time.
func (s *suite) next(watcher watch.Interface) watch.Event {
	s.Helper()
	select {
	case event, open := <-watcher.ResultChan():
		if !open {
			s.Fatal("the watch ended")
		}
		if event.Type == watch.Error {
			s.Fatalf("the watch failed: %v", event.Object)
		}
		return event
	case <-time.After(cluster.Patience):
		s.Fatal("no event came")
	}
	return watch.Event{}
}

// seeInOrder ends the test unless the next events of the watch are of these types.
func (s *suite) seeInOrder(watcher watch.Interface, types ...watch.EventType) {
	s.Helper()
	for i, want := range types {
		if event := s.next(watcher); event.Type != want {
			s.Fatalf("event %d of %v is %s: %v", i, types, event.Type, event.Object)
		}
	}
}

// printed is nil when the output of a kubectl that goes on has these lines, in this order, others between.
func printed(kubectl *cluster.Process, want ...string) error {
	if err := kubectl.Err(); err != nil {
		return err
	}
	lines, err := kubectl.LogFrom(0)
	if err != nil {
		return err
	}
	rest := lines
	for _, line := range want {
		at := slices.Index(rest, line)
		if at < 0 {
			return fmt.Errorf("no line %q in its place in:\n%s", line, strings.Join(lines, "\n"))
		}
		rest = rest[at+1:]
	}
	return nil
}

// watchFormat makes `kubectl get --watch` print one line for each change.
const watchFormat = `--output=jsonpath={.type} {.object.metadata.name} {.object.data.color}{"\n"}`

// startKubectlWatch starts `kubectl get --watch` on the config maps of a namespace and returns when it has
// listed what is there, of which one must be the marker.
func (s *suite) startKubectlWatch(name, ns, marker string) *cluster.Process {
	s.Helper()
	kubectl, err := s.StartKubectl(name, "get", "configmaps", "--namespace="+ns, "--watch",
		"--output-watch-events", watchFormat)
	s.must(err)
	s.Cleanup(kubectl.Kill)
	s.eventually("kubectl lists what is there", func(context.Context) error { return printed(kubectl, marker) })
	return kubectl
}

// kubectlWatchSeesChanges: `kubectl get -w` prints what is there and then each change.
func kubectlWatchSeesChanges(s *suite) {
	ns := s.namespace("watched")
	in := "--namespace=" + ns
	s.kubectl("", "create", "configmap", "paint", "--from-literal=color=red", in)
	kubectl := s.startKubectlWatch("kubectl-watch", ns, "ADDED paint red")
	s.kubectl("", "patch", "configmap/paint", in, `--patch={"data":{"color":"green"}}`)
	s.kubectl("", "create", "configmap", "ink", "--from-literal=color=blue", in)
	s.kubectl("", "delete", "configmap/paint", in)
	s.eventually("kubectl prints the changes", func(context.Context) error {
		return printed(kubectl, "ADDED paint red", "MODIFIED paint green", "ADDED ink blue", "DELETED paint green")
	})
}
