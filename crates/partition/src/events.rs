//! The past of the keys, for watchers: the newest batches from memory, everything before them from the logs.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use engine::{Direction, KeySpan, Scan, Snapshot};
use layout::log::{Body, LogRecord, PartitionId, Slot};
use layout::map::PartitionMap;
use layout::object::{Object, encode_deleted};
use layout::{KeySpace, Span};
use model::{Change, ChangeKind, Event, KeyRange, Revision};

use crate::error::ReadFailure;
use crate::state::Shared;
use crate::values::Found;

/// One step through the log in the engine takes at most this many slots.
const SLOTS_PER_STEP_MAX: usize = 64;
/// And about this many bytes of log records.
const LOG_BYTES_PER_STEP_MAX: usize = 1 << 20;
/// And events of about this many bytes; those of one revision stay together, however large they are.
const EVENT_BYTES_PER_STEP_MAX: usize = 8 << 20;
/// One step through the batches in memory takes at most this many.
const BATCHES_PER_STEP_MAX: usize = 256;

/// Some of what happened in a range of keys from a revision on.
#[derive(Clone, Debug)]
pub struct EventsPage {
    /// The events, in the order of their revisions. Those of one revision are never split over two pages.
    pub events: Vec<Arc<Event>>,
    /// Every event of the range from the revision asked for through this one is in `events`.
    pub through: Revision,
}

/// Some of the changes that logs tell, in the order of their revisions.
struct ChangesPage {
    changes: Vec<Change>,
    /// Every change from the revision asked for through this one is there.
    through: Revision,
    /// There is nothing more.
    complete: bool,
}

fn missing_slot(partition: PartitionId, slot: Slot) -> ReadFailure {
    ReadFailure::Corrupt(format!("slot {} of partition {} is missing", slot.0, partition.0))
}

pub(crate) fn empty_log(partition: PartitionId) -> ReadFailure {
    ReadFailure::Corrupt(format!("the log of partition {} is empty", partition.0))
}

impl Shared {
    /// What happened in `range` from `from` on: the next step's worth. `through` is at least `from`, unless nothing
    /// has happened from there on.
    ///
    /// What memory still holds is told even below the compacted revision: a watcher that is a moment behind when
    /// somebody compacts loses nothing.
    pub(crate) async fn events(&self, from: Revision, range: &KeyRange) -> Result<EventsPage, ReadFailure> {
        if let Some(page) = self.events_in_memory(from, range) {
            return Ok(page);
        }
        // Asked before the snapshot is taken, which may hold a batch that is durable but not published yet.
        let published = self.published();
        let snapshot = self.engine.snapshot().await?;
        let page = self.events_in_log(snapshot.as_ref(), from..=published, range).await;
        // Read last in the same snapshot: what was missing above is then known to be compacted.
        match self.values.compacted_in(snapshot.as_ref()).await? {
            Some(compacted) if from < compacted => Err(ReadFailure::Compacted(compacted)),
            _ => page,
        }
    }

    /// What the log says of these revisions: the next step's worth, of all keys, whether it is published here or not.
    pub(crate) async fn events_of_log(
        &self,
        revisions: RangeInclusive<Revision>,
    ) -> Result<EventsPage, ReadFailure> {
        let from = *revisions.start();
        let snapshot = self.engine.snapshot().await?;
        let page = self.events_in_log(snapshot.as_ref(), revisions, &KeyRange::all()).await;
        match self.values.compacted_in(snapshot.as_ref()).await? {
            Some(compacted) if from < compacted => Err(ReadFailure::Compacted(compacted)),
            _ => page,
        }
    }

    /// Every change at or below `through` in the slots of a partition after `slot`, all of which are there by now.
    /// [`ReadFailure::Compacted`] when some were there and are gone.
    ///
    /// For what was on its way when another partition reached `through`: a batch or two, which fit into memory.
    pub(crate) async fn changes_after(
        &self,
        (partition, slot): (PartitionId, Slot),
        through: Revision,
    ) -> Result<Vec<Change>, ReadFailure> {
        let mut next = slot.next();
        let mut changes = Vec::new();
        let (revisions, all) = (Revision::NONE..=through, KeyRange::all());
        loop {
            let snapshot = self.engine.snapshot().await?;
            let page = self.read_slots(snapshot.as_ref(), (partition, next), &revisions, &all).await;
            match (page, self.values.compacted_in(snapshot.as_ref()).await?) {
                (Ok((page, after)), _) => {
                    changes.extend(page.changes);
                    if page.complete {
                        return Ok(changes);
                    }
                    next = after;
                }
                // A slot is missing. What the engine does not tell at the moment is another matter.
                (Err(ReadFailure::Corrupt(_)), Some(compacted)) => {
                    return Err(ReadFailure::Compacted(compacted));
                }
                (Err(failure), _) => return Err(failure),
            }
        }
    }

    /// As [`Shared::changes_after`], with what the changes put.
    pub(crate) async fn events_after(
        &self,
        from: (PartitionId, Slot),
        through: Revision,
    ) -> Result<Vec<Arc<Event>>, ReadFailure> {
        let changes = self.changes_after(from, through).await?;
        let from = changes.first().map_or(Revision::NONE, |change| change.revision);
        let key_values = self.key_values(&changes, from).await?;
        let events = changes.into_iter().zip(key_values);
        Ok(events.map(|(change, key_value)| Arc::new(Event::new(change, key_value))).collect())
    }

    /// The revision with the slot before the newest one, of a store with one partition: with several, no log alone tells
    /// what has been published. `None` then.
    pub(crate) async fn revision_before_newest(&self) -> Result<Option<Revision>, ReadFailure> {
        let (Some(partition), 1) = (self.map.id(0), self.map.count()) else { return Ok(None) };
        let snapshot = self.engine.snapshot().await?;
        let span = self.space.log_span(partition, Slot(0));
        let scan = Scan {
            span: KeySpan { start: span.start, end: Some(span.end) },
            direction: Direction::Backward,
            records_max: 2,
            bytes_max: usize::MAX,
            values: true,
        };
        let records = snapshot.scan(&scan).await?.records;
        // One slot alone is the first, which only founds.
        let Some((key, value)) = records.get(1).or(records.first()) else { return Ok(Some(Revision::FIRST)) };
        Ok(Some(self.space.decode_log(key, value)?.revision))
    }

    fn events_in_memory(&self, from: Revision, range: &KeyRange) -> Option<EventsPage> {
        let state = self.state.read();
        if from <= state.history.floor() {
            return None;
        }
        let batches = state.history.since(from, BATCHES_PER_STEP_MAX);
        drop(state);
        let through = batches.last().map_or(from.previous(), |batch| batch.revision);
        let events = batches.iter().flat_map(|batch| &batch.events);
        let wanted = events
            .filter(|event| event.change.revision >= from && range.contains(event.change.key.as_slice()))
            .cloned();
        Some(EventsPage { events: wanted.collect(), through })
    }

    async fn events_in_log(
        &self,
        snapshot: &dyn Snapshot,
        revisions: RangeInclusive<Revision>,
        range: &KeyRange,
    ) -> Result<EventsPage, ReadFailure> {
        let from = *revisions.start();
        let ChangesPage { mut changes, mut through, .. } =
            self.changes_in_logs(snapshot, &revisions, range).await?;
        if let Some(cut) = cut_at(&changes, EVENT_BYTES_PER_STEP_MAX) {
            through = changes.get(cut).map_or(through, |first_left| first_left.revision.previous());
            changes.truncate(cut);
        }
        let key_values = self.key_values(&changes, from).await?;
        let events = changes.into_iter().zip(key_values);
        let events = events.map(|(change, key_value)| Arc::new(Event::new(change, key_value)));
        Ok(EventsPage { events: events.collect(), through })
    }

    /// What the logs of the partitions in `range` say, merged by revision.
    async fn changes_in_logs(
        &self,
        snapshot: &dyn Snapshot,
        revisions: &RangeInclusive<Revision>,
        range: &KeyRange,
    ) -> Result<ChangesPage, ReadFailure> {
        let places = self.map.overlapping(range);
        let ids: Vec<PartitionId> = places.filter_map(|place| self.map.id(place)).collect();
        if let [only] = ids.as_slice()
            && self.map.count() == 1
        {
            return self.changes_in_log(snapshot, *only, revisions, range).await;
        }
        let mut merged =
            ChangesPage { changes: Vec::new(), through: revisions.start().previous(), complete: true };
        let mut known_through = *revisions.end();
        for partition in ids {
            let page = self.changes_in_log(snapshot, partition, revisions, range).await?;
            merged.changes.extend(page.changes);
            merged.through = merged.through.max(page.through);
            if !page.complete {
                known_through = known_through.min(page.through);
            }
        }
        // Where a log ends, nothing at or below the published revision can follow in it.
        merged.through = match known_through {
            Revision::MAX => merged.through,
            known => known.max(revisions.start().previous()),
        };
        merged.changes.retain(|change| change.revision <= merged.through);
        merged.changes.sort_by_key(|change| change.revision);
        Ok(merged)
    }

    async fn changes_in_log(
        &self,
        snapshot: &dyn Snapshot,
        partition: PartitionId,
        revisions: &RangeInclusive<Revision>,
        range: &KeyRange,
    ) -> Result<ChangesPage, ReadFailure> {
        let first = self.slot_of(snapshot, partition, *revisions.start()).await?;
        let (page, _) = self.read_slots(snapshot, (partition, first), revisions, range).await?;
        Ok(page)
    }

    /// The changes in the slots of a partition from `next` on, a step's worth, and the slot after them.
    async fn read_slots(
        &self,
        snapshot: &dyn Snapshot,
        (partition, mut next): (PartitionId, Slot),
        revisions: &RangeInclusive<Revision>,
        range: &KeyRange,
    ) -> Result<(ChangesPage, Slot), ReadFailure> {
        let (&from, &published) = (revisions.start(), revisions.end());
        let span = self.space.log_span(partition, next);
        let scan = Scan {
            span: KeySpan { start: span.start, end: Some(span.end) },
            direction: Direction::Forward,
            records_max: SLOTS_PER_STEP_MAX,
            bytes_max: LOG_BYTES_PER_STEP_MAX,
            values: true,
        };
        let found = snapshot.scan(&scan).await?;
        let mut page =
            ChangesPage { changes: Vec::new(), through: from.previous(), complete: found.next.is_none() };
        for (key, value) in found.records {
            let (_, slot) = self.space.decode_log_key(&key)?;
            if slot != next {
                return Err(missing_slot(partition, next));
            }
            let record = self.space.decode_log(&key, &value)?;
            if record.revision > published {
                page.complete = true;
                break;
            }
            next = slot.next();
            page.through = page.through.max(record.revision);
            if let Body::Changes(of_slot) = record.body {
                let wanted =
                    |change: &Change| change.revision >= from && range.contains(change.key.as_slice());
                page.changes.extend(of_slot.into_iter().filter(wanted));
            }
        }
        Ok((page, next))
    }

    async fn key_values(&self, changes: &[Change], from: Revision) -> Result<Vec<Bytes>, ReadFailure> {
        let found = changes.iter().map(|change| {
            let key = change.key.as_slice();
            match change.kind {
                ChangeKind::Put(meta) => {
                    let object_key = self.space.object_key(key, change.revision);
                    Found { object_key, meta, key_value: None }
                }
                ChangeKind::Delete => {
                    let key_value = Some(encode_deleted(key, change.revision));
                    Found { key_value, ..Found::key_only(key, TOMBSTONE) }
                }
            }
        });
        self.values.load(found.collect(), from).await
    }

    /// The first slot whose revision is not below `from`, or the one after the newest.
    ///
    /// Found by halving. Trimmed slots are passed over, wherever the record of the trimming says that they end: it may
    /// be behind them after an unclear outcome, and what is trimmed lies below the compacted revision in any case.
    async fn slot_of(
        &self,
        snapshot: &dyn Snapshot,
        partition: PartitionId,
        from: Revision,
    ) -> Result<Slot, ReadFailure> {
        let (last, _) =
            newest_slot(snapshot, &self.space, partition).await?.ok_or_else(|| empty_log(partition))?;
        let (mut low, mut high) = (Slot(1), last.next());
        while low < high {
            let middle = Slot(low.0 + (high.0 - low.0) / 2);
            let (slot, record) = self.slot_from(snapshot, partition, middle).await?;
            if record.revision < from {
                low = slot.next();
            } else {
                high = middle;
            }
        }
        if low == last.next() { Ok(low) } else { Ok(self.slot_from(snapshot, partition, low).await?.0) }
    }

    /// The first slot at or after `first` that is there.
    async fn slot_from(
        &self,
        snapshot: &dyn Snapshot,
        partition: PartitionId,
        first: Slot,
    ) -> Result<(Slot, LogRecord), ReadFailure> {
        let span = self.space.log_span(partition, first);
        let found = one_slot(snapshot, &self.space, span, Direction::Forward).await?;
        found.ok_or_else(|| missing_slot(partition, first))
    }

    /// The version that the event replaced, encoded; `None` where there was none.
    pub(crate) async fn previous(&self, event: &Event) -> Result<Option<Bytes>, ReadFailure> {
        if event.change.previous.is_none() {
            return Ok(None);
        }
        if let Some(previous) = event.previous() {
            return Ok(Some(previous.clone()));
        }
        let object_key = self.space.object_key(event.change.key.as_slice(), event.change.previous);
        if let Some(previous) = self.values.cached(&object_key) {
            event.remember_previous(previous.clone());
            return Ok(Some(previous));
        }
        let snapshot = self.engine.snapshot().await?;
        let Some(record) = snapshot.get(&object_key).await? else {
            // It went when the event's own revision fell below the compacted one.
            let at = event.change.revision;
            return Err(self.values.explain_absence(snapshot.as_ref(), &object_key, at).await);
        };
        match self.space.decode_object(&object_key, &record)? {
            Object::Put(previous) => {
                event.remember_previous(previous.clone());
                Ok(Some(previous))
            }
            Object::Tombstone => {
                let key = object_key.escape_ascii();
                Err(ReadFailure::Corrupt(format!("the object record {key} should hold a value")))
            }
        }
    }
}

/// The facts of no version at all, for the place of a deletion in a list of versions.
const TOMBSTONE: model::KeyMeta = model::KeyMeta {
    create_revision: Revision::NONE,
    mod_revision: Revision::NONE,
    version: 0,
    lease: model::LeaseId::NONE,
    value_len: 0,
};

/// The partitions of the user keys; there is no record of them where the keys are not split.
pub(crate) async fn partition_map(
    snapshot: &dyn Snapshot,
    space: &KeySpace,
) -> Result<PartitionMap, ReadFailure> {
    match snapshot.get(&space.partitions_key()).await? {
        Some(record) => Ok(space.decode_partitions(&record)?),
        None => Ok(PartitionMap::default()),
    }
}

/// The newest slot of a partition's log, and what it holds.
pub(crate) async fn newest_slot(
    snapshot: &dyn Snapshot,
    space: &KeySpace,
    partition: layout::log::PartitionId,
) -> Result<Option<(Slot, LogRecord)>, ReadFailure> {
    one_slot(snapshot, space, space.log_span(partition, Slot(0)), Direction::Backward).await
}

/// The first slot of `span` in this direction, and what it holds.
async fn one_slot(
    snapshot: &dyn Snapshot,
    space: &KeySpace,
    span: Span,
    direction: Direction,
) -> Result<Option<(Slot, LogRecord)>, ReadFailure> {
    let scan = Scan {
        span: KeySpan { start: span.start, end: Some(span.end) },
        direction,
        records_max: 1,
        bytes_max: usize::MAX,
        values: true,
    };
    let Some((key, value)) = snapshot.scan(&scan).await?.records.pop() else { return Ok(None) };
    let (_, slot) = space.decode_log_key(&key)?;
    Ok(Some((slot, space.decode_log(&key, &value)?)))
}

/// Where to cut `changes`, between two revisions, so that the values before hold about `bytes_max`; `None` when
/// they hold less.
fn cut_at(changes: &[Change], bytes_max: usize) -> Option<usize> {
    let mut bytes = 0;
    let mut last = None;
    changes.iter().position(|change| {
        let cut = bytes >= bytes_max && last != Some(change.revision);
        last = Some(change.revision);
        bytes += change.key.as_slice().len();
        if let ChangeKind::Put(meta) = change.kind {
            bytes += meta.value_len as usize;
        }
        cut
    })
}
