// Package kube_test runs a real Kubernetes control plane on the store and checks what its users see.
//
// It must not know how the store works inside: everything goes through kube-apiserver, kubectl and
// client-go, and the same suite passes on etcd (ORLOP_KUBE_STORE=etcd), which is the reference.
package kube_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/orlop/orlop/tests/kube/binaries"
	"github.com/orlop/orlop/tests/kube/cluster"
)

const nodeCount = 3

// suite is the one control plane that all parts share, and the test that runs now.
type suite struct {
	*testing.T
	*cluster.Cluster
	nodes *cluster.Nodes
}

// part is one of the things that users of a cluster do.
type part struct {
	name string
	run  func(*suite)
}

// everyday are the parts that each have a namespace of their own and leave the control plane as they found it.
var everyday = []part{
	{"ReadinessChecksAllPass", readinessChecksAllPass},
	{"NamespaceTakesItsContentsAlong", namespaceTakesItsContentsAlong},
	{"DeploymentRunsOnNodesTheSchedulerChose", deploymentRunsOnNodesTheSchedulerChose},
	{"DeletionCollectsDependents", deletionCollectsDependents},
	{"ConfigMapsAndSecretsKeepTheirBytes", configMapsAndSecretsKeepTheirBytes},
	{"ConcurrentUpdatesLoseNothing", concurrentUpdatesLoseNothing},
	{"CustomResourcesLiveAndDieWithTheirDefinition", customResourcesLiveAndDieWithTheirDefinition},
	{"OversizedObjectIsRefusedWithTheReason", oversizedObjectIsRefusedWithTheReason},
	{"KubectlWatchSeesChanges", kubectlWatchSeesChanges},
	{"EventsExpireAndWatchersSeeIt", eventsExpireAndWatchersSeeIt},
	{"PagedListIsOneMoment", pagedListIsOneMoment},
	{"KubeadmTakesTheStoreForAnEtcd", kubeadmTakesTheStoreForAnEtcd},
	{"ManifestsPassTheServersDryRun", manifestsPassTheServersDryRun},
	// Compaction comes before the crash, so that every idle watch has to resume from behind it.
	{"CompactedHistoryIsGone", compactedHistoryIsGone},
}

// TestKubernetes starts one control plane on one server and runs every part on it.
func TestKubernetes(t *testing.T) {
	kind, err := cluster.KindFromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	startSuite(t, kind).run(everyday, []part{
		{"CrashOfTheStoreLosesNothing", crashOfTheStoreLosesNothing},
		{"ReadinessChecksAllPassAtTheEnd", readinessChecksAllPass},
	})
}

// TestKubernetesOnAFleet does the same on three servers, all of which the apiserver knows.
func TestKubernetesOnAFleet(t *testing.T) {
	if os.Getenv("ORLOP_KUBE_STORE") != "" {
		t.Skip("ORLOP_KUBE_STORE asks for one kind of store only")
	}
	startSuite(t, cluster.Fleet).run(everyday, []part{
		{"RollingRestartFailsNoRequest", rollingRestartFailsNoRequest},
		{"CrashOfTheLeaderLosesNothing", crashOfTheStoreLosesNothing},
		{"ReadinessChecksAllPassAtTheEnd", readinessChecksAllPass},
	})
}

// run runs the parts in their order.
func (s *suite) run(lists ...[]part) {
	for _, part := range slices.Concat(lists...) {
		s.T.Run(part.name, func(t *testing.T) {
			part.run(&suite{T: t, Cluster: s.Cluster, nodes: s.nodes})
		})
	}
}

// startSuite builds the programs when they are missing, starts everything, and arranges its end.
func startSuite(t *testing.T, kind cluster.Kind) *suite {
	t.Helper()
	ctx := t.Context()
	dir, err := os.MkdirTemp("", "orlop-kube-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	// Before the minutes of a first build: is the store to test there at all?
	if _, err := cluster.NewStore(kind, dir, dir); err != nil {
		t.Fatal(err)
	}
	binDir, err := binaries.Ensure(ctx, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cluster.Start(ctx, kind, binDir, dir)
	t.Cleanup(func() {
		c.Stop()
		if t.Failed() {
			c.PrintLogs(os.Stderr)
		}
	})
	showLogsBeforeTheTimeLimit(t, c)
	if err != nil {
		t.Fatal(err)
	}
	nodes, err := c.StartNodes(ctx, nodeCount)
	t.Cleanup(nodes.Stop)
	if err != nil {
		t.Fatal(err)
	}
	return &suite{T: t, Cluster: c, nodes: nodes}
}

// showLogsBeforeTheTimeLimit makes up for `go test`, which ends a process that is over its limit without
// any clean-up.
func showLogsBeforeTheTimeLimit(t *testing.T, c *cluster.Cluster) {
	const ahead = 15 * time.Second
	if limit, limited := t.Deadline(); limited {
		timer := time.AfterFunc(time.Until(limit)-ahead, func() { c.PrintLogs(os.Stderr) })
		t.Cleanup(func() { timer.Stop() })
	}
}

// must ends the test on an error.
func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// eventually waits until check returns nil, and ends the test when that does not happen.
func (s *suite) eventually(what string, check func(context.Context) error) {
	s.Helper()
	s.must(s.Poll(s.Context(), what, check))
}

// kubectl runs kubectl and ends the test when it fails.
func (s *suite) kubectl(stdin string, args ...string) string {
	s.Helper()
	out, err := s.Kubectl(s.Context(), stdin, args...)
	s.must(err)
	return out
}

// namespace makes a namespace that is ready for pods.
func (s *suite) namespace(name string) string {
	s.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := s.Client.CoreV1().Namespaces().Create(s.Context(), namespace, metav1.CreateOptions{})
	s.must(err)
	s.eventually("namespace "+name+" has its default service account", func(ctx context.Context) error {
		_, err := s.Client.CoreV1().ServiceAccounts(name).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	return name
}

// equal is an error when two values differ, for use in checks.
func equal[V comparable](what string, got, want V) error {
	if got != want {
		return fmt.Errorf("%s is %v, expected %v", what, got, want)
	}
	return nil
}
