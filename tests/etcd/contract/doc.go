// Package contract holds the etcd v3 API to its word: every test sends the same requests to Orlop and to the real etcd
// of go.mod and requires the same answers, field by field, down to the code and text of every error.
//
// What must differ is cleared before comparing: the ids of the cluster and the member, and the raft term. Everything
// else, revisions first of all, is deterministic, because each test starts two empty stores of its own.
package contract
