package kube_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	clientv1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

const (
	listObjects   = 5000
	listPage      = 500
	listCreators  = 16
	listObjectFmt = "item-%04d"
	// controllerObject is what a controller puts into every namespace; it comes last in the list.
	controllerObject = "kube-root-ca.crt"
	listTotal        = listObjects + 1
)

// pagedListIsOneMoment: a list in pages shows one revision though the objects change between the pages.
// Once as apiservers do by default, from their cache, and once by an apiserver without any cache, which
// asks the store for each page.
func pagedListIsOneMoment(s *suite) {
	ns := s.namespace("paged")
	s.createMany(ns)
	s.eventually(controllerObject+" is there", func(ctx context.Context) error {
		_, err := s.Client.CoreV1().ConfigMaps(ns).Get(ctx, controllerObject, metav1.GetOptions{})
		return err
	})
	s.Run("FromTheCache", func(t *testing.T) {
		on := &suite{T: t, Cluster: s.Cluster}
		on.listInPages(s.Client, ns)
	})
	s.Run("FromTheStore", func(t *testing.T) {
		on := &suite{T: t, Cluster: s.Cluster}
		server, err := s.StartAPIServer(t.Context(), "kube-apiserver-uncached", "--watch-cache=false")
		if server != nil && server.Process != nil {
			t.Cleanup(server.Kill)
		}
		on.must(err)
		on.listInPages(server.Client, ns)
	})
	// In one request, which needs neither pages nor the default limit of clients.
	all, err := s.Client.CoreV1().ConfigMaps(ns).List(s.Context(), metav1.ListOptions{})
	s.must(err)
	if len(all.Items) != listTotal {
		s.Errorf("the unpaged list has %d objects", len(all.Items))
	}
}

// createMany creates the objects that are listed.
func (s *suite) createMany(ns string) {
	s.Helper()
	numbers := make(chan int)
	var tasks sync.WaitGroup
	for range listCreators {
		tasks.Go(func() {
			for i := range numbers {
				_, err := s.Client.CoreV1().ConfigMaps(ns).Create(s.Context(), listed(i), metav1.CreateOptions{})
				if err != nil {
					s.Error(err)
				}
			}
		})
	}
	for i := range listObjects {
		numbers <- i
	}
	close(numbers)
	tasks.Wait()
	if s.Failed() {
		s.FailNow()
	}
}

func listed(i int) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf(listObjectFmt, i)},
		Data:       map[string]string{"number": fmt.Sprint(i)},
	}
}

// listInPages reads all pages and changes objects on pages that are still to come.
func (s *suite) listInPages(client kubernetes.Interface, ns string) {
	s.Helper()
	maps := client.CoreV1().ConfigMaps(ns)
	options := metav1.ListOptions{Limit: listPage}
	version, seen := "", 0
	for page := 0; ; page++ {
		list, err := maps.List(s.Context(), options)
		s.must(err)
		if page == 0 {
			version = list.ResourceVersion
			s.changeLater(maps)
		}
		if list.ResourceVersion != version {
			s.Fatalf("page %d is at version %s, the first was at %s", page, list.ResourceVersion, version)
		}
		for _, item := range list.Items {
			if err := expectListed(item, seen); err != nil {
				s.Fatalf("page %d: %v", page, err)
			}
			seen++
		}
		if list.Continue == "" {
			break
		}
		if remaining := list.RemainingItemCount; remaining == nil || *remaining != int64(listTotal-seen) {
			s.Fatalf("page %d says that %v objects remain, expected %d", page, remaining, listTotal-seen)
		}
		if len(list.Items) != listPage {
			s.Fatalf("page %d has %d objects and is not the last", page, len(list.Items))
		}
		options.Continue = list.Continue
	}
	if seen != listTotal {
		s.Fatalf("the pages have %d objects, expected %d", seen, listTotal)
	}
	s.changeBack(maps)
}

// expectListed is an error unless the object is the one that was created as the i-th, in its first state.
func expectListed(item corev1.ConfigMap, i int) error {
	if i == listObjects {
		return equal("the last name", item.Name, controllerObject)
	}
	if err := equal("the name", item.Name, listed(i).Name); err != nil {
		return err
	}
	return equal("the content of "+item.Name, item.Data["number"], fmt.Sprint(i))
}

// changeLater removes, changes and adds objects behind the first page.
func (s *suite) changeLater(maps clientv1.ConfigMapInterface) {
	s.Helper()
	last := listed(listObjects - 1)
	s.must(maps.Delete(s.Context(), last.Name, metav1.DeleteOptions{}))
	changed := listed(listObjects - 2)
	changed.Data["number"] = "changed"
	_, err := maps.Update(s.Context(), changed, metav1.UpdateOptions{})
	s.must(err)
	added := listed(listObjects - 1)
	added.Name = "item-2000-and-a-half"
	_, err = maps.Create(s.Context(), added, metav1.CreateOptions{})
	s.must(err)
}

// changeBack undoes changeLater.
func (s *suite) changeBack(maps clientv1.ConfigMapInterface) {
	s.Helper()
	s.must(maps.Delete(s.Context(), "item-2000-and-a-half", metav1.DeleteOptions{}))
	_, err := maps.Create(s.Context(), listed(listObjects-1), metav1.CreateOptions{})
	s.must(err)
	_, err = maps.Update(s.Context(), listed(listObjects-2), metav1.UpdateOptions{})
	s.must(err)
}
