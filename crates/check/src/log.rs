//! The log of the user keys by itself, and what all logs have in common.

use bytes::Bytes;
use engine::ReadError;
use layout::log::{Body, Epoch, Incarnation, LogRecord, PartitionId, Slot};
use layout::map::PartitionMap;
use layout::meta::Reclaimed;
use model::{Change, ChangeKind, Key, Revision};

use crate::Checking;
use crate::finding::{Finding, Phase, Problem};
use crate::meta::Positions;
use crate::pages::Pages;
use crate::sum::Sum;

/// Where in the log a revision is, is remembered for every so many slots at first.
const SLOTS_PER_MARK: u64 = 256;
/// Of more marks than these every second one is forgotten: 1 MiB of memory.
const MARKS_MAX: usize = 1 << 16;

/// What the logs of the user keys say.
#[derive(Debug, Default)]
pub(crate) struct UserLogs {
    pub(crate) compacted: Option<Revision>,
    /// Of all changes from the compacted revision on.
    pub(crate) sum: Sum,
    pub(crate) map: PartitionMap,
    /// Of each partition, in the order of the map.
    logs: Vec<UserLog>,
}

impl UserLogs {
    /// Everything that changes of the key through here have replaced was given back.
    pub(crate) fn reclaimed(&self, key: &Key) -> Revision {
        self.logs.get(self.map.position(key.as_slice())).map_or(Revision::NONE, |log| log.reclaimed)
    }

    /// The slots among which the changes of the key at `revision` are: of this partition from this one on.
    pub(crate) fn slot_before(&self, key: &Key, revision: Revision) -> (PartitionId, Slot) {
        let place = self.map.position(key.as_slice());
        let slot = self.logs.get(place).map_or(Slot(1), |log| log.slot_before(revision));
        (self.map.id(place).unwrap_or(PartitionId::FIRST), slot)
    }
}

/// What the log of one partition says.
#[derive(Debug, Default)]
struct UserLog {
    /// Everything that the changes through here have replaced was given back.
    reclaimed: Revision,
    /// Where revisions are: the revision before a slot, and the slot.
    marks: Vec<(Revision, Slot)>,
    slots_per_mark: u64,
}

impl UserLog {
    fn mark(&mut self, slot: Slot, before: Revision) {
        let step = self.slots_per_mark.max(SLOTS_PER_MARK);
        if self.marks.last().is_some_and(|(_, last)| slot.0 < last.0.saturating_add(step)) {
            return;
        }
        self.marks.push((before, slot));
        if self.marks.len() > MARKS_MAX {
            let mut index = 0;
            self.marks.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.slots_per_mark = step * 2;
        }
    }

    /// The slots among which the changes of `revision` are: from this one on.
    fn slot_before(&self, revision: Revision) -> Slot {
        let at = self.marks.partition_point(|(before, _)| *before < revision);
        at.checked_sub(1).and_then(|at| self.marks.get(at)).map_or(Slot(1), |(_, slot)| *slot)
    }
}

/// The slot that was read last.
#[derive(Clone, Copy)]
pub(crate) struct Last {
    slot: Slot,
    epoch: Epoch,
    owner: Incarnation,
    pub(crate) revision: Revision,
    /// Whether that slot could be read: else only the slot is its own, and the rest of one before it.
    is_whole: bool,
}

impl Checking<'_> {
    pub(crate) async fn user_logs(&mut self, positions: &Positions) -> Result<UserLogs, ReadError> {
        let map = positions.map.clone();
        let mut all = UserLogs { compacted: positions.compacted, map: map.clone(), ..UserLogs::default() };
        for partition in map.ids() {
            let log = self.user_log(partition, positions, &mut all.sum).await?;
            all.logs.push(log);
        }
        if let Some(compacted) = positions.compacted.filter(|compacted| *compacted > self.report.revision) {
            let text = format!("it is compacted at {compacted}, above its newest revision");
            let key = self.space.compacted_key();
            self.found(Finding::new(Problem::Contradiction, text).record(&key));
        }
        Ok(all)
    }

    async fn user_log(
        &mut self,
        partition: PartitionId,
        positions: &Positions,
        sum: &mut Sum,
    ) -> Result<UserLog, ReadError> {
        let space = self.space.clone();
        let reclaimed = positions.reclaimed.get(&partition).copied().unwrap_or_default();
        let mut log = UserLog::default();
        let mut last: Option<Last> = None;
        let mut pages = Pages::of(space.log_span(partition, Slot(0)), Phase::Log);
        while let Some((key, value)) = pages.next(self).await? {
            let Some((slot, record)) = self.slot(&key, value) else {
                // Nothing follows from what cannot be read, and the next slot is not missing for it.
                last = after_damage(&space, &key, last);
                continue;
            };
            let gap_is_explained = positions.compacted.is_some_and(|compacted| before(&record) < compacted);
            self.follows(partition, (slot, &record), last, (reclaimed, gap_is_explained));
            self.user_body((&positions.map, partition), &key, &record, last);
            if slot <= reclaimed.changes_through {
                log.reclaimed = record.revision;
            } else if last.is_none_or(|last| last.slot <= reclaimed.changes_through) {
                log.reclaimed = log.reclaimed.max(before(&record));
            }
            log.mark(slot, before(&record));
            if let Body::Changes(changes) = &record.body {
                let from = positions.compacted.unwrap_or(Revision::NONE);
                for change in changes.iter().filter(|change| change.revision >= from) {
                    sum.add(&change.key, change.revision, &change.kind, change.previous);
                }
            }
            last = Some(Last::of(slot, &record));
        }
        let newest = last.map_or(Revision::NONE, |last| last.revision);
        self.report.revision = self.report.revision.max(newest);
        if last.is_none() {
            let text = format!("the log of partition {} is empty", partition.0);
            self.found(Finding::new(Problem::Missing, text));
        }
        // What is not compacted can never have been given back.
        log.reclaimed = match positions.compacted {
            Some(compacted) => log.reclaimed.min(compacted.previous()),
            None => Revision::NONE,
        };
        Ok(log)
    }

    /// Reads a slot, if it can be.
    pub(crate) fn slot(&mut self, key: &Bytes, value: Option<Bytes>) -> Option<(Slot, LogRecord)> {
        self.report.slots += 1;
        let value = value?;
        let read = self.space.decode_log_key(key);
        match read.and_then(|(_, slot)| Ok((slot, self.space.decode_log(key, &value)?))) {
            Ok(read) => Some(read),
            Err(damaged) => {
                self.found(Finding::damaged(&damaged, key));
                None
            }
        }
    }

    /// Whether a slot can follow the one before it.
    pub(crate) fn follows(
        &mut self,
        partition: PartitionId,
        (slot, record): (Slot, &LogRecord),
        last: Option<Last>,
        (reclaimed, gap_is_explained): (Reclaimed, bool),
    ) {
        let key = self.space.log_key(partition, slot);
        let order = |text: String| Finding::new(Problem::Order, text).at(record.revision).record(&key);
        let expected = last.map_or(Slot(1), |last| last.slot.next());
        // The founding slot, takeovers and what is right before them stay for ever, whatever is compacted.
        let stays = last.is_none_or(|last| last.is_whole && last.epoch < record.epoch);
        let trimmed = slot.0 <= reclaimed.trimmed_through.0.saturating_add(1) || gap_is_explained;
        if slot > expected && (stays || !trimmed) {
            let text =
                format!("slots {} to {} of partition {} are missing", expected.0, slot.0 - 1, partition.0);
            let missing = self.space.log_key(partition, expected);
            self.found(Finding::new(Problem::Missing, text).record(&missing));
        } else if stays && record.epoch > Epoch(0) && record.body != Body::Takeover {
            let text =
                format!("slot {} of partition {} begins an epoch and is no takeover", slot.0, partition.0);
            self.found(order(text));
        }
        let Some(last) = last else { return };
        if record.epoch < last.epoch {
            let text = format!(
                "slot {} of partition {} has epoch {} after {}",
                slot.0, partition.0, record.epoch.0, last.epoch.0
            );
            self.found(order(text));
        } else if last.is_whole && record.epoch == last.epoch && record.owner != last.owner {
            let text = format!(
                "slot {} of partition {} has another owner than the one before it, in the same epoch",
                slot.0, partition.0
            );
            self.found(order(text));
        }
        if record.revision < last.revision {
            let text = format!(
                "slot {} of partition {} has revision {} after {}",
                slot.0, partition.0, record.revision, last.revision
            );
            self.found(order(text));
        }
    }

    /// Whether a slot holds what one of the user keys may.
    fn user_body(
        &mut self,
        (map, partition): (&PartitionMap, PartitionId),
        key: &Bytes,
        record: &LogRecord,
        last: Option<Last>,
    ) {
        let changes = match &record.body {
            Body::Changes(changes) => changes,
            Body::System(_) => {
                let text = "a slot of the user keys holds changes of the system partition";
                return self.found(Finding::new(Problem::Contradiction, text).record(key));
            }
            Body::Takeover | Body::Released | Body::Filler => return,
        };
        let mut before = last.map_or(Revision::NONE, |last| last.revision).next();
        for change in changes {
            let wrong = wrong_change(change).or_else(|| {
                (change.revision < before).then_some("a change has a revision that is behind one before it")
            });
            if let Some(text) = wrong {
                let finding = Finding::new(Problem::Order, text).of(&change.key, change.revision);
                self.found(finding.record(key));
            }
            before = before.max(change.revision);
            if map.id(map.position(change.key.as_slice())) != Some(partition) {
                let text = "a key is changed in the log of a partition that it does not belong to";
                self.found(
                    Finding::new(Problem::Contradiction, text).of(&change.key, change.revision).record(key),
                );
            }
        }
        let newest = changes.last().map(|change| change.revision);
        let is_wrong = match map.count() {
            1 => newest != Some(record.revision),
            // Of a batch over several partitions, each slot has the batch's revision, and may hold no change.
            _ => newest.is_some_and(|newest| newest > record.revision),
        };
        if is_wrong {
            let text = "a slot says another revision than that of its last change";
            self.found(Finding::new(Problem::Contradiction, text).at(record.revision).record(key));
        }
    }
}

impl Last {
    pub(crate) fn of(slot: Slot, record: &LogRecord) -> Last {
        Last { slot, epoch: record.epoch, owner: record.owner, revision: record.revision, is_whole: true }
    }
}

/// What is known of the last slot when it cannot be read: that it is there.
pub(crate) fn after_damage(space: &layout::KeySpace, key: &Bytes, last: Option<Last>) -> Option<Last> {
    let Ok((_, slot)) = space.decode_log_key(key) else { return last };
    let owner = Incarnation(0);
    let unknown = Last { slot, epoch: Epoch(0), owner, revision: Revision::NONE, is_whole: false };
    Some(last.map_or(unknown, |last| Last { slot, is_whole: false, ..last }))
}

fn wrong_change(change: &Change) -> Option<&'static str> {
    if change.previous >= change.revision {
        return Some("a change has replaced a revision that is not before it");
    }
    match change.kind {
        ChangeKind::Put(meta) if meta.mod_revision != change.revision => {
            Some("a change says another revision than that of its version")
        }
        ChangeKind::Put(meta) => wrong_meta(&meta),
        ChangeKind::Delete => None,
    }
}

/// What no version of a key can say about itself.
pub(crate) fn wrong_meta(meta: &model::KeyMeta) -> Option<&'static str> {
    let is_first = meta.create_revision == meta.mod_revision;
    if meta.create_revision > meta.mod_revision || meta.create_revision.is_none() || meta.version < 1 {
        Some("a version says that it is older than its key")
    } else if is_first != (meta.version == 1) {
        Some("a version says that it is the first, and that it is not")
    } else {
        None
    }
}

/// The revision of the partition before a slot.
fn before(record: &LogRecord) -> Revision {
    match &record.body {
        Body::Changes(changes) => changes.first().map_or(record.revision, |first| first.revision.previous()),
        Body::Takeover | Body::Released | Body::Filler | Body::System(_) => record.revision,
    }
}
