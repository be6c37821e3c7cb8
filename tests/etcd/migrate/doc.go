// Package migrate moves stores between the real etcd and Orlop by snapshots: saved by the real etcdctl, imported by
// `orlop import`, looked at and restored by the real etcdutl. What comes out must be what went in, field by field.
package migrate
