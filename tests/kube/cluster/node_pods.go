package cluster

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// syncPods brings what the API says about bound pods to what it would be if they ran. Each step looks at
// the pod as it is now, so a failed or repeated step does no harm.
func (n *Nodes) syncPods(ctx context.Context) {
	pods, err := n.pods.List(labels.Everything())
	if err != nil {
		return
	}
	for _, pod := range pods {
		switch {
		case pod.DeletionTimestamp != nil:
			n.release(ctx, pod)
		case pod.Status.Phase == corev1.PodPending:
			n.reportRunning(ctx, pod.DeepCopy())
		}
	}
}

// release is what a kubelet does when the containers of a deleted pod have ended.
func (n *Nodes) release(ctx context.Context, pod *corev1.Pod) {
	now := int64(0)
	_ = n.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now, Preconditions: metav1.NewUIDPreconditions(string(pod.UID)),
	})
}

func (n *Nodes) reportRunning(ctx context.Context, pod *corev1.Pod) {
	now := metav1.Now()
	pod.Status.Phase = corev1.PodRunning
	pod.Status.StartTime = &now
	for _, kind := range []corev1.PodConditionType{corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
			Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now,
		})
	}
	for _, container := range pod.Spec.Containers {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: container.Name, Image: container.Image, Ready: true,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
	_, _ = n.client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
}
