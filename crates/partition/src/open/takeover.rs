//! How a process becomes the owner: the leader by silence in the system partition's log, of user keys by being the
//! leader; and how it shows that it is there.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, PlantedBug, Shutdown, is_planted};
use engine::{Batch, BatchClass, CommitError};
use layout::log::{Body, Epoch, Incarnation, LogRecord, PartitionId, Slot};
use model::Revision;
use tokio::sync::{mpsc, oneshot};

use super::{OpenFailure, Opening, World};
use crate::error::ReadFailure;
use crate::events::newest_slot;
use crate::leadership::LeaderLease;
use crate::log_writer::{AppendError, LogWriter};
use crate::system;

/// A process that loses the race for a slot while it opens a store looks again this often; each time somebody else
/// has written.
const TAKEOVERS_MAX: usize = 16;

/// A partition that this process has taken over.
pub(super) struct Taken {
    pub(super) slot: Slot,
    pub(super) record: LogRecord,
}

impl Opening {
    /// Takes the system partition over, at the next epoch, which is the term.
    ///
    /// With a lease a whole one of silence comes before each try: after a conflict somebody is there after all.
    pub(super) async fn lead(&self, owner: Incarnation) -> Result<Taken, OpenFailure> {
        for _ in 0..TAKEOVERS_MAX {
            let (last, before) = match self.leadership.lease() {
                // Only then: it would break off what a living owner has under way.
                Some(lease) => {
                    let newest = self.await_silence(lease).await?;
                    self.settle().await?;
                    newest
                }
                None => {
                    self.settle().await?;
                    self.newest(PartitionId::SYSTEM).await?
                }
            };
            let epoch = Epoch(before.epoch.0 + 1);
            let begun = self.leadership.begin_record().await.map_err(ReadFailure::from)?;
            if let Some(taken) =
                self.try_take_over(PartitionId::SYSTEM, (last, before), (owner, epoch)).await?
            {
                self.leadership.extend(begun).await;
                return Ok(taken);
            }
        }
        Err(OpenFailure::Contended(PartitionId::SYSTEM.0))
    }

    /// Waits until the system partition's log has been silent for a lease, or its owner has given it up, or it never had
    /// one. Answers its newest slot.
    async fn await_silence(&self, lease: LeaderLease) -> Result<(Slot, LogRecord), OpenFailure> {
        let World { engine, clock, .. } = &self.world;
        let mut seen: Option<(Slot, Duration)> = None;
        loop {
            let (slot, record) = self.newest(PartitionId::SYSTEM).await?;
            let free = record.body == Body::Released || record.epoch == Epoch(0);
            if free || is_planted(PlantedBug::ImpatientCandidate) {
                return Ok((slot, record));
            }
            // Asked after the look: the silence begins when the slot was seen, not when the look began, or the owner's
            // lease could still run.
            let now = engine.time().await.map_err(ReadFailure::from)?;
            match seen {
                Some((last, since)) if last == slot => {
                    if now.saturating_sub(since) > lease.length {
                        return Ok((slot, record));
                    }
                }
                _ => seen = Some((slot, now)),
            }
            clock.sleep_until(clock.now() + lease.look()).await;
        }
    }

    /// Carries `work` out, and writes heartbeats meanwhile, where there is a lease to be kept. Answers the slots that
    /// they took.
    pub(super) async fn beat_during<T>(
        &self,
        work: impl Future<Output = Result<T, OpenFailure>>,
        log: &mut LogWriter,
    ) -> Result<(T, Vec<Slot>), OpenFailure> {
        let Some(lease) = self.leadership.lease() else { return Ok((work.await?, Vec::new())) };
        let (done, mut is_done) = oneshot::channel();
        let work = async {
            let outcome = work.await;
            // The other half waits for it.
            let _ = done.send(());
            outcome
        };
        let clock = &self.world.clock;
        let beats = async {
            let mut slots = Vec::new();
            loop {
                // What is begun is finished, so that every outcome is known.
                tokio::select! {
                    biased;
                    _ = &mut is_done => return Ok(slots),
                    () = clock.sleep_until(clock.now() + lease.beat()) => {}
                }
                let begun = self.leadership.begin_record().await.unwrap_or(None);
                let body = Body::System(Vec::new());
                match log.append(Revision::FIRST, body, BatchClass::Reclaim, Vec::new).await {
                    Ok(slot) => {
                        self.leadership.extend(begun).await;
                        slots.push(slot);
                    }
                    Err(AppendError::Refused(_) | AppendError::NoSpace(_)) => {}
                    Err(
                        AppendError::Deposed(reason)
                        | AppendError::Closed(reason)
                        | AppendError::Unknown(reason),
                    ) => {
                        return Err(OpenFailure::Write(reason));
                    }
                }
            }
        };
        let (outcome, slots) = tokio::join!(work, beats);
        Ok((outcome?, slots?))
    }

    /// Takes a partition over at `epoch`, unless somebody with this or a later one was there: then a later leader has
    /// been elected.
    pub(super) async fn take_over(
        &self,
        partition: PartitionId,
        owner: Incarnation,
        epoch: Epoch,
    ) -> Result<Taken, OpenFailure> {
        for _ in 0..TAKEOVERS_MAX {
            let (last, before) = self.newest(partition).await?;
            if before.epoch >= epoch && !is_planted(PlantedBug::EpochIgnored) {
                return Err(OpenFailure::Contended(partition.0));
            }
            if let Some(taken) = self.try_take_over(partition, (last, before), (owner, epoch)).await? {
                return Ok(taken);
            }
        }
        Err(OpenFailure::Contended(partition.0))
    }

    /// Writes a takeover record behind the newest slot, and makes sure that it is the newest when it is durable; `None`
    /// when it is not.
    async fn try_take_over(
        &self,
        partition: PartitionId,
        (last, before): (Slot, LogRecord),
        (owner, epoch): (Incarnation, Epoch),
    ) -> Result<Option<Taken>, OpenFailure> {
        let slot = last.next();
        let record = LogRecord { epoch, owner, batch: 0, revision: before.revision, body: Body::Takeover };
        let key = self.settings.space.log_key(partition, slot);
        let mut batch = Batch { class: BatchClass::Reclaim, ..Batch::new() };
        batch.insert(key.clone(), self.settings.space.encode_log(&key, &record));
        match self.world.engine.commit(batch).await {
            Ok(()) | Err(CommitError::Conflict { .. } | CommitError::Undetermined(_)) => {}
            Err(error) => return Err(OpenFailure::Write(error.to_string())),
        }
        let is_newest = self.newest(partition).await? == (slot, record.clone());
        Ok(is_newest.then_some(Taken { slot, record }))
    }

    async fn newest(&self, partition: PartitionId) -> Result<(Slot, LogRecord), ReadFailure> {
        let snapshot = self.snapshot().await?;
        newest_slot(snapshot.as_ref(), &self.settings.space, partition)
            .await?
            .ok_or_else(|| ReadFailure::Corrupt(format!("the log of partition {} is empty", partition.0)))
    }
}

/// Lets others see, again and again, that the owner is there; until it stops, or nobody uses the store any more.
pub(super) async fn beat(
    lease: LeaderLease,
    clock: Arc<dyn Clock>,
    commands: mpsc::WeakSender<system::Command>,
    shutdown: Shutdown,
) -> Result<(), Infallible> {
    while shutdown.or(clock.sleep_until(clock.now() + lease.beat())).await.is_ok() {
        let Some(commands) = commands.upgrade() else { break };
        // A full queue is full of changes, which show as well that somebody is there.
        let _ = commands.try_send(system::Command::Beat);
    }
    Ok(())
}
