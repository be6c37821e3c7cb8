package kube_test

import (
	"context"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	clientv1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// unknownVersion stands for the version of a change whose answer did not tell it.
const unknownVersion = 0

// change is one change of one object, as a watcher should see it.
type change struct {
	kind    watch.EventType
	version int64
	step    string
}

// record is what one writer knows about one object that it alone writes.
type record struct {
	name string
	// changes are those that were acknowledged, oldest first.
	changes []change
	// pending was asked for last and not acknowledged: it can have happened or not.
	pending *change
}

// apply asks for one change; an error leaves it pending.
func (r *record) apply(ctx context.Context, maps clientv1.ConfigMapInterface, kind watch.EventType) error {
	step := strconv.Itoa(len(r.changes))
	r.pending = &change{kind: kind, version: unknownVersion, step: step}
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: r.name}, Data: map[string]string{"step": step}}
	var err error
	switch kind {
	case watch.Added:
		object, err = maps.Create(ctx, object, metav1.CreateOptions{})
	case watch.Modified:
		object.ResourceVersion = strconv.FormatInt(r.changes[len(r.changes)-1].version, 10)
		object, err = maps.Update(ctx, object, metav1.UpdateOptions{})
	case watch.Deleted:
		r.pending.step = r.changes[len(r.changes)-1].step
		err = maps.Delete(ctx, r.name, metav1.DeleteOptions{})
	}
	if err != nil {
		return err
	}
	if kind != watch.Deleted {
		if r.pending.version, err = strconv.ParseInt(object.ResourceVersion, 10, 64); err != nil {
			return err
		}
	}
	r.changes = append(r.changes, *r.pending)
	r.pending = nil
	return nil
}

// settle compares the object as it was found (nil: it is not there) with what is known about it, and
// decides whether the pending change happened. It is an error when an acknowledged change is missing, or
// when something is there that nobody wrote.
func (r *record) settle(found *corev1.ConfigMap) error {
	pending := r.pending
	r.pending = nil
	if matches(r.last(), found) {
		return nil
	}
	if pending == nil || !matches(*pending, found) {
		return fmt.Errorf("%s: acknowledged %+v, pending %+v, found %s", r.name, r.last(), pending, describe(found))
	}
	happened := *pending
	if found != nil {
		var err error
		if happened.version, err = strconv.ParseInt(found.ResourceVersion, 10, 64); err != nil {
			return err
		}
		if happened.version <= r.last().version {
			return fmt.Errorf("%s: version %d follows %+v", r.name, happened.version, r.last())
		}
	}
	r.changes = append(r.changes, happened)
	return nil
}

func describe(found *corev1.ConfigMap) string {
	if found == nil {
		return "nothing"
	}
	return fmt.Sprintf("version %s with step %q", found.ResourceVersion, found.Data["step"])
}

// last is the newest acknowledged change; an object that was never created counts as deleted.
func (r *record) last() change {
	if len(r.changes) == 0 {
		return change{kind: watch.Deleted}
	}
	return r.changes[len(r.changes)-1]
}

// matches reports whether the object is as this change left it.
func matches(last change, found *corev1.ConfigMap) bool {
	if last.kind == watch.Deleted || found == nil {
		return last.kind == watch.Deleted && found == nil
	}
	sameVersion := last.version == unknownVersion || found.ResourceVersion == strconv.FormatInt(last.version, 10)
	return sameVersion && found.Data["step"] == last.step
}
