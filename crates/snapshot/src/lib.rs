//! etcd's snapshot file: a bbolt file with the buckets of etcd 3.7, and behind it the SHA-256 of all that.
//!
//! [`Writer`] yields such a file piece by piece, for one revision of a store; `etcdutl snapshot restore` makes an etcd of
//! it. [`Snapshot`] reads one, from etcd or from here.
//!
//! This crate knows etcd's buckets and records, and must never depend on the store, an engine or the wire: it is given
//! and gives keys, facts and encoded `KeyValue`s.
//!
//! Invariants: a written file holds each live key once, at the revision of its last change; nothing of a file is
//! believed before it was checked, and a file that ends with a checksum is checked as a whole first.

mod catalogue;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod write;

pub use catalogue::Catalogue;
pub use read::{OpenError, ReadError, Record, Snapshot, Version};
pub use schema::STORAGE_VERSION;
pub use write::{Facts, Member, WriteError, Writer};
