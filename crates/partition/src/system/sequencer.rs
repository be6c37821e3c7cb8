//! The loop that writes the system partition's log: like a user partition's, with changes instead of transactions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base::Failure;
use engine::{BatchClass, Write};
use layout::KeySpace;
use layout::log::{Body, PartitionId, SystemChange};
use layout::meta::Reclaimed;
use layout::system::{Alarm, LeaseRecord};
use model::{LeaseId, Revision};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::warn;

use super::SystemState;
use super::trail::{Holds, Trail, Trim};
use crate::error::SystemFailure;
use crate::leadership::Leadership;
use crate::log_writer::{AppendError, LogWriter};

/// A batch takes at most this many changes.
const BATCH_CHANGES_MAX: usize = 4096;

/// What the sequencer is asked to do.
pub(crate) enum Command {
    /// Make a change, and tell how that went.
    Change(SystemChange, Answer),
    /// Write a record, with or without changes, so that others see that somebody is there.
    Beat,
}

type Answer = oneshot::Sender<Result<(), SystemFailure>>;

pub(crate) struct SystemSequencer {
    pub(crate) state: Arc<SystemState>,
    pub(crate) space: KeySpace,
    pub(crate) log: LogWriter,
    pub(crate) trail: Trail,
    pub(crate) leadership: Leadership,
    pub(crate) commands: mpsc::Receiver<Command>,
    /// The store's revision: nothing above it can be compacted.
    pub(crate) published: watch::Receiver<Revision>,
}

/// The batch that is being put together, and what it makes of the tables.
#[derive(Default)]
struct Round {
    changes: Vec<SystemChange>,
    /// A record is to be written even without changes.
    beat: bool,
    answers: Vec<(SystemChange, Answer, Result<(), SystemFailure>)>,
    leases: HashMap<LeaseId, Option<LeaseRecord>>,
    compacted: Option<Revision>,
    alarms: BTreeMap<Alarm, bool>,
}

impl Round {
    fn grants(&self) -> bool {
        self.changes.iter().any(|change| matches!(change, SystemChange::LeaseGranted(..)))
    }
}

impl SystemSequencer {
    /// Runs until every sender of commands is gone, or the partition is lost.
    pub(crate) async fn run(mut self) -> Result<(), Failure> {
        while let Some(first) = self.commands.recv().await {
            let mut commands = vec![first];
            while commands.len() < BATCH_CHANGES_MAX {
                let Ok(command) = self.commands.try_recv() else { break };
                commands.push(command);
            }
            if let Err(lost) = self.commit(commands).await {
                self.refuse_waiting(&lost).await;
                return Err(lost);
            }
        }
        self.give_up().await;
        Ok(())
    }

    /// Lets another process take over without the silence, as the last thing done.
    async fn give_up(&mut self) {
        if self.leadership.release() {
            let released =
                self.log.append(Revision::FIRST, Body::Released, BatchClass::Reclaim, Vec::new).await;
            if let Err(error) = released {
                warn!(error = ?error, "the store is not given up in so many words; others will wait for the lease");
            }
        }
    }

    /// Tells those who still wait that nothing of theirs was begun.
    async fn refuse_waiting(&mut self, lost: &Failure) {
        self.commands.close();
        while let Some(command) = self.commands.recv().await {
            if let Command::Change(_, answer) = command {
                let _ = answer.send(Err(SystemFailure::Unavailable(lost.reason.clone())));
            }
        }
    }

    async fn commit(&mut self, commands: Vec<Command>) -> Result<(), Failure> {
        let round = self.evaluate(commands);
        let outcome = match self.append(&round).await {
            Err(AppendError::NoSpace(reason)) if round.grants() => {
                // The disk is full for new leases; what frees space must still get through.
                let mut rest = Vec::new();
                for (change, answer, _) in round.answers {
                    match change {
                        SystemChange::LeaseGranted(..) => {
                            let _ = answer.send(Err(SystemFailure::NoSpace(reason.clone())));
                        }
                        _ => rest.push(Command::Change(change, answer)),
                    }
                }
                if round.beat {
                    rest.push(Command::Beat);
                }
                let round = self.evaluate(rest);
                let outcome = self.append(&round).await;
                self.settle(round, outcome)
            }
            outcome => self.settle(round, outcome),
        };
        // After the answers: nobody waits for it.
        self.trim().await;
        outcome
    }

    fn evaluate(&self, commands: Vec<Command>) -> Round {
        let mut round = Round::default();
        for command in commands {
            match command {
                Command::Change(change, answer) => {
                    let outcome = self.evaluate_change(change, &mut round);
                    round.answers.push((change, answer, outcome));
                }
                Command::Beat => round.beat = true,
            }
        }
        round
    }

    fn evaluate_change(&self, change: SystemChange, round: &mut Round) -> Result<(), SystemFailure> {
        match change {
            SystemChange::LeaseGranted(lease, ttl_secs) => {
                if self.lease(lease, round).is_some() {
                    return Err(SystemFailure::LeaseExists);
                }
                round.leases.insert(lease, Some(LeaseRecord { ttl_secs, revoking: false }));
            }
            SystemChange::LeaseRevoking(lease) => match self.lease(lease, round) {
                None => return Err(SystemFailure::LeaseNotFound),
                Some(record) if record.revoking => return Ok(()),
                Some(record) => {
                    round.leases.insert(lease, Some(LeaseRecord { revoking: true, ..record }));
                }
            },
            SystemChange::LeaseRevoked(lease) => {
                if self.lease(lease, round).is_none() {
                    return Err(SystemFailure::LeaseNotFound);
                }
                round.leases.insert(lease, None);
            }
            SystemChange::Compacted(revision) => {
                let compacted = round.compacted.or_else(|| self.state.compacted.get());
                if let Some(compacted) = compacted.filter(|&compacted| revision <= compacted) {
                    return Err(SystemFailure::Compacted(compacted));
                }
                if revision > *self.published.borrow() {
                    return Err(SystemFailure::FutureRevision);
                }
                round.compacted = Some(revision);
            }
            SystemChange::AlarmRaised(alarm) | SystemChange::AlarmCleared(alarm) => {
                let raise = change == SystemChange::AlarmRaised(alarm);
                let raised = round.alarms.get(&alarm).copied();
                if raised.unwrap_or_else(|| self.state.tables.read().alarms.contains(&alarm)) == raise {
                    return Ok(());
                }
                round.alarms.insert(alarm, raise);
            }
        }
        round.changes.push(change);
        Ok(())
    }

    fn lease(&self, lease: LeaseId, round: &Round) -> Option<LeaseRecord> {
        match round.leases.get(&lease) {
            Some(pending) => *pending,
            None => self.state.tables.read().leases.get(&lease).copied(),
        }
    }

    /// Writes the round's changes as one record, which proves that nobody has taken over and extends the lease. An
    /// answer without a change needs that proof as well.
    async fn append(&mut self, round: &Round) -> Result<(), AppendError> {
        if round.changes.is_empty() && !round.beat {
            let confirmed = self.leadership.confirm().await;
            return confirmed.map_err(|error| AppendError::Refused(error.to_string()));
        }
        // Without the time the record is as good; the lease just does not get longer.
        let begun = self.leadership.begin_record().await.unwrap_or(None);
        let class = if round.grants() { BatchClass::Normal } else { BatchClass::Reclaim };
        let body = Body::System(round.changes.clone());
        let space = &self.space;
        let slot = self.log.append(Revision::FIRST, body, class, || writes_of(round, space)).await?;
        self.leadership.extend(begun).await;
        self.trail.push(slot, Holds::Changes);
        Ok(())
    }

    /// Lets old slots go. What the engine does not take is tried again after the next change.
    async fn trim(&mut self) {
        let Some(Trim { through, slots }) = self.trail.trim() else { return };
        let system = PartitionId::SYSTEM;
        let reclaimed = Reclaimed { changes_through: through, trimmed_through: through };
        let mut writes = vec![Write::Put(
            self.space.reclaimed_key(system),
            self.space.encode_reclaimed(system, reclaimed),
        )];
        writes.extend(slots.into_iter().map(|slot| Write::Delete(self.space.log_key(system, slot))));
        if self.log.housekeeping(writes).await {
            self.trail.trimmed(through);
        }
    }

    fn settle(&self, round: Round, outcome: Result<(), AppendError>) -> Result<(), Failure> {
        let (failure, lost) = match outcome {
            Ok(()) => {
                if !round.changes.is_empty() {
                    self.state.apply(&round.changes);
                }
                for (_, answer, outcome) in round.answers {
                    let _ = answer.send(outcome);
                }
                return Ok(());
            }
            Err(AppendError::NoSpace(reason)) => (SystemFailure::NoSpace(reason), None),
            Err(AppendError::Refused(reason)) => (SystemFailure::Unavailable(reason), None),
            Err(AppendError::Deposed(reason) | AppendError::Closed(reason)) => {
                (SystemFailure::Unavailable(reason.clone()), Some(reason))
            }
            Err(AppendError::Unknown(reason)) => (SystemFailure::Undetermined(reason.clone()), Some(reason)),
        };
        for (_, answer, _) in round.answers {
            let _ = answer.send(Err(failure.clone()));
        }
        lost.map_or(Ok(()), |reason| Err(Failure { task: "system sequencer", reason }))
    }
}

/// The records of the tables that the changes touch: one for each key, as it is after all of them.
fn writes_of(round: &Round, space: &KeySpace) -> Vec<Write> {
    let mut writes = Vec::new();
    for (&lease, record) in &round.leases {
        let key = space.lease_key(lease);
        writes.push(match record {
            Some(record) => Write::Put(key.clone(), space.encode_lease(&key, *record)),
            None => Write::Delete(key),
        });
    }
    if let Some(compacted) = round.compacted {
        writes.push(Write::Put(space.compacted_key(), space.encode_compacted(compacted)));
    }
    for (&alarm, &raised) in &round.alarms {
        let key = space.alarm_key(alarm);
        writes.push(match raised {
            true => Write::Put(key.clone(), space.encode_alarm(&key)),
            false => Write::Delete(key),
        });
    }
    writes
}
