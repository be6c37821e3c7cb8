//! Who sees every batch at the moment at which the engine applies it, and knows what may and may not be in it.
//!
//! The logs are the truth: what is in them in order is what happened. The oracle writes it out as a plain
//! [`History`], holds each batch against the invariants (`docs/invariants.md`), and answers what clients were told.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use bytes::Bytes;
use engine::Write;
use layout::KeySpace;
use layout::log::{Body, LogRecord, PartitionId, Slot, SystemChange};
use layout::object::Object;
use model::{Change, ChangeKind, KeyMeta, LeaseId};
use parking_lot::{Mutex, MutexGuard};

use crate::history::{Happened, History, KeyValue};
use crate::world::World;

/// See the module.
pub(crate) struct Oracle {
    world: World,
    space: KeySpace,
    known: Mutex<Known>,
}

/// What is known of the store.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) history: History,
    logs: HashMap<PartitionId, Log>,
    /// Leases that exist, and whether they are being revoked.
    pub(crate) leases: BTreeMap<LeaseId, bool>,
    /// The compacted revision, once there is one: as in etcd, it may be 0.
    pub(crate) compacted: Option<i64>,
    /// The highest revision that any client was told.
    pub(crate) told: i64,
    /// The highest revision at which some client was told all that there is: nothing can follow at or below it.
    pub(crate) resolved: i64,
    /// Values that were certainly not written.
    never: HashSet<Bytes>,
    /// Revisions that somebody was told to be his.
    claimed: BTreeSet<i64>,
    /// When which lease must not end yet: what its renewals promised.
    pub(crate) promised: BTreeMap<LeaseId, Duration>,
    /// Leases that somebody has asked to end.
    pub(crate) unwanted: BTreeSet<LeaseId>,
    /// How long the system partition's log must be silent before a takeover.
    leader_lease: Option<Duration>,
    /// When it was written to last.
    system_written: Duration,
    /// How many batches were written by owners beside the leader.
    pub(crate) owned: u64,
}

#[derive(Default)]
struct Log {
    slots: BTreeMap<Slot, LogRecord>,
    last: Slot,
    /// The highest slot that was deleted.
    trimmed: Slot,
}

/// The records of a batch, by kind.
struct Sorted<'a> {
    space: &'a KeySpace,
    slots: Vec<(PartitionId, Slot, LogRecord)>,
    /// By the keys of the records.
    index: HashMap<Bytes, Option<KeyMeta>>,
    objects: HashMap<(Bytes, i64), Option<Bytes>>,
    gone_objects: Vec<(Bytes, i64)>,
    gone_slots: Vec<(PartitionId, Slot)>,
}

impl Oracle {
    pub(crate) fn new(world: World, space: KeySpace, leader_lease: Option<Duration>) -> Arc<Oracle> {
        let known = Known { leader_lease, ..Known::default() };
        Arc::new(Oracle { world, space, known: Mutex::new(known) })
    }

    /// What is known now.
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }

    /// A write that clients were told has not happened and never will.
    pub(crate) fn never(&self, token: &Bytes) {
        let mut known = self.known();
        known.never.insert(token.clone());
        let revision = known.history.revision();
        let written = (2..=revision).find(|&at| {
            let mut events = known.history.of(at).iter();
            events.any(|event| event.after.as_ref().is_some_and(|version| version.value == *token))
        });
        drop(known);
        self.world.check(written.is_none(), || {
            format!("{token:?} was told as not written, and was written at {written:?}")
        });
    }

    /// A client was told that its transaction is the one of this revision.
    pub(crate) fn claim(&self, revision: i64) {
        let mut known = self.known();
        let first = known.claimed.insert(revision);
        known.told = known.told.max(revision);
        drop(known);
        self.world.check(first, || format!("revision {revision} was told to two clients as theirs"));
    }

    /// A batch became durable and visible.
    pub(crate) fn applied(&self, writes: &[Write]) {
        let outcome = self.sort(writes).and_then(|sorted| self.known.lock().take(sorted, &self.world));
        if let Err(what) = outcome {
            self.world.violated(what);
        }
    }

    fn sort(&self, writes: &[Write]) -> Result<Sorted<'_>, String> {
        let space = &self.space;
        let mut sorted = Sorted {
            space,
            slots: Vec::new(),
            index: HashMap::new(),
            objects: HashMap::new(),
            gone_objects: Vec::new(),
            gone_slots: Vec::new(),
        };
        let text = |damaged: layout::Damaged| damaged.to_string();
        let in_span = |key: &Bytes, span: &layout::Span| span.start <= *key && *key < span.end;
        for write in writes {
            let key = write.key();
            if let Ok((partition, slot)) = space.decode_log_key(key) {
                match write {
                    Write::Insert(_, value) => {
                        sorted.slots.push((partition, slot, space.decode_log(key, value).map_err(text)?));
                    }
                    Write::Delete(_) => sorted.gone_slots.push((partition, slot)),
                    Write::Put(..) => return Err(format!("slot {} is put, not inserted", slot.0)),
                }
            } else if let Ok((user_key, revision)) = space.decode_object_key(key) {
                let name = (user_key.bytes().clone(), revision.get());
                match write {
                    Write::Put(_, value) | Write::Insert(_, value) => {
                        let object = match space.decode_object(key, value).map_err(text)? {
                            Object::Put(version) => Some(version),
                            Object::Tombstone => None,
                        };
                        sorted.objects.insert(name, object);
                    }
                    Write::Delete(_) => sorted.gone_objects.push(name),
                }
            } else if in_span(key, &space.index_span()) {
                let meta = match write {
                    Write::Put(_, value) | Write::Insert(_, value) => {
                        Some(space.decode_index(key, value).map_err(text)?.1)
                    }
                    Write::Delete(_) => None,
                };
                sorted.index.insert(key.clone(), meta);
            }
        }
        Ok(sorted)
    }
}

impl Known {
    /// The compacted revision, and the newest.
    pub(crate) fn bounds(&self) -> (i64, i64) {
        (self.compacted(), self.history.revision())
    }

    /// The compacted revision; 0 as long as there is none.
    pub(crate) fn compacted(&self) -> i64 {
        self.compacted.unwrap_or(0)
    }

    /// Every slot of the partitions of user keys that is there, in order.
    pub(crate) fn slots(&self) -> Vec<(PartitionId, Slot)> {
        let users = self.logs.iter().filter(|(partition, _)| **partition != PartitionId::SYSTEM);
        let mut slots: Vec<_> = users
            .flat_map(|(&partition, log)| log.slots.keys().map(move |&slot| (partition, slot)))
            .collect();
        slots.sort();
        slots
    }

    /// Somebody was told everything through this revision.
    pub(crate) fn resolve(&mut self, revision: i64) {
        self.resolved = self.resolved.max(revision);
        self.told = self.told.max(revision);
    }

    fn take(&mut self, batch: Sorted<'_>, world: &World) -> Result<(), String> {
        if batch.slots.is_empty() && (!batch.index.is_empty() || !batch.objects.is_empty()) {
            return Err("records are written without a slot".to_owned());
        }
        for (partition, slot, record) in &batch.slots {
            if self.is_stray(*partition, *slot, record) && batch.index.is_empty() && batch.objects.is_empty()
            {
                world.tell(|| format!("a stray record in trimmed slot {}", slot.0));
                self.logs.entry(*partition).or_default().slots.insert(*slot, record.clone());
                continue;
            }
            self.check_slot(*partition, *slot, record)?;
            if *partition == PartitionId::SYSTEM {
                self.check_silence(record, Clock::now(world))?;
            }
            world.tell(|| describe(*partition, *slot, record));
            match &record.body {
                Body::Changes(changes) => {
                    self.take_changes((*partition, changes), record, &batch)?;
                    let system = self.logs.get(&PartitionId::SYSTEM);
                    let leader = system.and_then(|log| log.slots.get(&log.last)).map(|record| record.owner);
                    self.owned += u64::from(leader != Some(record.owner));
                }
                Body::System(changes) => {
                    changes.iter().try_for_each(|change| self.take_system(*change, world))?;
                }
                Body::Takeover | Body::Released | Body::Filler => {}
            }
            let log = self.logs.entry(*partition).or_default();
            log.last = *slot;
            log.slots.insert(*slot, record.clone());
        }
        batch.gone_objects.iter().try_for_each(|(key, revision)| self.check_gone_object(key, *revision))?;
        batch.gone_slots.iter().try_for_each(|(partition, slot)| self.take_gone_slot(*partition, *slot))
    }

    /// Whether this is a takeover or a filler that was so late that its slot was taken, trimmed and is empty again.
    ///
    /// It does no harm: who sent it looked again and knows that it has lost, readers pass trimmed slots over, and nothing
    /// but its few bytes stays.
    fn is_stray(&self, partition: PartitionId, slot: Slot, record: &LogRecord) -> bool {
        let trimmed = self.logs.get(&partition).map_or(Slot(0), |log| log.trimmed);
        slot <= trimmed && matches!(record.body, Body::Takeover | Body::Filler)
    }

    /// Invariants 2, 3 and 12.
    fn check_slot(&self, partition: PartitionId, slot: Slot, record: &LogRecord) -> Result<(), String> {
        let place = format!("slot {} of partition {}", slot.0, partition.0);
        let Some(log) = self.logs.get(&partition) else {
            return if slot == Slot(1) { Ok(()) } else { Err(format!("{place} is the first one written")) };
        };
        if slot != log.last.next() {
            return Err(format!("{place} is written behind slot {}", log.last.0));
        }
        let Some(before) = log.slots.get(&log.last) else {
            return Err(format!("the slot before {place} is gone"));
        };
        if record.body == Body::Takeover && record.epoch <= before.epoch || record.epoch < before.epoch {
            return Err(format!("{place} has epoch {} behind {}", record.epoch.0, before.epoch.0));
        }
        if record.epoch == before.epoch && record.owner != before.owner {
            return Err(format!("{place}: epoch {} has two owners", record.epoch.0));
        }
        if record.epoch > before.epoch && record.body != Body::Takeover {
            return Err(format!("{place} begins epoch {} without a takeover", record.epoch.0));
        }
        if record.revision < before.revision {
            return Err(format!("{place} has revision {} behind {}", record.revision, before.revision));
        }
        Ok(())
    }

    /// Invariant 12: a takeover of the system partition follows a full lease of silence, or the owner's word.
    fn check_silence(&mut self, record: &LogRecord, now: Duration) -> Result<(), String> {
        let silence = now.saturating_sub(std::mem::replace(&mut self.system_written, now));
        let log = self.logs.get(&PartitionId::SYSTEM);
        let before = log.and_then(|log| log.slots.get(&log.last));
        let free = before.is_none_or(|before| before.epoch.0 == 0 || before.body == Body::Released);
        match self.leader_lease {
            Some(lease) if record.body == Body::Takeover && !free && silence <= lease => {
                Err(format!("the system partition is taken over after {silence:?} of silence"))
            }
            _ => Ok(()),
        }
    }

    /// Invariants 3 and 5, and what the records beside the changes say.
    fn take_changes(
        &mut self,
        (partition, changes): (PartitionId, &[Change]),
        record: &LogRecord,
        batch: &Sorted<'_>,
    ) -> Result<(), String> {
        let before = self.logs.get(&partition).and_then(|log| log.slots.get(&log.last));
        let mut last = before.map_or(1, |before| before.revision.get());
        for of_revision in changes.chunk_by(|a, b| a.revision == b.revision) {
            let revision = of_revision.first().map_or(0, |change| change.revision.get());
            if revision <= last {
                return Err(format!("revision {revision} follows {last} in partition {}", partition.0));
            }
            last = revision;
            self.check_number(partition, revision, batch)?;
            let mut events = Vec::with_capacity(of_revision.len());
            for change in of_revision {
                events.push(self.event_of(change, batch)?);
            }
            self.history.insert(revision, events);
        }
        // Of a batch over several partitions, each slot has the batch's revision.
        let of_batch = batch.slots.iter().filter_map(|(_, _, record)| match &record.body {
            Body::Changes(changes) => changes.last().map(|change| change.revision.get()),
            _ => None,
        });
        if of_batch.max().is_some_and(|newest| record.revision.get() != newest) {
            return Err(format!("the slot of revision {last} says {}", record.revision));
        }
        let newest = self.history.newest();
        for change in changes {
            let expected = newest.get(change.key.as_slice()).map(|version| version.modified);
            match batch.index.get(&batch.space.index_key(change.key.as_slice())) {
                Some(meta) if meta.map(|meta| meta.mod_revision.get()) == expected => {}
                other => return Err(format!("the index says {other:?} of {}, not {expected:?}", change.key)),
            }
        }
        let all = batch.slots.iter().flat_map(|(_, _, record)| match &record.body {
            Body::Changes(changes) => changes.as_slice(),
            _ => &[],
        });
        let all: HashSet<Bytes> = all.map(|change| batch.space.index_key(change.key.as_slice())).collect();
        let changed = |record_key: &Bytes| all.contains(record_key);
        match batch.index.keys().find(|key| !changed(key)) {
            Some(key) => {
                Err(format!("the index record {} is written, which no change names", key.escape_ascii()))
            }
            None => Ok(()),
        }
    }

    /// A number is used once, and not below what somebody was told to be all. Without other partitions it is the next one.
    fn check_number(&self, partition: PartitionId, revision: i64, batch: &Sorted<'_>) -> Result<(), String> {
        let newest = self.history.revision();
        let others = self.logs.keys().any(|&other| other != PartitionId::SYSTEM && other != partition);
        if !others && revision != newest + 1 {
            return Err(format!("revision {revision} follows {newest}"));
        }
        if revision <= self.resolved {
            return Err(format!("revision {revision} appears after {} was told to be all", self.resolved));
        }
        let has_part = |(_, _, record): &&(PartitionId, Slot, LogRecord)| match &record.body {
            Body::Changes(changes) => changes.iter().any(|change| change.revision.get() == revision),
            _ => false,
        };
        let parts = batch.slots.iter().filter(has_part).count();
        match self.history.of(revision) {
            [] => Ok(()),
            _ if parts > 1 => Ok(()),
            _ => Err(format!("revision {revision} happens twice")),
        }
    }

    /// What a change did, held against the object record beside it and the version before.
    fn event_of(&self, change: &Change, batch: &Sorted<'_>) -> Result<Happened, String> {
        let (key, revision) = (change.key.bytes().clone(), change.revision.get());
        let before = self.history.newest().get(&key).cloned();
        if change.previous.get() != before.as_ref().map_or(0, |version| version.modified) {
            return Err(format!("the change of {key:?} at {revision} names {} as before", change.previous));
        }
        let object = batch.objects.get(&(key.clone(), revision));
        let after = match (change.kind, object) {
            (ChangeKind::Put(meta), Some(Some(encoded))) => {
                let version = KeyValue::decode(encoded)?;
                let expected = (
                    before.as_ref().map_or(revision, |before| before.create),
                    before.as_ref().map_or(0, |before| before.version) + 1,
                );
                let said = (meta.create_revision.get(), meta.version);
                if said != expected
                    || (version.create, version.version) != expected
                    || version.lease != meta.lease
                {
                    return Err(format!(
                        "{key:?} at {revision} is {version:?} and {meta:?} after {before:?}"
                    ));
                }
                self.check_put(&version)?;
                Some(version)
            }
            (ChangeKind::Delete, Some(None)) if before.is_some() => None,
            (kind, object) => {
                return Err(format!("{key:?} at {revision}: {kind:?} with {object:?} after {before:?}"));
            }
        };
        Ok(Happened { key, revision, after, before })
    }

    fn check_put(&self, version: &KeyValue) -> Result<(), String> {
        if self.never.contains(&version.value) {
            return Err(format!("{:?} was told as not written, and is written now", version.value));
        }
        if !version.lease.is_none() && !self.leases.contains_key(&version.lease) {
            return Err(format!("{:?} is put on lease {}, which is gone", version.key, version.lease));
        }
        Ok(())
    }

    fn take_system(&mut self, change: SystemChange, world: &World) -> Result<(), String> {
        match change {
            SystemChange::LeaseGranted(lease, _) => {
                if self.leases.insert(lease, false).is_some() {
                    return Err(format!("lease {lease} is granted twice"));
                }
            }
            SystemChange::LeaseRevoking(lease) => {
                if self.leases.insert(lease, true) != Some(false) {
                    return Err(format!("lease {lease} is revoked, and is not live"));
                }
                let now = Clock::now(world);
                let early = self.promised.get(&lease).filter(|&&until| now < until);
                if let (Some(until), false) = (early, self.unwanted.contains(&lease)) {
                    return Err(format!("lease {lease} expires at {now:?}, and lives until {until:?}"));
                }
            }
            SystemChange::LeaseRevoked(lease) => {
                if self.leases.remove(&lease) != Some(true) {
                    return Err(format!("lease {lease} vanishes, and was not being revoked"));
                }
                if let Some(version) = self.history.newest().values().find(|version| version.lease == lease) {
                    return Err(format!("lease {lease} vanishes, and {:?} hangs on it", version.key));
                }
            }
            SystemChange::Compacted(revision) => {
                let revision = revision.get();
                if self.compacted >= Some(revision) || revision > self.history.revision() {
                    return Err(format!("compacted at {revision} after {:?}", self.compacted));
                }
                self.compacted = Some(revision);
            }
            SystemChange::AlarmRaised(_) | SystemChange::AlarmCleared(_) => {}
        }
        Ok(())
    }

    /// Invariant 7: a read at or above the compacted revision, or an event at or above it, may need the object.
    fn check_gone_object(&self, key: &Bytes, revision: i64) -> Result<(), String> {
        let mut of_key = (revision..=self.history.revision())
            .flat_map(|at| self.history.of(at))
            .filter(|event| event.key == *key);
        let own = of_key.next().filter(|event| event.revision == revision);
        let gone_at = match own {
            Some(Happened { after: None, .. }) => Some(revision),
            Some(_) => of_key.next().map(|next| next.revision),
            None => None,
        };
        match gone_at {
            Some(at) if at < self.compacted() => Ok(()),
            _ => Err(format!(
                "the object of {key:?} at {revision} is deleted, which ended at {gone_at:?}; compacted is {:?}",
                self.compacted
            )),
        }
    }

    /// Whoever slept must meet a taken slot: some are never deleted.
    fn take_gone_slot(&mut self, partition: PartitionId, slot: Slot) -> Result<(), String> {
        let place = format!("slot {} of partition {}", slot.0, partition.0);
        let compacted = self.compacted();
        let Some(log) = self.logs.get_mut(&partition) else { return Err(format!("{place} is not there")) };
        if slot == log.last {
            return Err(format!("{place}, the newest, is deleted"));
        }
        // A deletion that is done again finds nothing.
        let Some(record) = log.slots.get(&slot) else { return Ok(()) };
        let before_takeover = log.slots.get(&slot.next()).is_some_and(|next| next.body == Body::Takeover);
        if matches!(record.body, Body::Takeover | Body::Filler) || before_takeover {
            return Err(format!("{place} is deleted, which is kept for ever"));
        }
        if partition != PartitionId::SYSTEM && record.revision.get() >= compacted {
            return Err(format!(
                "{place} of revision {} is deleted; compacted is {compacted}",
                record.revision
            ));
        }
        log.slots.remove(&slot);
        log.trimmed = log.trimmed.max(slot);
        Ok(())
    }
}

fn describe(partition: PartitionId, slot: Slot, record: &LogRecord) -> String {
    let what = match &record.body {
        Body::Takeover => "takeover".to_owned(),
        Body::Filler => "filler".to_owned(),
        Body::Released => "released".to_owned(),
        Body::Changes(changes) => {
            let of = |change: &Change| {
                let sign = if change.kind == ChangeKind::Delete { "-" } else { "+" };
                format!("{sign}{}@{}", change.key, change.revision)
            };
            changes.iter().map(of).collect::<Vec<_>>().join(" ")
        }
        Body::System(changes) => format!("{changes:?}"),
    };
    format!("p{} slot {} epoch {}: {what}", partition.0, slot.0, record.epoch.0)
}
