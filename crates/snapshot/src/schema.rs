//! Names and keys of etcd's records, as etcd 3.7 has them (`server/storage/schema`, `server/storage/mvcc`).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::{KeyMeta, Revision};
use prost::encoding::encoded_len_varint;

/// The version of etcd whose buckets these are, as a file and etcd's `Snapshot` tell it.
pub const STORAGE_VERSION: &str = "3.7.0";

pub(crate) const ALARM: &[u8] = b"alarm";
pub(crate) const AUTH: &[u8] = b"auth";
pub(crate) const AUTH_ROLES: &[u8] = b"authRoles";
pub(crate) const AUTH_USERS: &[u8] = b"authUsers";
pub(crate) const CLUSTER: &[u8] = b"cluster";
pub(crate) const KEY: &[u8] = b"key";
pub(crate) const LEASE: &[u8] = b"lease";
pub(crate) const MEMBERS: &[u8] = b"members";
pub(crate) const MEMBERS_REMOVED: &[u8] = b"members_removed";
pub(crate) const META: &[u8] = b"meta";

pub(crate) const AUTH_ENABLED: &[u8] = b"authEnabled";
pub(crate) const AUTH_REVISION: &[u8] = b"authRevision";
pub(crate) const CLUSTER_VERSION: &[u8] = b"clusterVersion";
pub(crate) const CONF_STATE: &[u8] = b"confState";
pub(crate) const CONSISTENT_INDEX: &[u8] = b"consistent_index";
pub(crate) const FINISHED_COMPACT: &[u8] = b"finishedCompactRev";
pub(crate) const SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
pub(crate) const STORAGE_VERSION_KEY: &[u8] = b"storageVersion";
pub(crate) const TERM: &[u8] = b"term";

const SEPARATOR: u8 = b'_';
const TOMBSTONE: u8 = b't';
const REVISION_KEY_LEN: usize = 17;

/// A lease, as etcd's `leasepb.Lease`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Lease {
    #[prost(int64, tag = "1")]
    pub(crate) id: i64,
    #[prost(int64, tag = "2")]
    pub(crate) ttl: i64,
    /// What a leader has noted to be left of it; 0 where it has not.
    #[prost(int64, tag = "3")]
    pub(crate) remaining_ttl: i64,
}

/// The key of a version: its revision, the place of the change in its transaction, and a mark on a deletion.
pub(crate) fn revision_key(revision: Revision, place: u64, is_tombstone: bool) -> Bytes {
    let mut key = BytesMut::with_capacity(REVISION_KEY_LEN + 1);
    key.put_i64(revision.get());
    key.put_u8(SEPARATOR);
    key.put_u64(place);
    if is_tombstone {
        key.put_u8(TOMBSTONE);
    }
    key.freeze()
}

/// The revision that a version's key names, and whether it is of a deletion.
pub(crate) fn read_revision_key(mut key: &[u8]) -> Option<(Revision, bool)> {
    let is_tombstone = match key.len() {
        REVISION_KEY_LEN => false,
        len if len == REVISION_KEY_LEN + 1 && key.last() == Some(&TOMBSTONE) => true,
        _ => return None,
    };
    let revision = key.try_get_i64().ok().filter(|revision| *revision >= 0)?;
    (key.try_get_u8().ok()? == SEPARATOR).then_some((Revision::new(revision), is_tombstone))
}

/// The length of an encoded `KeyValue`.
pub(crate) fn key_value_len(key_len: usize, meta: &KeyMeta) -> usize {
    let bytes = |len: usize| if len == 0 { 0 } else { 1 + encoded_len_varint(len as u64) + len };
    let number = |number: i64| if number == 0 { 0 } else { 1 + encoded_len_varint(number.cast_unsigned()) };
    let numbers = [meta.create_revision.get(), meta.mod_revision.get(), meta.version, meta.lease.0];
    bytes(key_len) + bytes(meta.value_len as usize) + numbers.into_iter().map(number).sum::<usize>()
}
