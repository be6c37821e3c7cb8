// Package security meets Orlop with clients that should not get in, or would take more than their share. What etcd has
// too is done to the real etcd as well, with the same files and flags.
//
// All certificates are made by the tests.
package security
