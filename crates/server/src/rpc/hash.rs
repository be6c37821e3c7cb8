//! Checksums of what the store holds, to compare stores by.

use crc32fast::Hasher;
use model::{KeyRange, ReadRevision, Revision};
use partition::{ChunkLimits, ReadFailure, Store};

/// One step takes this many keys and about so many bytes, so that a hash of a large store stays small in memory.
const KEYS_PER_STEP: usize = 2048;
const BYTES_PER_STEP: usize = 1 << 20;

/// A checksum of the keys at one revision.
pub(crate) struct KeysHash {
    pub(crate) hash: u32,
    /// The revision hashed.
    pub(crate) revision: Revision,
    /// The newest revision when the hash was begun.
    pub(crate) newest: Revision,
}

/// The checksum of every key's version at the revision asked for, in the order of keys: equal for equal contents
/// and histories, whatever was compacted since. Not etcd's number, which also covers superseded versions and etcd's
/// own encoding.
pub(crate) async fn of_keys(store: &Store, at: ReadRevision) -> Result<KeysHash, ReadFailure> {
    let view = store.keys.view(at).await?;
    let (revision, newest) = (view.revision(), view.newest());
    // Not held over the whole walk: a large store takes a while, and reclaiming should go on. When the revision is
    // compacted meanwhile the walk ends with that error.
    drop(view);
    let mut hasher = Hasher::new();
    let mut rest = Some(KeyRange::all());
    let limits = ChunkLimits { keys_max: KEYS_PER_STEP, bytes_max: BYTES_PER_STEP, keys_only: false };
    while let Some(range) = rest {
        let chunk = store.keys.view(ReadRevision::At(revision)).await?.chunk(&range, limits).await?;
        for version in &chunk.versions {
            // Lengths keep two versions from being taken for one.
            hasher.update(&(version.len() as u64).to_be_bytes());
            hasher.update(version);
        }
        rest = chunk.rest;
        tokio::task::yield_now().await;
    }
    Ok(KeysHash { hash: hasher.finalize(), revision, newest })
}

/// The checksum of everything: the keys at the newest revision, the leases and the alarms.
pub(crate) async fn of_everything(store: &Store) -> Result<KeysHash, ReadFailure> {
    let keys = of_keys(store, ReadRevision::Latest).await?;
    let mut hasher = Hasher::new_with_initial(keys.hash);
    for (lease, record) in store.system.leases() {
        hasher.update(&lease.0.to_be_bytes());
        hasher.update(&record.ttl_secs.to_be_bytes());
        hasher.update(&[record.revoking.into()]);
    }
    for alarm in store.system.alarms() {
        hasher.update(&[alarm as u8]);
    }
    Ok(KeysHash { hash: hasher.finalize(), ..keys })
}
