//! The versions that clients are told: those of the etcd whose behaviour this is.
//!
//! Kubernetes decides by them what it may use. Consistent lists from its cache need a server from 3.5.13 on, kubeadm
//! wants 3.5.24, and one from 3.7 on is expected to stream ranges. None of them is Orlop's own version.

/// The etcd release whose behaviour the API has.
pub(crate) const SERVER: &str = "3.7.3";
/// The version of the cluster: the release without its patch level.
pub(crate) const CLUSTER: &str = "3.7.0";
/// The same, as etcd's metrics have it.
pub(crate) const CLUSTER_MINOR: &str = "3.7";
/// The version of the storage format, as etcd would name it; Orlop's own format has a number of its own.
pub(crate) const STORAGE: &str = "3.7.0";
