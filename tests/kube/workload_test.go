package kube_test

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// rolloutLimit is kubectl's own limit for a rollout; it bounds a hang.
const rolloutLimit = "--timeout=180s"

func deploymentManifest(name string, replicas int, annotations string) string {
	return fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata:
  name: %s
  annotations: {%s}
spec:
  replicas: %d
  selector: {matchLabels: {app: %s}}
  template:
    metadata: {labels: {app: %s}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: main, image: "example.invalid/app:1", resources: {requests: {cpu: 10m}}}
`, name, annotations, replicas, name, name)
}

// deploymentRunsOnNodesTheSchedulerChose: controllers and scheduler work through the store, and kubectl's
// apply, scale and patch do what they say.
func deploymentRunsOnNodesTheSchedulerChose(s *suite) {
	ns := s.namespace("workload")
	in := "--namespace=" + ns
	s.kubectl(deploymentManifest("web", 3, "note: first, extra: gone-later"), "apply", in, "-f", "-")
	s.eventually("3 pods run on nodes", func(ctx context.Context) error { return s.podsRun(ctx, ns, "web", 3) })
	s.eventually("one replica set owns them", func(ctx context.Context) error {
		sets, err := s.liveReplicaSets(ctx, ns)
		if err != nil {
			return err
		}
		return equal("the number of replica sets with pods", len(sets), 1)
	})
	s.kubectl("", "rollout", "status", "deployment/web", in, rolloutLimit)

	s.kubectl("", "scale", "deployment/web", "--replicas=5", in)
	s.eventually("5 pods run on nodes", func(ctx context.Context) error { return s.podsRun(ctx, ns, "web", 5) })

	// A second apply removes what it no longer names, and keeps apart what others own.
	s.kubectl(deploymentManifest("web", 4, "note: second"), "apply", in, "-f", "-")
	deployment, err := s.Client.AppsV1().Deployments(ns).Get(s.Context(), "web", metav1.GetOptions{})
	s.must(err)
	if _, extra := deployment.Annotations["extra"]; extra || deployment.Annotations["note"] != "second" {
		s.Errorf("annotations after the second apply: %v", deployment.Annotations)
	}

	before, err := s.liveReplicaSets(s.Context(), ns)
	s.must(err)
	patch := `{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"example.invalid/app:2"}]}}}}`
	s.kubectl("", "patch", "deployment/web", in, "--patch="+patch)
	s.kubectl("", "rollout", "status", "deployment/web", in, rolloutLimit)
	s.eventually("only a new replica set has pods", func(ctx context.Context) error {
		after, err := s.liveReplicaSets(ctx, ns)
		if err != nil {
			return err
		}
		if len(after) != 1 || slices.Contains(before, after[0]) {
			return fmt.Errorf("replica sets with pods: %v, before: %v", after, before)
		}
		return s.podsRun(ctx, ns, "web", 4)
	})
}

// podsRun is nil when exactly this many pods exist and each runs on a node that the scheduler bound it to.
func (s *suite) podsRun(ctx context.Context, ns, app string, count int) error {
	pods, err := s.Client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		return err
	}
	if err := equal("the number of pods", len(pods.Items), count); err != nil {
		return err
	}
	for _, pod := range pods.Items {
		if !slices.Contains(s.nodes.Names, pod.Spec.NodeName) {
			return fmt.Errorf("pod %s is on node %q", pod.Name, pod.Spec.NodeName)
		}
		if err := equal("the phase of "+pod.Name, pod.Status.Phase, corev1.PodRunning); err != nil {
			return err
		}
		if owner := metav1.GetControllerOf(&pod); owner == nil || owner.Kind != "ReplicaSet" {
			return fmt.Errorf("pod %s is owned by %v", pod.Name, owner)
		}
	}
	return nil
}

func (s *suite) liveReplicaSets(ctx context.Context, ns string) ([]string, error) {
	sets, err := s.Client.AppsV1().ReplicaSets(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	live := []string{}
	for _, set := range sets.Items {
		if set.Status.Replicas > 0 && metav1.GetControllerOf(&set) != nil {
			live = append(live, set.Name)
		}
	}
	return live, nil
}

// deletionCollectsDependents: the garbage collector finds what belonged to a deleted object, in the
// background and in the foreground, and leaves what was orphaned on purpose.
func deletionCollectsDependents(s *suite) {
	ns := s.namespace("garbage")
	in := "--namespace=" + ns
	for _, name := range []string{"background", "foreground", "orphan"} {
		s.kubectl(deploymentManifest(name, 2, ""), "apply", "--server-side", in, "-f", "-")
	}
	for _, name := range []string{"background", "foreground", "orphan"} {
		s.eventually("the pods of "+name+" run", func(ctx context.Context) error { return s.podsRun(ctx, ns, name, 2) })
		s.kubectl("", "delete", "deployment", name, in, "--cascade="+name, rolloutLimit)
	}
	s.eventually("nothing is left but the orphans", func(ctx context.Context) error {
		sets, err := s.Client.AppsV1().ReplicaSets(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		pods, err := s.Client.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		if len(sets.Items) != 1 || len(pods.Items) != 2 {
			return fmt.Errorf("%d replica sets and %d pods are left", len(sets.Items), len(pods.Items))
		}
		return orphaned(sets.Items[0])
	})
	if err := s.podsRun(s.Context(), ns, "orphan", 2); err != nil {
		s.Error(err)
	}
}

func orphaned(set appsv1.ReplicaSet) error {
	if !strings.HasPrefix(set.Name, "orphan-") || len(set.OwnerReferences) != 0 {
		return fmt.Errorf("replica set %s has the owners %v", set.Name, set.OwnerReferences)
	}
	return nil
}

// namespaceTakesItsContentsAlong: deleting a namespace removes all that is in it, and the name is free again.
func namespaceTakesItsContentsAlong(s *suite) {
	ns := s.namespace("short-lived")
	in := "--namespace=" + ns
	for i := range 5 {
		s.kubectl("", "create", "configmap", fmt.Sprintf("map-%d", i), "--from-literal=key=value", in)
	}
	s.kubectl("", "delete", "namespace", ns, rolloutLimit)
	_, err := s.Client.CoreV1().Namespaces().Get(s.Context(), ns, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		s.Fatalf("kubectl returned before the namespace was gone: %v", err)
	}
	s.namespace(ns)
	maps, err := s.Client.CoreV1().ConfigMaps(ns).List(s.Context(), metav1.ListOptions{LabelSelector: "!kubernetes"})
	s.must(err)
	for _, item := range maps.Items {
		if strings.HasPrefix(item.Name, "map-") {
			s.Errorf("%s outlived its namespace", item.Name)
		}
	}
}
