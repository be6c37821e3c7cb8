package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listersv1 "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

const (
	// leaseRenewal is how often a node renews its Lease; the node controller gives it 50 s.
	leaseRenewal = 4 * time.Second
	// podSync is how often a node looks at the pods that are bound to it.
	podSync = 250 * time.Millisecond
	// nodeLeaseSeconds is the duration that kubelets write into their Lease.
	nodeLeaseSeconds = 40
)

// Nodes play the kubelet's part towards the API for a few nodes: they keep each node's Lease fresh, report
// bound pods as running, and let deleted pods go. They outlast a store that is away for a while.
type Nodes struct {
	Names  []string
	client kubernetes.Interface
	pods   listersv1.PodLister
	cancel context.CancelFunc
	tasks  sync.WaitGroup
}

// StartNodes registers nodes and returns when the node controller has found each of them ready for pods.
func (c *Cluster) StartNodes(ctx context.Context, count int) (*Nodes, error) {
	running, cancel := context.WithCancel(context.Background())
	n := &Nodes{client: c.Client, cancel: cancel}
	bound := informers.WithTweakListOptions(func(options *metav1.ListOptions) {
		options.FieldSelector = fields.OneTermNotEqualSelector("spec.nodeName", "").String()
	})
	factory := informers.NewSharedInformerFactoryWithOptions(c.Client, 0, bound)
	n.pods = factory.Core().V1().Pods().Lister()
	informer := factory.Core().V1().Pods().Informer()
	factory.Start(running.Done())
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		return n, errors.New("the pods could not be listed")
	}
	for i := range count {
		name := fmt.Sprintf("node-%d", i)
		if err := n.register(ctx, name); err != nil {
			return n, fmt.Errorf("register %s: %w", name, err)
		}
		n.Names = append(n.Names, name)
		n.tasks.Go(func() { every(running, leaseRenewal, func() { n.renew(running, name) }) })
	}
	n.tasks.Go(func() { every(running, podSync, func() { n.syncPods(running) }) })
	return n, c.Poll(ctx, "all nodes are ready for pods", n.untainted)
}

// Stop ends the nodes' part; what they wrote stays.
func (n *Nodes) Stop() {
	n.cancel()
	n.tasks.Wait()
}

func every(ctx context.Context, interval time.Duration, do func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		do()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (n *Nodes) register(ctx context.Context, name string) error {
	capacity := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("8"),
		corev1.ResourceMemory: resource.MustParse("16Gi"),
		corev1.ResourcePods:   resource.MustParse("110"),
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: name, Labels: map[string]string{corev1.LabelHostname: name},
	}}
	node, err := n.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	now := metav1.Now()
	node.Status.Capacity, node.Status.Allocatable = capacity, capacity
	for kind, status := range map[corev1.NodeConditionType]corev1.ConditionStatus{
		corev1.NodeReady: corev1.ConditionTrue, corev1.NodeMemoryPressure: corev1.ConditionFalse,
		corev1.NodeDiskPressure: corev1.ConditionFalse, corev1.NodePIDPressure: corev1.ConditionFalse,
	} {
		node.Status.Conditions = append(node.Status.Conditions, corev1.NodeCondition{
			Type: kind, Status: status, LastHeartbeatTime: now, LastTransitionTime: now, Reason: "Registered",
		})
	}
	_, err = n.client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
	return err
}

// untainted is nil when no node carries the taint that new nodes get until they are found ready.
func (n *Nodes) untainted(ctx context.Context) error {
	nodes, err := n.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, node := range nodes.Items {
		if len(node.Spec.Taints) > 0 {
			return fmt.Errorf("%s has the taints %v", node.Name, node.Spec.Taints)
		}
	}
	return nil
}

// renew writes the node's Lease. A failure is left to the next turn, as kubelets do.
func (n *Nodes) renew(ctx context.Context, name string) {
	leases := n.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	lease, err := leases.Get(ctx, name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return
	}
	missing := err != nil
	now, seconds := metav1.NowMicro(), int32(nodeLeaseSeconds)
	if missing {
		lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}
	}
	lease.Spec = coordinationv1.LeaseSpec{HolderIdentity: &name, LeaseDurationSeconds: &seconds, RenewTime: &now}
	if missing {
		_, _ = leases.Create(ctx, lease, metav1.CreateOptions{})
	} else {
		_, _ = leases.Update(ctx, lease, metav1.UpdateOptions{})
	}
}
