//! Reads at one exact revision: from the index while history reaches back that far, else from the object records.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use engine::{Direction, KeySpan, Scan, Snapshot};
use layout::Span;
use layout::object::{Object, meta_of};
use model::{Key, KeyMeta, KeyRange, RangeOp, ReadRevision, Revision};

use crate::error::ReadFailure;
use crate::outcome::RangeOutcome;
use crate::pins::Pin;
use crate::range::{finish, versions_needed, wants_values};
use crate::state::Shared;
use crate::values::Found;

/// One look at the index takes at most this many keys, so that a long list holds writers up for well under a
/// millisecond at a time.
const KEYS_PER_LOOK_MAX: usize = 2048;
/// One step over the object records takes at most this many.
const RECORDS_PER_STEP_MAX: usize = 4096;
/// A step for few keys takes this many records for each: enough for keys that are written now and then.
const RECORDS_PER_KEY: usize = 8;
/// But at least this many.
const RECORDS_PER_STEP_MIN: usize = 64;
/// And reads at most this many of them at a time, so that it holds little more than it may return.
const OBJECTS_PER_READ_MAX: usize = 32;

/// A reader's hold on the state at one revision. What it needs is not reclaimed while it lives.
pub struct View {
    shared: Arc<Shared>,
    revision: Revision,
    newest: Revision,
    pin: Pin,
}

/// Some of the versions in a range, and what is left of the range.
pub(crate) struct Page {
    pub(crate) found: Vec<Found>,
    pub(crate) rest: Option<KeyRange>,
}

/// A version that a step over the object records found: the newest of its key that is not above the revision.
struct Version {
    key: Key,
    revision: Revision,
    object_key: Bytes,
}

impl View {
    /// A view of the state that `at` asks for. Whatever this process has published before the call is in the newest one.
    ///
    /// [`ReadFailure::Compacted`] for the newest one says that it is known here that this was overwritten and compacted
    /// since: there is a newer one, or there will be once it has arrived.
    pub(crate) fn open(shared: Arc<Shared>, at: ReadRevision) -> Result<View, ReadFailure> {
        let newest = shared.published();
        let revision = match at {
            ReadRevision::Latest => newest,
            ReadRevision::At(revision) => revision,
        };
        let pin = shared.pin(revision)?;
        Ok(View::pinned(shared, newest, pin))
    }

    /// A view of the state that `pin` holds, which was readable when it was first held.
    pub(crate) fn pinned(shared: Arc<Shared>, newest: Revision, pin: Pin) -> View {
        View { shared, revision: pin.revision(), newest, pin }
    }

    /// The revision that the view shows.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The revision that was the newest when the view was opened: what the headers of its answers say.
    pub fn newest(&self) -> Revision {
        self.newest
    }

    /// Answers `op`, whose own revision is not looked at.
    pub async fn range(&self, op: &RangeOp) -> Result<RangeOutcome, ReadFailure> {
        let count = self.count(&op.range).await?;
        let needed = versions_needed(op);
        let mut found = Vec::new();
        let mut rest = (needed > 0).then(|| op.range.clone());
        while let Some(range) = rest.take() {
            let limits = ChunkLimits {
                keys_max: needed - found.len(),
                bytes_max: usize::MAX,
                keys_only: !wants_values(op),
            };
            let page = self.page(&range, limits).await?;
            found.extend(page.found);
            if found.len() < needed {
                rest = page.rest;
            }
        }
        finish(op, found, count, (&self.shared.values, self.revision)).await
    }

    /// The encoded `KeyValue`s of the first keys in `range`, at most `keys_max` and about `bytes_max`, and what is
    /// left of the range.
    pub async fn chunk(&self, range: &KeyRange, limits: ChunkLimits) -> Result<Chunk, ReadFailure> {
        let keys_max = limits.keys_max.clamp(1, KEYS_PER_LOOK_MAX);
        let page = self.page(range, ChunkLimits { keys_max, ..limits }).await?;
        let mut rest = page.rest;
        let mut found = page.found;
        let mut bytes = 0;
        let fits = found.iter().take_while(|found| {
            let fits = bytes < limits.bytes_max;
            bytes += found.len(limits.keys_only);
            fits
        });
        let taken = fits.count().max(1);
        if taken < found.len() {
            found.truncate(taken);
            rest = match found.last() {
                Some(last) => range.rest_after(&self.key_of(last)?),
                None => None,
            };
        }
        Ok(Chunk { versions: self.shared.values.load(found, self.revision).await?, rest })
    }

    /// The first keys in `range` with all that is known of them but their values, at most `keys_max`, and what is left of
    /// the range. There may be none although there is a rest.
    pub async fn facts(&self, range: &KeyRange, keys_max: usize) -> Result<Facts, ReadFailure> {
        let keys_max = keys_max.clamp(1, KEYS_PER_LOOK_MAX);
        let limits = ChunkLimits { keys_max, bytes_max: usize::MAX, keys_only: true };
        let Page { found, rest } = self.page(range, limits).await?;
        let facts = found.iter().map(|found| Ok((self.key_of(found)?, found.meta)));
        Ok(Facts { keys: facts.collect::<Result<_, ReadFailure>>()?, rest })
    }

    /// The encoded `KeyValue`s of versions that this view shows, each named by its key and revision, in their order. They
    /// are not kept in memory. The caller bounds their number and the size of their values.
    pub async fn versions(&self, versions: &[(Bytes, Revision)]) -> Result<Vec<Bytes>, ReadFailure> {
        let space = &self.shared.space;
        let keys = versions.iter().map(|(key, revision)| space.object_key(key, *revision));
        let keys: Vec<Bytes> = keys.collect();
        let snapshot = self.shared.engine.snapshot().await?;
        let records = snapshot.get_many(&keys).await?;
        let mut key_values = Vec::with_capacity(keys.len());
        for (key, record) in keys.iter().zip(records) {
            let Some(record) = record else {
                return Err(self.shared.values.explain_absence(snapshot.as_ref(), key, self.revision).await);
            };
            let Object::Put(key_value) = space.decode_object(key, &record)? else {
                let key = key.escape_ascii();
                return Err(ReadFailure::Corrupt(format!("the object record {key} should hold a value")));
            };
            key_values.push(key_value);
        }
        Ok(key_values)
    }

    fn key_of(&self, found: &Found) -> Result<Key, ReadFailure> {
        if let Some(key_value) = &found.key_value {
            let key = layout::object::key_of(key_value).ok().and_then(|key| Key::new(key).ok());
            return key.ok_or_else(|| ReadFailure::Corrupt("a version names no key".to_owned()));
        }
        Ok(self.shared.space.decode_object_key(&found.object_key)?.0)
    }

    /// How many keys `range` holds.
    pub async fn count(&self, range: &KeyRange) -> Result<usize, ReadFailure> {
        {
            let state = self.shared.state.read();
            if self.revision >= state.history.floor() {
                return Ok(state.index.count(range, self.revision));
            }
        }
        let mut count = 0;
        let mut rest = Some(range.clone());
        while let Some(range) = rest {
            let limits = ChunkLimits { keys_max: usize::MAX, bytes_max: usize::MAX, keys_only: true };
            let page = self.page(&range, limits).await?;
            count += page.found.len();
            rest = page.rest;
        }
        Ok(count)
    }

    /// The next versions of `range`, in the order of their keys; there may be none although there is a rest.
    async fn page(&self, range: &KeyRange, limits: ChunkLimits) -> Result<Page, ReadFailure> {
        if range.is_empty() {
            return Ok(Page { found: Vec::new(), rest: None });
        }
        let in_index = ChunkLimits { keys_max: limits.keys_max.min(KEYS_PER_LOOK_MAX), ..limits };
        if let Some(page) = self.page_of_index(range, in_index) {
            return Ok(page);
        }
        let snapshot = self.shared.engine.snapshot().await?;
        let page = self.page_of_objects(snapshot.as_ref(), range, limits).await;
        // Read last in the same snapshot: below the compacted revision, versions may have been missing above.
        match self.shared.values.compacted_in(snapshot.as_ref()).await? {
            Some(compacted) if self.revision < compacted && !self.is_held_in(snapshot.as_ref()).await? => {
                Err(ReadFailure::Compacted(compacted))
            }
            _ => page,
        }
    }

    /// Whether the pin has kept what this view needs: it counts for what this process reclaims, and that is all there is
    /// from when it took the partition over until somebody else does.
    async fn is_held_in(&self, snapshot: &dyn Snapshot) -> Result<bool, ReadFailure> {
        Ok(self.pin.counts && self.shared.is_leader_in(snapshot).await?)
    }

    fn page_of_index(&self, range: &KeyRange, limits: ChunkLimits) -> Option<Page> {
        let state = self.shared.state.read();
        if self.revision < state.history.floor() {
            return None;
        }
        let space = &self.shared.space;
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut last = None;
        state.index.visit(range, self.revision, |key, meta| {
            found.push(match limits.keys_only {
                true => Found::key_only(key, meta),
                false => {
                    Found { object_key: space.object_key(key, meta.mod_revision), meta, key_value: None }
                }
            });
            bytes += meta.value_len as usize;
            if found.len() < limits.keys_max && (limits.keys_only || bytes < limits.bytes_max) {
                return ControlFlow::Continue(());
            }
            last = Key::new(Bytes::copy_from_slice(key)).ok();
            ControlFlow::Break(())
        });
        Some(Page { found, rest: last.and_then(|last| range.rest_after(&last)) })
    }

    /// The versions as the object records tell them: of each key the newest that is not above the revision.
    async fn page_of_objects(
        &self,
        snapshot: &dyn Snapshot,
        range: &KeyRange,
        limits: ChunkLimits,
    ) -> Result<Page, ReadFailure> {
        if range.is_single()
            && let Ok(key) = Key::new(range.start().clone())
        {
            let version = self.newest_version(snapshot, &key).await?.into_iter().collect();
            let (found, _) = self.live_versions(snapshot, version, limits).await?;
            return Ok(Page { found, rest: None });
        }
        let Span { start, end } = self.shared.space.object_span(range);
        let records_max =
            limits.keys_max.saturating_mul(RECORDS_PER_KEY).clamp(RECORDS_PER_STEP_MIN, RECORDS_PER_STEP_MAX);
        let span = KeySpan { start, end: Some(end) };
        let (records, complete) = self.object_keys(snapshot, span, records_max).await?;
        let mut versions: Vec<Version> = Vec::new();
        let mut resume_at = None;
        for object_key in records {
            let (key, revision) = self.shared.space.decode_object_key(&object_key)?;
            if let Some(last) = versions.last_mut()
                && last.key == key
            {
                if revision <= self.revision {
                    (last.revision, last.object_key) = (revision, object_key);
                }
                continue;
            }
            if versions.len() == limits.keys_max {
                resume_at = Some(key);
                break;
            }
            versions.push(Version { key, revision, object_key });
        }
        if !complete && resume_at.is_none() {
            // The last key's versions may go on in the next step.
            resume_at = self.split_key(snapshot, &mut versions).await?;
        }
        versions.retain(|version| version.revision <= self.revision);
        let (found, cut_at) = self.live_versions(snapshot, versions, limits).await?;
        let rest = cut_at.or(resume_at).and_then(|key| range.starting_at(&key));
        Ok(Page { found, rest })
    }

    /// The keys of the next object records, and whether these are all.
    async fn object_keys(
        &self,
        snapshot: &dyn Snapshot,
        mut span: KeySpan,
        records_max: usize,
    ) -> Result<(Vec<Bytes>, bool), ReadFailure> {
        loop {
            let scan = Scan {
                span,
                direction: Direction::Forward,
                records_max,
                bytes_max: usize::MAX,
                values: false,
            };
            let page = snapshot.scan(&scan).await?;
            match page.next {
                // An engine may stop anywhere.
                Some(next) if page.records.is_empty() => span = next,
                next => return Ok((page.records.into_iter().map(|(key, _)| key).collect(), next.is_none())),
            }
        }
    }

    /// The step ended within the versions of a key: that key is left for the next one, unless it fills a step by
    /// itself; then its newest version is looked up from behind. Returns where the next step begins.
    async fn split_key(
        &self,
        snapshot: &dyn Snapshot,
        versions: &mut Vec<Version>,
    ) -> Result<Option<Key>, ReadFailure> {
        let Some(Version { key, .. }) = versions.pop() else { return Ok(None) };
        if !versions.is_empty() {
            return Ok(Some(key));
        }
        versions.extend(self.newest_version(snapshot, &key).await?);
        Ok(Some(key.successor()))
    }

    /// The newest version of `key` that is not above the revision, which may be a deletion.
    async fn newest_version(
        &self,
        snapshot: &dyn Snapshot,
        key: &Key,
    ) -> Result<Option<Version>, ReadFailure> {
        let space = &self.shared.space;
        let start = space.object_span(&KeyRange::single(key)).start;
        let end = space.object_key(key.as_slice(), self.revision.next());
        let scan = Scan {
            span: KeySpan { start, end: Some(end) },
            direction: Direction::Backward,
            records_max: 1,
            bytes_max: usize::MAX,
            values: false,
        };
        let Some((object_key, _)) = snapshot.scan(&scan).await?.records.pop() else { return Ok(None) };
        let (key, revision) = space.decode_object_key(&object_key)?;
        Ok(Some(Version { key, revision, object_key }))
    }

    /// Of `versions`, those that are no deletions, with their facts; and the first key that was left out because of
    /// the limit on bytes.
    async fn live_versions(
        &self,
        snapshot: &dyn Snapshot,
        versions: Vec<Version>,
        limits: ChunkLimits,
    ) -> Result<(Vec<Found>, Option<Key>), ReadFailure> {
        let mut found = Vec::with_capacity(versions.len());
        let mut bytes = 0;
        for group in versions.chunks(OBJECTS_PER_READ_MAX) {
            if !found.is_empty() && bytes >= limits.bytes_max {
                return Ok((found, group.first().map(|version| version.key.clone())));
            }
            let known = self.known_to_index(group);
            let unknown = group.iter().zip(&known).filter(|(_, meta)| meta.is_none());
            let object_keys: Vec<Bytes> = unknown.map(|(version, _)| version.object_key.clone()).collect();
            let mut records = snapshot.get_many(&object_keys).await?.into_iter();
            for (version, meta) in group.iter().zip(known) {
                let next = match meta {
                    Some(meta) => Some(version.found(meta, None, limits.keys_only)),
                    None => {
                        self.live_version(snapshot, version, records.next().flatten(), limits.keys_only)
                            .await?
                    }
                };
                bytes += next.as_ref().map_or(0, |found| found.len(limits.keys_only));
                found.extend(next);
            }
        }
        Ok((found, None))
    }

    /// Most keys still have the version that they had: the index knows that it is one, and all about it.
    fn known_to_index(&self, versions: &[Version]) -> Vec<Option<KeyMeta>> {
        let state = self.shared.state.read();
        let newest = |version: &Version| {
            let meta = state.index.newest(version.key.as_slice());
            meta.filter(|meta| meta.mod_revision == version.revision)
        };
        versions.iter().map(newest).collect()
    }

    /// What the record of a version says; `None` where it is a deletion.
    async fn live_version(
        &self,
        snapshot: &dyn Snapshot,
        version: &Version,
        record: Option<Bytes>,
        keys_only: bool,
    ) -> Result<Option<Found>, ReadFailure> {
        let object_key = &version.object_key;
        let Some(record) = record else {
            return Err(self.shared.values.explain_absence(snapshot, object_key, self.revision).await);
        };
        let Object::Put(key_value) = self.shared.space.decode_object(object_key, &record)? else {
            return Ok(None);
        };
        let meta = meta_of(&key_value).map_err(|why| {
            ReadFailure::Corrupt(format!("the object record {}: {why}", object_key.escape_ascii()))
        })?;
        Ok(Some(version.found(meta, Some(key_value), keys_only)))
    }
}

impl Version {
    fn found(&self, meta: KeyMeta, key_value: Option<Bytes>, keys_only: bool) -> Found {
        match keys_only {
            true => Found::key_only(self.key.as_slice(), meta),
            false => Found { object_key: self.object_key.clone(), meta, key_value },
        }
    }
}

/// How much of a range one chunk takes.
#[derive(Clone, Copy, Debug)]
pub struct ChunkLimits {
    /// At most this many keys; at least one.
    pub keys_max: usize,
    /// No further key once the values have reached this many bytes.
    pub bytes_max: usize,
    /// Leave the values out.
    pub keys_only: bool,
}

/// The keys of a part of a range.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Keys and what is known of them, in order.
    pub keys: Vec<(Key, KeyMeta)>,
    /// What is left of the range; `None` when this was all.
    pub rest: Option<KeyRange>,
}

/// A part of a range.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The encoded `KeyValue`s, in the order of their keys.
    pub versions: Vec<Bytes>,
    /// What is left of the range; `None` when this was all.
    pub rest: Option<KeyRange>,
}
