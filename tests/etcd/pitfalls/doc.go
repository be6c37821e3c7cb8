// Package pitfalls has a test for each of twenty bugs that other stores under Kubernetes had, etcd included, or have: what
// went wrong there must not go wrong here. Each test names the bug and what a client would suffer from it. It runs against
// Orlop, and against the real etcd of go.mod where that passes, so that a test which asks for the impossible is noticed.
//
// ORLOP_TEST_LONG=1 adds what takes minutes: answers of more than 2 GiB.
package pitfalls
