//! Objects and index, side by side in the order of keys.

use bytes::Bytes;
use engine::ReadError;
use layout::object::{Object, key_of, meta_of};
use model::{ChangeKind, Key, KeyMeta, KeyRange, LeaseId, Revision};

use crate::Checking;
use crate::finding::{Finding, Phase, Problem};
use crate::log::{UserLogs, wrong_meta};
use crate::pages::Pages;
use crate::sum::Sum;

/// The leases of so many keys are looked up at once.
const LEASES_PER_LOOK_MAX: usize = 512;

/// One version of a key, or its deletion.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) key: Key,
    pub(crate) revision: Revision,
    /// None where the record cannot be read, which was told.
    pub(crate) kind: Option<ChangeKind>,
    pub(crate) record: Bytes,
}

impl Version {
    /// The revision that the next change of this key replaces.
    pub(crate) fn as_previous(&self) -> Revision {
        if self.kind == Some(ChangeKind::Delete) { Revision::NONE } else { self.revision }
    }
}

/// The index beside the objects.
struct Index {
    pages: Pages,
    next: Option<(Key, KeyMeta, Bytes)>,
    /// Keys whose leases are to be looked up.
    attached: Vec<(Key, LeaseId)>,
}

impl Checking<'_> {
    /// Checks objects and index; the sum is that of the changes that the objects from the compacted revision on tell of.
    pub(crate) async fn objects(&mut self, log: &UserLogs) -> Result<Sum, ReadError> {
        let space = self.space.clone();
        let mut index =
            Index { pages: Pages::of(space.index_span(), Phase::Objects), next: None, attached: Vec::new() };
        self.advance(&mut index).await?;
        let mut pages = Pages::of(space.object_span(&KeyRange::all()), Phase::Objects);
        let (mut sum, mut last) = (Sum::default(), None::<Version>);
        while let Some((record, value)) = pages.next(self).await? {
            self.report.objects += 1;
            let Some(version) = self.version(record, value) else { continue };
            if let Some(done) = last.take_if(|last| last.key != version.key) {
                self.newest(&mut index, &done).await?;
            }
            self.succeeds(&version, last.as_ref(), log);
            if version.revision >= crate::floor(log)
                && let Some(kind) = &version.kind
            {
                let previous = last.as_ref().map_or(Revision::NONE, Version::as_previous);
                sum.add(&version.key, version.revision, kind, previous);
            }
            last = Some(version);
        }
        if let Some(done) = last {
            self.newest(&mut index, &done).await?;
        }
        self.index_only(&mut index, None).await?;
        self.look_up_leases(&mut index).await?;
        Ok(sum)
    }

    /// Reads an object record as far as it goes.
    pub(crate) fn version(&mut self, record: Bytes, value: Option<Bytes>) -> Option<Version> {
        let (key, revision) = match self.space.decode_object_key(&record) {
            Ok(read) => read,
            Err(damaged) => {
                self.found(Finding::damaged(&damaged, &record));
                return None;
            }
        };
        let object = match value.map(|value| self.space.decode_object(&record, &value)) {
            Some(Ok(object)) => object,
            Some(Err(damaged)) => {
                self.found(Finding::damaged(&damaged, &record).of(&key, revision));
                return Some(Version { key, revision, kind: None, record });
            }
            None => return Some(Version { key, revision, kind: None, record }),
        };
        let Object::Put(key_value) = object else {
            return Some(Version { key, revision, kind: Some(ChangeKind::Delete), record });
        };
        let read = key_of(&key_value).and_then(|of| Ok((of, meta_of(&key_value)?)));
        let kind = match read {
            Ok((of, meta)) => {
                let wrong = if of != key.as_slice() {
                    Some("an object holds another key than its record's")
                } else if meta.mod_revision != revision {
                    Some("an object holds another revision than its record's")
                } else {
                    wrong_meta(&meta)
                };
                if let Some(text) = wrong {
                    let finding = Finding::new(Problem::Contradiction, text).of(&key, revision);
                    self.found(finding.record(&record));
                }
                Some(ChangeKind::Put(meta))
            }
            Err(reason) => {
                let text = format!("an object holds no key and value: {reason}");
                let finding = Finding::new(Problem::Damaged, text).of(&key, revision);
                self.found(finding.record(&record));
                None
            }
        };
        Some(Version { key, revision, kind, record })
    }

    /// Whether a version can be the next one of its key, and whether a compaction has left what it should not.
    fn succeeds(&mut self, version: &Version, last: Option<&Version>, log: &UserLogs) {
        let Version { key, revision, .. } = version;
        let tell =
            |problem, text: &str| Finding::new(problem, text).of(key, *revision).record(&version.record);
        if *revision > self.report.revision {
            let text = format!("an object is above the newest revision of the log, {}", self.report.revision);
            self.found(tell(Problem::Contradiction, &text));
        }
        if *revision <= log.reclaimed(key) {
            if let Some(last) = last {
                let text = "an older version is still there, and a compaction has given it back";
                let finding = Finding::new(Problem::Leftover, text).of(key, last.revision);
                self.found(finding.record(&last.record));
            }
            if version.kind == Some(ChangeKind::Delete) {
                self.found(tell(
                    Problem::Leftover,
                    "a tombstone is still there, and a compaction has given it back",
                ));
            }
        }
        let (Some(kind), Some(before)) = (version.kind, last.and_then(|last| last.kind)) else { return };
        let wrong = match (before, kind) {
            (ChangeKind::Delete, ChangeKind::Delete) => {
                Some("a key was deleted that did not exist: what created it is missing")
            }
            (ChangeKind::Delete, ChangeKind::Put(meta)) if meta.version != 1 => {
                Some("a version that is not the first follows a deletion")
            }
            (ChangeKind::Put(old), ChangeKind::Put(new))
                if new.version != 1
                    && (new.version != old.version + 1 || new.create_revision != old.create_revision) =>
            {
                Some("a version of the key is missing before this one")
            }
            _ => None,
        };
        if let Some(text) = wrong {
            self.found(tell(Problem::Missing, text));
        }
    }

    /// Compares the newest object of a key with the index.
    async fn newest(&mut self, index: &mut Index, newest: &Version) -> Result<(), ReadError> {
        self.index_only(index, Some(&newest.key)).await?;
        let entry = index.next.take_if(|(key, _, _)| *key == newest.key);
        let found = entry.is_some();
        let Version { key, revision, .. } = newest;
        let tell = |problem, text: String| Finding::new(problem, text).of(key, *revision);
        match (newest.kind, entry) {
            (Some(ChangeKind::Put(_)) | None, None) => {
                let text = "the index has no record of a key that exists: reads do not find it".to_owned();
                self.found(tell(Problem::Missing, text).record(&self.space.index_key(key.as_slice())));
            }
            (Some(ChangeKind::Delete), None) => {}
            (Some(ChangeKind::Delete), Some((_, _, at))) => {
                let text = "the index has a record of a key whose newest object is its deletion".to_owned();
                self.found(tell(Problem::Contradiction, text).record(&at));
            }
            (_, Some((_, meta, at))) if meta.mod_revision != *revision => {
                if meta.mod_revision > *revision {
                    let text = format!(
                        "the object of revision {} is missing, which the index names",
                        meta.mod_revision
                    );
                    let lost = self.space.object_key(key.as_slice(), meta.mod_revision);
                    let finding = tell(Problem::Missing, text).at(meta.mod_revision);
                    self.found(finding.record(&lost));
                } else {
                    let text = format!(
                        "the index says that revision {} is the newest, and there is an object of revision {revision}",
                        meta.mod_revision
                    );
                    self.found(tell(Problem::Contradiction, text).record(&at));
                }
            }
            (Some(ChangeKind::Put(object)), Some((_, meta, at))) if object != meta => {
                let text = format!("the index says {}, and the object says {}", facts(&meta), facts(&object));
                self.found(tell(Problem::Contradiction, text).record(&at));
            }
            _ => {}
        }
        if found {
            self.advance(index).await?;
        }
        Ok(())
    }

    /// Tells of the index records before `until` (all without): they have no objects.
    async fn index_only(&mut self, index: &mut Index, until: Option<&Key>) -> Result<(), ReadError> {
        while let Some((key, meta, _)) =
            index.next.take_if(|(key, _, _)| until.is_none_or(|until| *key < *until))
        {
            let lost = self.space.object_key(key.as_slice(), meta.mod_revision);
            let text = "the object of a key that the index names is missing: reads of it fail";
            let finding = Finding::new(Problem::Missing, text).of(&key, meta.mod_revision);
            self.found(finding.record(&lost));
            self.advance(index).await?;
        }
        Ok(())
    }

    /// Goes to the next index record that can be read.
    async fn advance(&mut self, index: &mut Index) -> Result<(), ReadError> {
        index.next = None;
        while let Some((record, value)) = index.pages.next(self).await? {
            self.report.keys += 1;
            let Some(value) = value else { continue };
            let (key, meta) = match self.space.decode_index(&record, &value) {
                Ok(read) => read,
                Err(damaged) => {
                    self.found(Finding::damaged(&damaged, &record));
                    continue;
                }
            };
            if !meta.lease.is_none() {
                index.attached.push((key.clone(), meta.lease));
                if index.attached.len() >= LEASES_PER_LOOK_MAX {
                    self.look_up_leases(index).await?;
                }
            }
            index.next = Some((key, meta, record));
            break;
        }
        Ok(())
    }

    /// Whether the leases exist that keys hang on.
    async fn look_up_leases(&mut self, index: &mut Index) -> Result<(), ReadError> {
        let attached = std::mem::take(&mut index.attached);
        let records: Vec<_> = attached.iter().map(|(_, lease)| self.space.lease_key(*lease)).collect();
        let found = match self.snapshot.get_many(&records).await {
            Ok(found) => found,
            // One that cannot be read is there, and was told: the others are asked for one by one.
            Err(ReadError::Corrupt(_)) => {
                let mut found = Vec::with_capacity(records.len());
                for record in &records {
                    found.push(match self.snapshot.get(record).await {
                        Err(ReadError::Corrupt(_)) => Some(Bytes::new()),
                        read => read?,
                    });
                }
                found
            }
            Err(error) => return Err(error),
        };
        for (((key, lease), record), found) in attached.iter().zip(&records).zip(found) {
            if found.is_none() {
                let text = format!(
                    "the key hangs on the lease {:x}, which does not exist: it never expires",
                    lease.0
                );
                self.found(Finding::new(Problem::Missing, text).key(key).record(record));
            }
        }
        Ok(())
    }
}

fn facts(meta: &KeyMeta) -> String {
    format!(
        "create revision {}, version {}, lease {:x}, {} bytes",
        meta.create_revision, meta.version, meta.lease.0, meta.value_len
    )
}
