package kube_test

import (
	"bytes"
	"strconv"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
)

// configMapsAndSecretsKeepTheirBytes: what was written comes back, byte for byte, up to the largest value
// that Kubernetes admits; an update on an old version and a second create are refused.
func configMapsAndSecretsKeepTheirBytes(s *suite) {
	ns, ctx := s.namespace("config"), s.Context()
	maps, secrets := s.Client.CoreV1().ConfigMaps(ns), s.Client.CoreV1().Secrets(ns)

	everyByte := make([]byte, 256)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	largest := bytes.Repeat(everyByte, corev1.MaxSecretSize/len(everyByte))
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "largest"}, Data: map[string][]byte{"bytes": largest},
	}
	_, err := secrets.Create(ctx, secret, metav1.CreateOptions{})
	s.must(err)
	stored, err := secrets.Get(ctx, "largest", metav1.GetOptions{})
	s.must(err)
	if !bytes.Equal(stored.Data["bytes"], largest) {
		s.Errorf("the secret came back changed: %d bytes of %d", len(stored.Data["bytes"]), len(largest))
	}

	first := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "versions"},
		Data:       map[string]string{"empty": "", "text": "löwe\n"}, BinaryData: map[string][]byte{"bin": everyByte},
	}
	old, err := maps.Create(ctx, first, metav1.CreateOptions{})
	s.must(err)
	if _, err := maps.Create(ctx, first, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		s.Errorf("a second create: %v", err)
	}
	changed := old.DeepCopy()
	changed.Data["text"] = "other"
	changed, err = maps.Update(ctx, changed, metav1.UpdateOptions{})
	s.must(err)
	if resourceVersion(s, changed) <= resourceVersion(s, old) {
		s.Errorf("the version went from %s to %s", old.ResourceVersion, changed.ResourceVersion)
	}
	if _, err := maps.Update(ctx, old, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		s.Errorf("an update of an old version: %v", err)
	}
	read, err := maps.Get(ctx, "versions", metav1.GetOptions{})
	s.must(err)
	empty, found := read.Data["empty"]
	if !found || empty != "" || read.Data["text"] != "other" || !bytes.Equal(read.BinaryData["bin"], everyByte) {
		s.Errorf("the config map came back as %v", read.Data)
	}
	s.kubectl("", "delete", "configmap/versions", "secret/largest", "--namespace="+ns)
	if _, err := maps.Get(ctx, "versions", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		s.Errorf("after its deletion: %v", err)
	}
}

// resourceVersion is the version of an object as the number that it is here.
func resourceVersion(s *suite, object metav1.Object) int64 {
	s.Helper()
	version, err := strconv.ParseInt(object.GetResourceVersion(), 10, 64)
	s.must(err)
	return version
}

// concurrentUpdatesLoseNothing: many writers count up the same object under optimistic concurrency, and
// every acknowledged step is in the result.
func concurrentUpdatesLoseNothing(s *suite) {
	const writers, steps = 8, 10
	ns, ctx := s.namespace("counter"), s.Context()
	maps := s.Client.CoreV1().ConfigMaps(ns)
	counter := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "counter"}, Data: map[string]string{"count": "0"},
	}
	_, err := maps.Create(ctx, counter, metav1.CreateOptions{})
	s.must(err)

	increment := func() error {
		current, err := maps.Get(ctx, "counter", metav1.GetOptions{})
		if err != nil {
			return err
		}
		count, err := strconv.Atoi(current.Data["count"])
		if err != nil {
			return err
		}
		current.Data["count"] = strconv.Itoa(count + 1)
		_, err = maps.Update(ctx, current, metav1.UpdateOptions{})
		return err
	}
	patient := retry.DefaultRetry
	patient.Steps = 1000 // each conflict means that another writer got on, so this many cannot happen
	var tasks sync.WaitGroup
	for range writers {
		tasks.Go(func() {
			for range steps {
				if err := retry.RetryOnConflict(patient, increment); err != nil {
					s.Error(err)
				}
			}
		})
	}
	tasks.Wait()
	result, err := maps.Get(ctx, "counter", metav1.GetOptions{})
	s.must(err)
	if got := result.Data["count"]; got != strconv.Itoa(writers*steps) {
		s.Errorf("%d writers counted %d steps each and arrived at %s", writers, steps, got)
	}
}

// oversizedObjectIsRefusedWithTheReason: the store's limit reaches the user in the exact words by which
// the apiserver knows it, and nothing of the object stays behind.
func oversizedObjectIsRefusedWithTheReason(s *suite) {
	// Over the 1.5 MiB of the store, under the 3 MiB of the apiserver; annotations and config maps have
	// lower limits of their own, a pod's command has none.
	const size = 1800 << 10
	ns := s.namespace("oversized")
	pods := s.Client.CoreV1().Pods(ns)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "oversized"},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "main", Image: "example.invalid/app:1", Command: []string{strings.Repeat("x", size)},
		}}},
	}
	_, err := pods.Create(s.Context(), pod, metav1.CreateOptions{})
	if err == nil || !strings.Contains(err.Error(), "etcdserver: request is too large") {
		s.Fatalf("a pod of %d bytes: %v", size, err)
	}
	pod.Spec.Containers[0].Command = []string{"small"}
	_, err = pods.Create(s.Context(), pod, metav1.CreateOptions{})
	s.must(err)
}
