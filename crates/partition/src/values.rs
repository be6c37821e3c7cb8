use std::sync::Arc;

use bytes::Bytes;
use engine::{Engine, Snapshot};
use foldhash::fast::RandomState;
use layout::KeySpace;
use layout::object::{Object, encode_key_only};
use model::{KeyMeta, Revision};
use moka::sync::Cache;

use crate::error::ReadFailure;

/// One read asks the engine for at most this much at a time, so that a large list holds one piece of itself twice
/// at most. Values themselves are at most a request's size.
const FETCH_BYTES_MAX: usize = 4 << 20;
/// And for at most this many records.
const FETCH_RECORDS_MAX: usize = 1024;

/// A version of a key that a read found: its facts, and its encoded `KeyValue` where that is at hand already.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Where its object is.
    pub(crate) object_key: Bytes,
    pub(crate) meta: KeyMeta,
    pub(crate) key_value: Option<Bytes>,
}

impl Found {
    /// A version of `key` whose value is not wanted.
    pub(crate) fn key_only(key: &[u8], meta: KeyMeta) -> Found {
        Found { object_key: Bytes::new(), meta, key_value: Some(encode_key_only(key, &meta)) }
    }

    /// How long what is returned of it is, about.
    pub(crate) fn len(&self, keys_only: bool) -> usize {
        match &self.key_value {
            Some(key_value) if keys_only => key_value.len(),
            _ => self.meta.value_len as usize,
        }
    }
}

/// The values of versions: a bounded cache before the engine. An object never changes, so nothing in the cache
/// can be out of date.
#[derive(Clone)]
pub(crate) struct Values {
    engine: Arc<dyn Engine>,
    space: KeySpace,
    /// Hashed by a fast keyed hash: with the standard one, hashing was a tenth of what a put costs.
    /// None when it may hold nothing: the library would keep entries for a moment even then.
    cache: Option<Cache<Bytes, Bytes, RandomState>>,
}

impl Values {
    pub(crate) fn new(engine: Arc<dyn Engine>, space: KeySpace, cache_bytes_max: u64) -> Values {
        let weigh = |key: &Bytes, value: &Bytes| {
            u32::try_from(key.len() + value.len() + CACHE_ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        let cache = (cache_bytes_max > 0).then(|| {
            Cache::builder()
                .max_capacity(cache_bytes_max)
                .weigher(weigh)
                .build_with_hasher(RandomState::default())
        });
        Values { engine, space, cache }
    }

    /// Keeps the value of a version that has become durable.
    pub(crate) fn remember(&self, object_key: Bytes, key_value: Bytes) {
        if let Some(cache) = &self.cache {
            cache.insert(object_key, key_value);
        }
    }

    /// The value of a version, if it is in the cache.
    pub(crate) fn cached(&self, object_key: &Bytes) -> Option<Bytes> {
        self.cache.as_ref()?.get(object_key)
    }

    /// The encoded `KeyValue`s of `found`, in order. They belong to the state at revision `at`, or happened from it
    /// on: whether one that is missing can have been compacted goes by that.
    pub(crate) async fn load(&self, found: Vec<Found>, at: Revision) -> Result<Vec<Bytes>, ReadFailure> {
        let mut loaded = Vec::with_capacity(found.len());
        let mut missing: Vec<(usize, &Found)> = Vec::new();
        let mut missing_bytes = 0;
        for version in &found {
            let at_hand = version.key_value.clone().or_else(|| self.cached(&version.object_key));
            let Some(key_value) = at_hand else {
                missing_bytes += version.meta.value_len as usize;
                missing.push((loaded.len(), version));
                loaded.push(Bytes::new());
                if missing_bytes >= FETCH_BYTES_MAX || missing.len() >= FETCH_RECORDS_MAX {
                    self.fetch(&missing, &mut loaded, at).await?;
                    missing.clear();
                    missing_bytes = 0;
                }
                continue;
            };
            loaded.push(key_value);
        }
        self.fetch(&missing, &mut loaded, at).await?;
        Ok(loaded)
    }

    async fn fetch(
        &self,
        missing: &[(usize, &Found)],
        loaded: &mut [Bytes],
        at: Revision,
    ) -> Result<(), ReadFailure> {
        if missing.is_empty() {
            return Ok(());
        }
        let snapshot = self.engine.snapshot().await?;
        let keys: Vec<Bytes> = missing.iter().map(|(_, found)| found.object_key.clone()).collect();
        let records = snapshot.get_many(&keys).await?;
        for (&(place, found), record) in missing.iter().zip(records) {
            let Some(record) = record else {
                return Err(self.explain_absence(snapshot.as_ref(), &found.object_key, at).await);
            };
            match (self.space.decode_object(&found.object_key, &record)?, loaded.get_mut(place)) {
                (Object::Put(key_value), Some(place)) => {
                    self.remember(found.object_key.clone(), key_value.clone());
                    *place = key_value;
                }
                _ => {
                    let key = found.object_key.escape_ascii();
                    return Err(ReadFailure::Corrupt(format!("the object record {key} should hold a value")));
                }
            }
        }
        Ok(())
    }

    /// The object of a version that the state at revision `at` needs is not there: either that state was compacted,
    /// which the same snapshot tells, or the object was lost, which must not look like an absent key.
    pub(crate) async fn explain_absence(
        &self,
        snapshot: &dyn Snapshot,
        object_key: &Bytes,
        at: Revision,
    ) -> ReadFailure {
        match self.compacted_in(snapshot).await {
            Err(failure) => failure,
            Ok(Some(compacted)) if at < compacted => ReadFailure::Compacted(compacted),
            Ok(_) => {
                ReadFailure::Corrupt(format!("the object record {} is missing", object_key.escape_ascii()))
            }
        }
    }

    /// The compacted revision as this snapshot has it.
    pub(crate) async fn compacted_in(
        &self,
        snapshot: &dyn Snapshot,
    ) -> Result<Option<Revision>, ReadFailure> {
        match snapshot.get(&self.space.compacted_key()).await? {
            Some(record) => Ok(Some(self.space.decode_compacted(&record)?)),
            None => Ok(None),
        }
    }
}

/// What the cache spends on an entry beside its bytes, about.
const CACHE_ENTRY_BYTES: usize = 150;
