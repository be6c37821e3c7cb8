//! The services of etcd's API, one file each.

mod answer;
pub(crate) mod auth;
pub(crate) mod cluster;
pub(crate) mod hash;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod maintenance;
pub(crate) mod range_stream;
pub(crate) mod snapshot;
