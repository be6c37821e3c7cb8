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
use tracing::{debug, info};

use super::{OpenFailure, Opening};
use crate::error::ReadFailure;
use crate::events::newest_slot;
use crate::leadership::LeaderLease;
use crate::log_writer::{AppendError, LogWriter};
use crate::replica::{Replica, Through};
use crate::system;

/// A process that loses the race for a slot while it opens a store looks again this often; each time somebody else
/// has written.
const TAKEOVERS_MAX: usize = 16;

/// A partition that this process has taken over.
pub(crate) struct Taken {
    pub(crate) slot: Slot,
    pub(crate) record: LogRecord,
}

impl Opening {
    /// Takes the system partition over, at the next epoch, which is the term.
    ///
    /// With a lease a whole one of silence comes before each try: after a conflict somebody is there after all. Who could
    /// not tell what others have done must not lead: whether `replica` can be brought to the end of the log is found out
    /// before.
    pub(super) async fn lead(&self, replica: &Replica, not_before: Duration) -> Result<Taken, OpenFailure> {
        let mut tries = 0;
        loop {
            let (last, before) = match self.leadership.lease() {
                Some(lease) => {
                    let newest = self.await_silence(lease, not_before).await?;
                    // Only now: it breaks off what a living owner has under way.
                    self.settle().await?;
                    // No further: the one that was silent may wake up before this one leads, and not know yet what it wrote.
                    replica.catch_up(Through::AllButNewest).await?;
                    replica.check_nothing_is_missing().await?;
                    newest
                }
                None if tries == TAKEOVERS_MAX => return Err(OpenFailure::Contended(PartitionId::SYSTEM.0)),
                None => {
                    tries += 1;
                    self.newest(PartitionId::SYSTEM).await?
                }
            };
            let epoch = Epoch(before.epoch.0 + 1);
            let begun = self.leadership.begin_record().await.map_err(ReadFailure::from)?;
            let taken = self.try_take_over(PartitionId::SYSTEM, (last, before), (self.owner, epoch)).await?;
            if let Some(taken) = taken {
                self.leadership.extend(begun).await;
                return Ok(taken);
            }
        }
    }

    /// Waits until the system partition's log has been silent for a lease, or its owner has given it up, or it never had
    /// one; and at least until `not_before`. Answers its newest slot. An engine that does not answer is asked again.
    async fn await_silence(
        &self,
        lease: LeaderLease,
        not_before: Duration,
    ) -> Result<(Slot, LogRecord), OpenFailure> {
        let mut seen: Option<(Slot, Duration)> = None;
        loop {
            match self.look((lease, not_before), &mut seen).await {
                Ok(Some(newest)) => return Ok(newest),
                Ok(None) => {}
                Err(ReadFailure::Unavailable(error)) => debug!(error, "looking for a leader failed"),
                Err(failure) => return Err(failure.into()),
            }
            let clock = &self.world.clock;
            tokio::select! {
                () = clock.sleep_until(clock.now() + lease.look()) => {}
                () = self.role.asked_to_look() => {}
            }
        }
    }

    /// One look at the newest slot; answers it when nobody leads. `seen` is the slot of the looks before, and since when
    /// it was the newest.
    async fn look(
        &self,
        (lease, not_before): (LeaderLease, Duration),
        seen: &mut Option<(Slot, Duration)>,
    ) -> Result<Option<(Slot, LogRecord)>, ReadFailure> {
        let (slot, record) = self.newest(PartitionId::SYSTEM).await?;
        let free = record.body == Body::Released || record.epoch == Epoch(0);
        if !free {
            self.tell_of(record.epoch).await?;
        }
        // Asked after the look: the silence begins when the slot was seen, not when the look began, or the owner's
        // lease could still run.
        let now = self.world.engine.time().await?;
        if now < not_before {
            return Ok(None);
        }
        if free || is_planted(PlantedBug::ImpatientCandidate) {
            return Ok(Some((slot, record)));
        }
        match *seen {
            Some((last, since)) if last == slot => {
                let silent = now.saturating_sub(since) > lease.length;
                Ok(silent.then_some((slot, record)))
            }
            _ => {
                *seen = Some((slot, now));
                Ok(None)
            }
        }
    }

    /// Tells this process who leads, if that is news.
    async fn tell_of(&self, epoch: Epoch) -> Result<(), ReadFailure> {
        let is_known = self.role.leader().borrow().as_ref().is_some_and(|known| known.epoch >= epoch);
        if is_known {
            return Ok(());
        }
        let snapshot = self.snapshot().await?;
        if let Some(record) = snapshot.get(&self.settings.space.leader_key()).await? {
            let leader = self.settings.space.decode_leader(&record)?;
            info!(leader = leader.name, term = leader.epoch.0, "another server leads the store");
            self.role.saw(leader);
        }
        Ok(())
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
    pub(crate) async fn take_over(
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

    /// Takes a partition over at `epoch` for a leader that says that `slot` is the newest of its log: not if it is not,
    /// because what is known here is known through that slot.
    pub(crate) async fn take_up(
        &self,
        partition: PartitionId,
        slot: Slot,
        epoch: Epoch,
    ) -> Result<Taken, OpenFailure> {
        let (last, before) = self.newest(partition).await?;
        if last != slot || before.epoch >= epoch {
            return Err(OpenFailure::Contended(partition.0));
        }
        let taken = self.try_take_over(partition, (last, before), (self.owner, epoch)).await?;
        taken.ok_or(OpenFailure::Contended(partition.0))
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
        if partition == PartitionId::SYSTEM && self.leadership.lease().is_some() {
            // So that the others find this process.
            let space = &self.settings.space;
            batch.put(space.leader_key(), space.encode_leader(&self.as_leader(epoch)));
        }
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
