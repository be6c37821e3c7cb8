//! Giving back what compaction has freed: background work that follows the log, so that it costs what was changed,
//! not what is stored.
//!
//! Each change below the compacted revision names the version that it replaced: that version's object goes, and the
//! tombstone of a deletion with it, in one batch. A change at the compacted revision itself keeps both, because a
//! watcher that was there before may still have to be told of it, with the previous value. Then the slots go, except those that are kept for
//! ever: whoever slept through it all must meet a taken slot (`docs/invariants.md`).

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Failure, PlantedBug, is_planted};
use engine::{Batch, BatchClass, CommitError, Direction, KeySpan, Scan};
use layout::log::{Body, LogRecord, PartitionId, Slot};
use layout::meta::Reclaimed;
use model::{ChangeKind, Revision};
use tokio::sync::watch;
use tracing::{debug, warn};

use crate::error::ReadFailure;
use crate::state::Shared;

/// One step deletes about this many records, in one engine batch beside the clients' batches.
const DELETES_PER_STEP_MAX: usize = 1024;
/// And reads at most this many slots for that.
const SLOTS_PER_STEP_MAX: usize = 256;
/// And about this many bytes of them; a slot and the one behind it at least.
const LOG_BYTES_PER_STEP_MAX: usize = 4 << 20;
/// How long to wait after the engine refused a step.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How far a compaction has been carried out: everything that the compacted revision named here has freed is gone,
/// but for what readers held.
pub(crate) type Done = watch::Sender<Option<Revision>>;

pub(crate) struct Reclaimer {
    shared: Arc<Shared>,
    partition: PartitionId,
    clock: Arc<dyn Clock>,
    reclaimed: Reclaimed,
    done: Arc<Done>,
}

/// What one step does.
#[derive(Default)]
struct Step {
    deletes: Vec<bytes::Bytes>,
    /// Everything in this slot and those before it is dealt with.
    changes_through: Option<Slot>,
    /// More can be done right away.
    more: bool,
}

impl Reclaimer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        clock: Arc<dyn Clock>,
        (partition, reclaimed): (PartitionId, Reclaimed),
        done: Arc<Done>,
    ) -> Reclaimer {
        Reclaimer { shared, partition, clock, reclaimed, done }
    }

    /// Reclaims whenever the compacted revision has moved, until `compactions` closes.
    pub(crate) async fn run(
        mut self,
        mut compactions: watch::Receiver<Option<Revision>>,
    ) -> Result<(), Failure> {
        loop {
            let compacted = *compactions.borrow_and_update();
            if let Some(compacted) = compacted {
                self.reclaim(compacted).await?;
                self.done.send_replace(Some(compacted));
            }
            if compactions.changed().await.is_err() {
                return Ok(());
            }
        }
    }

    /// Carries a compaction out as far as readers allow.
    async fn reclaim(&mut self, compacted: Revision) -> Result<(), Failure> {
        loop {
            match self.step(compacted).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                // An engine that has closed itself serves nobody any more, and the process must not go on as if.
                Err(ReadFailure::Closed(reason)) => return Err(Failure { task: "reclaim", reason }),
                Err(error) => {
                    warn!(partition = self.partition.0, error = %error, "reclaiming is held up");
                    self.clock.sleep_until(self.clock.now() + RETRY_AFTER).await;
                }
            }
        }
    }

    async fn step(&mut self, compacted: Revision) -> Result<bool, ReadFailure> {
        // The compacted revision was moved before the pins are looked at: see `Pins`.
        let horizon = self.shared.pins.lowest().map_or(compacted, |pinned| pinned.next().min(compacted));
        let step = self.plan(horizon).await?;
        let Some(changes_through) = step.changes_through else { return Ok(false) };
        let reclaimed = Reclaimed { changes_through, trimmed_through: changes_through };
        let id = self.partition;
        let mut batch =
            Batch { writes: Vec::with_capacity(step.deletes.len() + 1), class: BatchClass::Reclaim };
        let space = &self.shared.space;
        batch.put(space.reclaimed_key(id), space.encode_reclaimed(id, reclaimed));
        for key in step.deletes {
            batch.delete(key);
        }
        debug!(
            partition = id.0,
            slot = reclaimed.changes_through.0,
            records = batch.writes.len(),
            "reclaiming"
        );
        match self.shared.engine.commit(batch).await {
            Ok(()) => {
                self.reclaimed = reclaimed;
                Ok(step.more)
            }
            // The same step may be done again: what it deletes never comes back to life.
            Err(CommitError::Closed(reason)) => Err(ReadFailure::Closed(reason)),
            Err(error) => Err(ReadFailure::Unavailable(error.to_string())),
        }
    }

    /// What the next step deletes: in order, slot by slot, stopping at the first change that is not below
    /// `horizon`.
    async fn plan(&self, horizon: Revision) -> Result<Step, ReadFailure> {
        let (records, more) = self.slots().await?;
        let mut step = Step { more, ..Step::default() };
        // The newest slot of the page stays: it may be the newest of the log, or lie right before a takeover.
        let mut next_bodies = records.iter().skip(1).map(|(_, next)| &next.body);
        for (slot, record) in &records {
            if step.deletes.len() >= DELETES_PER_STEP_MAX {
                step.more = true;
                break;
            }
            let spared = if is_planted(PlantedBug::ReclaimsTooMuch) { horizon.next() } else { horizon };
            if record.revision >= spared {
                step.more = false;
                break;
            }
            let Some(next_body) = next_bodies.next() else { break };
            self.plan_slot(*slot, record, next_body, &mut step);
        }
        Ok(step)
    }

    /// The next slots, and whether there are more behind them.
    async fn slots(&self) -> Result<(Vec<(Slot, LogRecord)>, bool), ReadFailure> {
        let space = &self.shared.space;
        let span = space.log_span(self.partition, self.reclaimed.changes_through.next());
        let mut rest = Some(KeySpan { start: span.start, end: Some(span.end) });
        let snapshot = self.shared.engine.snapshot().await?;
        let mut slots = Vec::new();
        // A slot can be dealt with only together with the one behind it.
        while slots.len() < 2
            && let Some(span) = rest
        {
            let scan = Scan {
                span,
                direction: Direction::Forward,
                records_max: SLOTS_PER_STEP_MAX,
                bytes_max: LOG_BYTES_PER_STEP_MAX,
                values: true,
            };
            let page = snapshot.scan(&scan).await?;
            for (key, value) in page.records {
                let (_, slot) = space.decode_log_key(&key)?;
                slots.push((slot, space.decode_log(&key, &value)?));
            }
            rest = page.next;
        }
        Ok((slots, rest.is_some()))
    }

    fn plan_slot(&self, slot: Slot, record: &LogRecord, next_body: &Body, step: &mut Step) {
        let space = &self.shared.space;
        if let Body::Changes(changes) = &record.body {
            for change in changes {
                let key = change.key.as_slice();
                if !change.previous.is_none() {
                    step.deletes.push(space.object_key(key, change.previous));
                }
                if change.kind == ChangeKind::Delete {
                    step.deletes.push(space.object_key(key, change.revision));
                }
            }
        }
        step.changes_through = Some(slot);
        // A filler stays too: behind it, the batch whose place it took may still be on its way.
        let stays = matches!(record.body, Body::Takeover | Body::Filler) || *next_body == Body::Takeover;
        if !stays {
            step.deletes.push(space.log_key(self.partition, slot));
        }
    }
}
