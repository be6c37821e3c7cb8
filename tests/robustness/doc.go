// Package robustness lets many clients work on a store while faults strike it, records everything that they were told,
// and lets etcd's own robustness validators judge it.
//
// The traffic is that of etcd's robustness tests (go.etcd.io/etcd/tests/v3/robustness/traffic): Kubernetes-like with
// optimistic transactions, paged lists and watches with previous values and progress, or generic with puts, deletes,
// leases, transactions and lists. Beside it here: a compactor as kube-apiserver has it, and leases that expire.
//
// The validators (…/robustness/validate) want the history of every client and the requests that the store has persisted.
// They decide whether the history is linearizable (with porcupine), whether reads of older revisions are right, and
// whether each watch was filtered, ordered, unique, atomic, bookmarkable, resumable, reliable, and right about previous
// values and creations. What was persisted comes from `orlop log`, which is read while the process is stopped or dead.
// Checks of our own are added where Orlop promises more, see checks.go.
//
// Each scenario prints its seed, and ORLOP_ROBUSTNESS_SEED gives one back: it decides when which fault strikes, what a
// failing engine does, and what the clients draw. How threads and processes interleave is not in it.
// ORLOP_ROBUSTNESS_SECONDS makes every scenario longer. When a scenario fails, everything that was recorded is kept under
// the target directory, with porcupine's picture of the history.
//
// Two things that etcd's model has no words for are put into its words before (see persisted.go): a lease's keys go at
// revisions of their own, and leases expire.
package robustness
