//! The owner's pen on a partition's log: one record at a time, each in the next slot, each with a known outcome.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, PlantedBug, is_planted};
use bytes::Bytes;
use engine::{Batch, BatchClass, CommitError, Engine, ReadError, Write};
use layout::log::{Body, Epoch, Incarnation, LogRecord, PartitionId, Slot};
use layout::{Damaged, KeySpace};
use model::Revision;
use tracing::warn;

/// A batch that the engine certainly did not take is offered again this often before its clients hear of it:
/// kube-apiserver does not retry a transaction, so a hiccup would reach a user.
const OFFERS_MAX: u32 = 6;
/// The pause before the second offer; it doubles with each one. Together about 0.6 s.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// The longest pause while an outcome is being cleared up.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How often the planted bug skips a slot: once in so many.
const PLANTED_EVERY: u64 = 7;

/// Why a record is not in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AppendError {
    /// It certainly is not and never will be.
    Refused(String),
    /// It certainly is not: there is no space.
    NoSpace(String),
    /// Someone else owns the partition. It certainly is not.
    Deposed(String),
    /// It certainly is not: the engine was closed, or has closed itself, before.
    Closed(String),
    /// The engine closed before the outcome was known.
    Unknown(String),
}

pub(crate) struct LogWriter {
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    space: KeySpace,
    partition: PartitionId,
    epoch: Epoch,
    owner: Incarnation,
    next: Slot,
    /// The partition's revision with the newest slot.
    revision: Revision,
    batches: u64,
}

/// Where and as whom a [`LogWriter`] writes.
pub(crate) struct Pen {
    pub(crate) partition: PartitionId,
    pub(crate) epoch: Epoch,
    pub(crate) owner: Incarnation,
    /// The newest slot of the log.
    pub(crate) last: Slot,
    /// The partition's revision with it.
    pub(crate) revision: Revision,
}

/// What the slot says that a record was to take.
enum Occupant {
    Nobody,
    /// The record itself.
    Ours,
    /// A filler of ours, after which the record can never appear.
    OurFiller,
    Other(LogRecord),
    /// Nothing any more: the slot was trimmed, so that others have written far beyond it.
    Trimmed,
}

impl LogWriter {
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        space: KeySpace,
        pen: Pen,
    ) -> LogWriter {
        let Pen { partition, epoch, owner, last, revision } = pen;
        LogWriter { engine, clock, space, partition, epoch, owner, next: last.next(), revision, batches: 0 }
    }

    /// Writes the next slot together with what `writes` makes (the same each time), atomically and durably;
    /// `revision` is the partition's with it.
    ///
    /// Returns when the outcome is certain: while the engine says "maybe", nothing else can be written here.
    pub(crate) async fn append(
        &mut self,
        revision: Revision,
        body: Body,
        class: BatchClass,
        writes: impl Fn() -> Vec<Write>,
    ) -> Result<Slot, AppendError> {
        let slot = self.next;
        append_to_all(&mut [self], vec![body], revision, class, writes).await.map(|()| slot)
    }

    /// Offers a batch to the engine until its outcome is certain. `slots` are the records that it inserts, this log's
    /// first.
    async fn offer(
        &mut self,
        slots: &[(Bytes, Bytes)],
        batch: u64,
        class: BatchClass,
        writes: impl Fn() -> Vec<Write>,
    ) -> Result<(), AppendError> {
        let mut pause = PAUSE_FIRST;
        for offers_left in (0..OFFERS_MAX).rev() {
            // Made anew for each offer: a second one is rare, and a copy at hand would cost every batch.
            let mut offer = Batch { writes: writes(), class };
            for (place, (key, record)) in slots.iter().enumerate() {
                // An engine may treat the first record as the one that decides.
                offer.writes.push(Write::Insert(key.clone(), record.clone()));
                let last = offer.writes.len() - 1;
                offer.writes.swap(place, last);
            }
            match self.engine.commit(offer).await {
                Ok(()) => return Ok(()),
                Err(CommitError::NoSpace(reason)) => return Err(AppendError::NoSpace(reason)),
                Err(CommitError::Closed(reason)) => return Err(AppendError::Closed(reason)),
                Err(CommitError::Unavailable(reason)) if offers_left == 0 => {
                    return Err(AppendError::Refused(reason));
                }
                Err(CommitError::Unavailable(_)) => self.pause(&mut pause).await,
                Err(CommitError::Undetermined(reason)) => return self.clear_up(batch, reason).await,
                Err(CommitError::Conflict { key }) => {
                    let reason = format!("{} is taken", key.escape_ascii());
                    return self.clear_up(batch, reason).await;
                }
            }
        }
        Err(AppendError::Refused("the engine refused every offer".to_owned()))
    }

    /// The partition whose log this is.
    pub(crate) fn partition(&self) -> PartitionId {
        self.partition
    }

    /// The newest slot, and the partition's revision with it.
    pub(crate) fn end(&self) -> (Slot, Revision) {
        (Slot(self.next.0 - 1), self.revision)
    }

    /// Commits writes that need no slot and may be lost or done again. `false` when they were not done for certain.
    pub(crate) async fn housekeeping(&self, writes: Vec<Write>) -> bool {
        let done = self.engine.commit(Batch { writes, class: BatchClass::Reclaim }).await;
        if let Err(error) = &done {
            warn!(partition = self.partition.0, error = %error, "housekeeping was not done");
        }
        done.is_ok()
    }

    /// Finds out what became of `batch`: reads its slot, and takes the slot with a filler if nobody has it, after
    /// which the batch can never appear. When it is there, the slot is still to be passed.
    async fn clear_up(&mut self, batch: u64, why: String) -> Result<(), AppendError> {
        warn!(
            partition = self.partition.0,
            slot = self.next.0,
            error = why,
            "clearing up the outcome of a batch"
        );
        let mut pause = PAUSE_FIRST;
        loop {
            match self.occupant(batch).await {
                Ok(Occupant::Ours) => return Ok(()),
                Ok(Occupant::OurFiller) => {
                    self.advance(self.revision);
                    return Err(AppendError::Refused(why));
                }
                Ok(Occupant::Trimmed) => {
                    let reason = format!(
                        "slot {} of partition {} was trimmed by another owner",
                        self.next.0, self.partition.0
                    );
                    return Err(AppendError::Unknown(reason));
                }
                Ok(Occupant::Other(record)) => {
                    let reason = format!(
                        "slot {} of partition {} was taken by {:032x} in epoch {}",
                        self.next.0, self.partition.0, record.owner.0, record.epoch.0
                    );
                    return Err(AppendError::Deposed(reason));
                }
                Ok(Occupant::Nobody) if is_planted(PlantedBug::NoFiller) => {
                    return Err(AppendError::Refused(why));
                }
                Ok(Occupant::Nobody) => {
                    if self.fill().await? {
                        return Err(AppendError::Refused(why));
                    }
                }
                Err(ReadError::Closed(reason) | ReadError::Corrupt(reason)) => {
                    return Err(AppendError::Unknown(reason));
                }
                Err(ReadError::Unavailable(_)) => {}
            }
            self.pause(&mut pause).await;
        }
    }

    /// Tries to take the next slot with a filler. `false` when that is unclear or someone was first: the next look
    /// tells.
    async fn fill(&mut self) -> Result<bool, AppendError> {
        let filler = self.next_batch();
        let (key, record) = self.record(filler, self.revision, Body::Filler);
        let batch = Batch { writes: vec![Write::Insert(key, record)], class: BatchClass::Reclaim };
        match self.engine.commit(batch).await {
            Ok(()) => {
                self.advance(self.revision);
                Ok(true)
            }
            Err(CommitError::Closed(reason)) => Err(AppendError::Unknown(reason)),
            Err(_) => Ok(false),
        }
    }

    /// Who holds the next slot, where `batch` was to be.
    async fn occupant(&self, batch: u64) -> Result<Occupant, ReadError> {
        let corrupt = |error: Damaged| ReadError::Corrupt(error.to_string());
        let snapshot = self.engine.snapshot().await?;
        let key = self.space.log_key(self.partition, self.next);
        let Some(value) = snapshot.get(&key).await? else {
            let trimmed = match snapshot.get(&self.space.reclaimed_key(self.partition)).await? {
                Some(record) => {
                    self.space.decode_reclaimed(self.partition, &record).map_err(corrupt)?.trimmed_through
                }
                None => Slot(0),
            };
            return Ok(if self.next <= trimmed { Occupant::Trimmed } else { Occupant::Nobody });
        };
        let record = self.space.decode_log(&key, &value).map_err(corrupt)?;
        // In another epoch it was written by another task, which this process has taken the partition over from, or for.
        Ok(match record.owner == self.owner && record.epoch == self.epoch {
            true if record.batch == batch => Occupant::Ours,
            // Nothing else of ours was offered for this slot.
            true => Occupant::OurFiller,
            false => Occupant::Other(record),
        })
    }

    fn record(&self, batch: u64, revision: Revision, body: Body) -> (Bytes, Bytes) {
        let key = self.space.log_key(self.partition, self.next);
        let record = LogRecord { epoch: self.epoch, owner: self.owner, batch, revision, body };
        let value = self.space.encode_log(&key, &record);
        (key, value)
    }

    fn next_batch(&mut self) -> u64 {
        self.batches += 1;
        self.batches
    }

    fn advance(&mut self, revision: Revision) {
        self.revision = revision;
        let slot = self.next;
        self.next = slot.next();
        if is_planted(PlantedBug::SkippedSlot) && slot.0.is_multiple_of(PLANTED_EVERY) {
            self.next = self.next.next();
        }
    }

    async fn pause(&self, pause: &mut Duration) {
        self.clock.sleep_until(self.clock.now() + *pause).await;
        *pause = (*pause * 2).min(PAUSE_MAX);
    }
}

/// Writes the next slot of each of these logs, which one process holds, with one body each, together with what `writes`
/// makes: all or nothing. As [`LogWriter::append`] otherwise.
///
/// The slots stand and fall together, so that the first of them tells what became of all: a filler there keeps the others
/// free.
pub(crate) async fn append_to_all(
    logs: &mut [&mut LogWriter],
    bodies: Vec<Body>,
    revision: Revision,
    class: BatchClass,
    writes: impl Fn() -> Vec<Write>,
) -> Result<(), AppendError> {
    let (mut slots, mut batches) = (Vec::with_capacity(logs.len()), Vec::with_capacity(logs.len()));
    for (log, body) in logs.iter_mut().zip(bodies) {
        let batch = log.next_batch();
        slots.push(log.record(batch, revision, body));
        batches.push(batch);
    }
    let committed = match logs.first_mut().zip(batches.first()) {
        Some((first, &batch)) => first.offer(&slots, batch, class, writes).await,
        None => Ok(()),
    };
    if committed.is_ok() {
        logs.iter_mut().for_each(|log| log.advance(revision));
    }
    committed
}
