package kube_test

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
)

const lampDefinition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: lamps.test.example}
spec:
  group: test.example
  scope: Namespaced
  names: {plural: lamps, singular: lamp, kind: Lamp}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [watts]
            properties: {watts: {type: integer, minimum: 1}, color: {type: string}}
          status:
            type: object
            properties: {lit: {type: boolean}}
`

var lamps = schema.GroupVersionResource{Group: "test.example", Version: "v1", Resource: "lamps"}

func lampManifest(name, spec string) string {
	return fmt.Sprintf("apiVersion: test.example/v1\nkind: Lamp\nmetadata: {name: %s}\nspec: {%s}\n", name, spec)
}

// customResourcesLiveAndDieWithTheirDefinition: a new kind of object is served from the same store as soon
// as it is defined, and its objects are gone for good with the definition.
func customResourcesLiveAndDieWithTheirDefinition(s *suite) {
	ns, ctx := s.namespace("custom"), s.Context()
	in := "--namespace=" + ns
	s.defineLamps()
	client := s.Dynamic.Resource(lamps).Namespace(ns)

	if _, err := s.Kubectl(ctx, lampManifest("broken", "watts: 0"), "apply", in, "-f", "-"); err == nil ||
		!strings.Contains(err.Error(), "greater than or equal to 1") {
		s.Errorf("an object against the schema: %v", err)
	}
	watcher, err := client.Watch(ctx, metav1.ListOptions{})
	s.must(err)
	defer watcher.Stop()

	s.kubectl(lampManifest("desk", "watts: 5, color: red"), "apply", in, "-f", "-")
	s.kubectl(lampManifest("desk", "watts: 7"), "apply", in, "-f", "-")
	s.kubectl("", "patch", "lamps/desk", in, "--type=merge", `--patch={"spec":{"color":"blue"}}`)
	s.kubectl("", "patch", "lamps/desk", in, "--type=merge", "--subresource=status", `--patch={"status":{"lit":true}}`)
	out := s.kubectl("", "get", "lamps/desk", in, "--output=jsonpath={.spec.watts} {.spec.color} {.status.lit}")
	if out != "7 blue true" {
		s.Errorf("the lamp is %q", out)
	}
	s.kubectl("", "delete", "lamps/desk", in)
	s.seeInOrder(watcher, watch.Added, watch.Modified, watch.Modified, watch.Modified, watch.Deleted)

	s.kubectl(lampManifest("left-over", "watts: 1"), "apply", in, "-f", "-")
	s.kubectl("", "delete", "crd", "lamps.test.example", rolloutLimit)
	s.eventually("the kind is not served any more", func(ctx context.Context) error {
		_, err := client.List(ctx, metav1.ListOptions{})
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("list: %v", err)
		}
		return nil
	})
	s.defineLamps()
	list, err := client.List(ctx, metav1.ListOptions{})
	s.must(err)
	if len(list.Items) != 0 {
		s.Errorf("objects outlived their definition: %v", names(list))
	}
	s.kubectl("", "delete", "crd", "lamps.test.example", rolloutLimit)
}

// defineLamps creates the definition and returns when objects of the kind can be listed.
func (s *suite) defineLamps() {
	s.Helper()
	s.kubectl(lampDefinition, "apply", "-f", "-")
	s.kubectl("", "wait", "--for=condition=Established", "crd/lamps.test.example", rolloutLimit)
	s.eventually("lamps are served", func(ctx context.Context) error {
		_, err := s.Dynamic.Resource(lamps).List(ctx, metav1.ListOptions{})
		return err
	})
}

func names(list *unstructured.UnstructuredList) []string {
	all := []string{}
	for _, item := range list.Items {
		all = append(all, item.GetName())
	}
	return all
}
