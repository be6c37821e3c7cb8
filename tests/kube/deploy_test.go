package kube_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	kubeadmapi "k8s.io/kubernetes/cmd/kubeadm/app/apis/kubeadm"
	"k8s.io/kubernetes/cmd/kubeadm/app/preflight"
)

// manifests are the files that the Helm chart renders to with each of its sets of values.
var manifests = []string{
	"../../deploy/kubernetes/fleet.yaml", "../../deploy/kubernetes/trial.yaml", "../deploy/rendered/everything.yaml",
}

// serviceMonitors defines of the Prometheus Operator's ServiceMonitor what the chart uses, with the types that its API
// reference has. The operator's own definition is far larger, and not here.
const serviceMonitors = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: servicemonitors.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: {plural: servicemonitors, singular: servicemonitor, kind: ServiceMonitor}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [endpoints, selector]
            properties:
              selector:
                type: object
                properties: {matchLabels: {type: object, additionalProperties: {type: string}}}
              endpoints:
                type: array
                items:
                  type: object
                  properties: {port: {type: string}, path: {type: string}, interval: {type: string}}
`

// manifestsPassTheServersDryRun: every object that the chart renders is one that the API server would take, without a
// field that it does not know, and a pod of the fleet is allowed where the strictest of its security levels is enforced.
func manifestsPassTheServersDryRun(s *suite) {
	const ns = "orlop"
	s.namespace(ns)
	s.kubectl("", "label", "namespace", ns, "pod-security.kubernetes.io/enforce=restricted")
	s.kubectl(serviceMonitors, "apply", "-f", "-")
	s.kubectl("", "wait", "--for=condition=Established", "crd/servicemonitors.monitoring.coreos.com", rolloutLimit)
	defer s.kubectl("", "delete", "crd", "servicemonitors.monitoring.coreos.com", rolloutLimit)
	dryRun := []string{"apply", "--dry-run=server", "--validate=strict", "-f", "-"}
	for _, file := range manifests {
		content, err := os.ReadFile(file)
		s.must(err)
		text := string(content)
		out := s.kubectl(text, dryRun...)
		if got, want := strings.Count(out, "(server dry run)"), strings.Count(text, "\nkind: "); got != want {
			s.Errorf("%s: %d of %d objects were taken:\n%s", filepath.Base(file), got, want, out)
		}
		broken := strings.Replace(text, "readinessProbe:", "readynessProbe:", 1)
		if _, err := s.Kubectl(s.Context(), broken, dryRun...); err == nil ||
			!strings.Contains(err.Error(), "readynessProbe") {
			s.Errorf("%s: a field that does not exist: %v", filepath.Base(file), err)
		}

		pod := s.podOf(text)
		create := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
		_, err = s.Client.CoreV1().Pods(ns).Create(s.Context(), pod, create)
		s.must(err)
		pod.Spec.Containers[0].SecurityContext = nil
		if _, err := s.Client.CoreV1().Pods(ns).Create(s.Context(), pod, create); !apierrors.IsForbidden(err) {
			s.Errorf("%s: a pod without its security context: %v", filepath.Base(file), err)
		}
	}
	list, err := s.Client.AppsV1().StatefulSets(ns).List(s.Context(), metav1.ListOptions{})
	s.must(err)
	if len(list.Items) != 0 {
		s.Errorf("a dry run has left something: %v", list.Items)
	}
	s.kubectl("", "delete", "namespace", ns, rolloutLimit)
}

// podOf is a pod as the StatefulSet among these manifests makes it, but for its service account, which is not there.
func (s *suite) podOf(manifests string) *corev1.Pod {
	s.Helper()
	for manifest := range strings.SplitSeq(manifests, "\n---\n") {
		if strings.Contains(manifest, "\nkind: StatefulSet\n") {
			var set appsv1.StatefulSet
			s.must(yaml.Unmarshal([]byte(manifest), &set))
			pod := &corev1.Pod{ObjectMeta: set.Spec.Template.ObjectMeta, Spec: set.Spec.Template.Spec}
			pod.Name, pod.Spec.ServiceAccountName = set.Name+"-0", "default"
			return pod
		}
	}
	s.Fatal("there is no StatefulSet")
	return nil
}

// kubeadmTakesTheStoreForAnEtcd: what `kubeadm init` checks of an external etcd, by its own code.
func kubeadmTakesTheStoreForAnEtcd(s *suite) {
	external := &kubeadmapi.ExternalEtcd{HTTPEndpoints: strings.Split(s.Store.URLs(), ",")}
	check := preflight.ExternalEtcdVersionCheck{Etcd: kubeadmapi.Etcd{External: external}}
	if warnings, problems := check.Check(); len(warnings)+len(problems) > 0 {
		s.Errorf("%v %v", warnings, problems)
	}
	// It does look: an etcd that is too old does not pass.
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"etcdserver":"3.4.0","etcdcluster":"3.4.0"}`))
	}))
	defer old.Close()
	external.HTTPEndpoints = []string{old.URL}
	if _, problems := check.Check(); len(problems) != 1 || !strings.Contains(problems[0].Error(), "3.4.0") {
		s.Errorf("an old version: %v", problems)
	}
}
