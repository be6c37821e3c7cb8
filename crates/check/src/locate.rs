//! Where log and objects differ, once it is known that they do. It reads both again, and the log once more for each
//! object of a change that is kept: slow, and only for a store that is damaged.

use bytes::Bytes;
use engine::{Direction, KeySpan, ReadError, Scan};
use layout::log::{Body, Slot};
use layout::object::{Object, meta_of};
use model::{Change, ChangeKind, KeyRange, Revision};

use crate::Checking;
use crate::finding::{Finding, Phase, Problem};
use crate::log::UserLogs;
use crate::objects::Version;
use crate::pages::Pages;

/// One look into the log takes so many slots.
const SLOTS_PER_LOOK_MAX: usize = 512;
/// And no further one when they have so many bytes.
const BYTES_PER_LOOK: usize = 4 << 20;

impl Checking<'_> {
    pub(crate) async fn locate(&mut self, log: &UserLogs) -> Result<(), ReadError> {
        self.objects_of_log(log).await?;
        self.log_of_objects(log).await
    }

    /// Whether each change in the log from the compacted revision on has its object, and that which it replaced.
    async fn objects_of_log(&mut self, log: &UserLogs) -> Result<(), ReadError> {
        let space = self.space.clone();
        for partition in log.map.ids() {
            let mut pages = Pages::of(space.log_span(partition, Slot(0)), Phase::Locating);
            while let Some((key, value)) = pages.next(self).await? {
                let Some(value) = value else { continue };
                let Ok(record) = space.decode_log(&key, &value) else { continue };
                let Body::Changes(changes) = record.body else { continue };
                for change in changes.iter().filter(|change| change.revision >= crate::floor(log)) {
                    self.object_of(change).await?;
                }
            }
        }
        Ok(())
    }

    async fn object_of(&mut self, change: &Change) -> Result<(), ReadError> {
        let record = self.space.object_key(change.key.as_slice(), change.revision);
        let tell = |problem, text: &str| Finding::new(problem, text).of(&change.key, change.revision);
        match self.object_at(&record).await? {
            Seen::Unreadable => {}
            Seen::Absent => {
                let text = "the object of a change in the log is missing";
                self.found(tell(Problem::Missing, text).record(&record));
            }
            Seen::Is(kind) if kind != change.kind => {
                let text = "an object says another thing than the change in the log";
                self.found(tell(Problem::Contradiction, text).record(&record));
            }
            Seen::Is(_) => {}
        }
        if change.previous.is_none() {
            return Ok(());
        }
        let replaced = self.space.object_key(change.key.as_slice(), change.previous);
        if self.object_at(&replaced).await? == Seen::Absent {
            let text = format!("the object that revision {} has replaced is missing", change.revision);
            let finding = Finding::new(Problem::Missing, text).of(&change.key, change.previous);
            self.found(finding.record(&replaced));
        }
        Ok(())
    }

    async fn object_at(&self, record: &Bytes) -> Result<Seen, ReadError> {
        let value = match self.snapshot.get(record).await {
            Ok(None) => return Ok(Seen::Absent),
            Ok(Some(value)) => value,
            Err(ReadError::Corrupt(_)) => return Ok(Seen::Unreadable),
            Err(error) => return Err(error),
        };
        Ok(match self.space.decode_object(record, &value) {
            Ok(Object::Tombstone) => Seen::Is(ChangeKind::Delete),
            Ok(Object::Put(key_value)) => {
                meta_of(&key_value).map_or(Seen::Unreadable, |meta| Seen::Is(ChangeKind::Put(meta)))
            }
            Err(_) => Seen::Unreadable,
        })
    }

    /// Whether each object from the compacted revision on is that of a change in the log.
    async fn log_of_objects(&mut self, log: &UserLogs) -> Result<(), ReadError> {
        let space = self.space.clone();
        let mut pages = Pages::of(space.object_span(&KeyRange::all()), Phase::Locating);
        let mut last = None::<Version>;
        while let Some((record, value)) = pages.next(self).await? {
            let Ok((key, revision)) = space.decode_object_key(&record) else { continue };
            let object = value.and_then(|value| space.decode_object(&record, &value).ok());
            let kind = match object {
                Some(Object::Tombstone) => Some(ChangeKind::Delete),
                Some(Object::Put(key_value)) => meta_of(&key_value).ok().map(ChangeKind::Put),
                None => None,
            };
            let version = Version { key, revision, kind, record };
            let before = last.take().filter(|last| last.key == version.key);
            if version.revision >= crate::floor(log) {
                let previous = before.as_ref().map_or(Revision::NONE, Version::as_previous);
                self.change_of(&version, previous, log).await?;
            }
            last = Some(version);
        }
        Ok(())
    }

    async fn change_of(
        &mut self,
        version: &Version,
        previous: Revision,
        log: &UserLogs,
    ) -> Result<(), ReadError> {
        let tell = |problem, text: String| {
            Finding::new(problem, text).of(&version.key, version.revision).record(&version.record)
        };
        match self.find(version, log).await? {
            Found::Change(change) if change.previous.is_none() && !previous.is_none() => {
                let text = format!(
                    "the log says that the key was created, and there is an object of revision {previous} before it"
                );
                self.found(tell(Problem::Contradiction, text));
            }
            Found::Change(_) | Found::Unreadable => {}
            Found::Nothing => {
                let text = "no slot of the log has the change that an object tells of".to_owned();
                self.found(tell(Problem::Contradiction, text));
            }
        }
        Ok(())
    }

    /// Looks for the change in the log.
    async fn find(&self, version: &Version, log: &UserLogs) -> Result<Found, ReadError> {
        let (partition, slot) = log.slot_before(&version.key, version.revision);
        let span = self.space.log_span(partition, slot);
        let mut rest = Some(KeySpan { start: span.start, end: Some(span.end) });
        while let Some(span) = rest {
            let scan = Scan {
                span,
                direction: Direction::Forward,
                records_max: SLOTS_PER_LOOK_MAX,
                bytes_max: BYTES_PER_LOOK,
                values: true,
            };
            let page = match self.snapshot.scan(&scan).await {
                Err(ReadError::Corrupt(_)) => return Ok(Found::Unreadable),
                page => page?,
            };
            for (key, value) in &page.records {
                // The slot may be the one that cannot be read.
                let Ok(record) = self.space.decode_log(key, value) else { return Ok(Found::Unreadable) };
                let passed = record.revision >= version.revision;
                if let Body::Changes(changes) = record.body {
                    let is_it =
                        |change: &Change| change.revision == version.revision && change.key == version.key;
                    if let Some(change) = changes.into_iter().find(is_it) {
                        return Ok(Found::Change(change));
                    }
                    if passed {
                        return Ok(Found::Nothing);
                    }
                }
            }
            rest = page.next;
        }
        Ok(Found::Nothing)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Absent,
    Unreadable,
    Is(ChangeKind),
}

enum Found {
    Change(Change),
    Nothing,
    /// A record on the way cannot be read, which was told.
    Unreadable,
}
