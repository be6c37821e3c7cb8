// Package etcdctl runs the real etcdctl against Orlop and against the real etcd and requires that a user sees the same:
// standard output, standard error and exit code.
//
// The files in testdata are scripts of etcdctl's arguments, one command a line. A line that begins with "| " is
// standard input of the command before it, "#" begins a comment, and $LEASE1, $LEASE2 … are the leases granted so far.
package etcdctl
