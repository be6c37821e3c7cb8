//! The writer thread: takes what waits, checks it, appends it to the log, makes it durable with one fsync,
//! applies it to the index, and answers. While it waits for the disk, the next group gathers.

mod stage;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::CommitError;
use parking_lot::{RwLockWriteGuard, lock_api};
use tracing::{error, warn};

use crate::index::Entry;
use crate::log::{Failure, Log};
use crate::queue::{Answer, Commit, Request, Taken};
use crate::shared::{Counters, FORGET_STEP, Shared};
use crate::state::{APPLY_STEP, Change, Move, State};
use stage::Purpose;

/// How long nothing must have come before the last batch is marked as durable.
const IDLE: Duration = Duration::from_millis(200);

/// Steps of forgetting between two groups.
const FORGET_STEPS_MAX: usize = 16;

/// What is staged and waits to be durable.
enum Pending {
    Commit {
        commit: Commit,
        seq: u64,
        changes: Vec<Change>,
    },
    /// A batch that failed its check, perhaps because of one staged before it.
    Conflict {
        commit: Commit,
        key: Bytes,
    },
    Relocation {
        answer: Answer<()>,
        seq: u64,
        from: u32,
        moves: Vec<Move>,
        deletions: Vec<Change>,
    },
    Retirement {
        answer: Answer<()>,
        seq: u64,
        segment: u32,
    },
}

/// The writer thread's own state.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    log: Log,
    pending: Vec<Pending>,
    /// What the staged batches make of the keys they touch: the new entry, or `None` for a deletion.
    overlay: HashMap<Bytes, Option<Entry>>,
    /// Why the log must not be written to any more.
    broken: Option<String>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, log: Log) -> Writer {
        Writer { shared, log, pending: Vec::new(), overlay: HashMap::new(), broken: None }
    }

    /// Works until the engine is closed or breaks.
    pub(crate) fn run(mut self) {
        loop {
            let idle = (!self.log.active.marked).then_some(IDLE);
            match self.shared.queue.take(idle) {
                Taken::Idle => {
                    if let Err(failure) = self.log.mark() {
                        self.after(failure);
                    }
                }
                Taken::Group(group) => {
                    if self.group(group) {
                        break;
                    }
                }
            }
            if self.broken.is_some() {
                break;
            }
            self.forget();
        }
        self.end();
    }

    /// Commits a group. Whether the engine is to end.
    fn group(&mut self, group: Vec<Request>) -> bool {
        let begun = self.shared.config.clock.now();
        let mut later = Vec::new();
        let mut records = 0;
        let mut close = false;
        for request in group {
            match request {
                Request::Commit(commit) => {
                    records += commit.batch.writes.len() as u64;
                    self.stage_commit(commit);
                }
                Request::Forget => {}
                Request::Close => close = true,
                // After the batches, so that a copy never comes between a batch and its check.
                other => later.push(other),
            }
        }
        for request in later {
            match request {
                Request::Relocate { segment, records, answer } => {
                    self.stage_relocation(segment, records, answer);
                }
                Request::Retire { segment, answer } => self.stage_retirement(segment, answer),
                Request::Roll { answer } => {
                    let rolled = self.roll(0, Purpose::Copy);
                    let _ = answer.send(rolled);
                }
                Request::Commit(_) | Request::Forget | Request::Close => {}
            }
        }
        let bytes = self.log.staged() as u64;
        // Whoever was staged is told of a failure.
        let _ = self.finish(false);
        if let Some(observer) = &self.shared.config.observer
            && records > 0
        {
            observer.commit(records, bytes, self.shared.config.clock.now().saturating_sub(begun));
        }
        close
    }

    /// Makes what is staged durable (with a footer behind it, if asked for), applies it and answers. After
    /// an error, too, everyone who was staged was told.
    fn finish(&mut self, footer: bool) -> Result<(), CommitError> {
        if footer {
            self.log.stage_footer();
        }
        let pending = std::mem::take(&mut self.pending);
        self.overlay.clear();
        let bytes = self.log.staged() as u64;
        let mut flushed = Ok(());
        if bytes > 0 {
            flushed = self.log.flush().map(|took| self.count_fsync(bytes, took));
        }
        match flushed {
            Ok(()) => {
                if footer {
                    self.log.seal();
                }
                self.apply(&pending);
                pending.into_iter().for_each(Pending::succeed);
                Ok(())
            }
            Err(failure) => {
                let error = self.after(failure);
                pending.into_iter().for_each(|pending| pending.fail(&error));
                Err(error)
            }
        }
    }

    /// What a failure means for the engine, and for what was staged.
    fn after(&mut self, failure: Failure) -> CommitError {
        match failure {
            Failure::Refused(refusal) => {
                warn!(error = %refusal, "a write to the log was refused and taken back");
                refusal
            }
            Failure::Broken(reason) => {
                error!(error = reason, "the engine closes itself: its log may be damaged");
                let closed = format!("it closed itself after a failure: {reason}; restart the process");
                self.shared.poison(&closed);
                self.broken = Some(closed);
                CommitError::Undetermined(reason)
            }
        }
    }

    fn count_fsync(&self, bytes: u64, took: Duration) {
        let counters = &self.shared.counters;
        Counters::add(&counters.fsyncs, 1);
        Counters::add(&counters.groups, 1);
        Counters::add(&counters.log_bytes, bytes);
        Counters::add(&counters.fsync_nanos, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        if let Some(observer) = &self.shared.config.observer {
            observer.fsync(took);
        }
    }

    /// Shows what is durable.
    fn apply(&self, pending: &[Pending]) {
        let mut state = self.shared.state.write();
        for pending in pending {
            match pending {
                Pending::Commit { seq, changes, .. } => {
                    let in_steps = changes.len() > APPLY_STEP;
                    for (number, change) in changes.iter().enumerate() {
                        state.apply(*seq, change, in_steps);
                        if in_steps && number % APPLY_STEP == APPLY_STEP - 1 {
                            bump(&mut state);
                        }
                    }
                    if !changes.is_empty() {
                        state.applied = *seq;
                    }
                    Counters::add(&self.shared.counters.batches, 1);
                }
                Pending::Relocation { moves, deletions, .. } if moves.is_empty() && deletions.is_empty() => {}
                Pending::Relocation { seq, from, moves, deletions, .. } => {
                    state.partly_copied.insert(*from);
                    moves.iter().for_each(|moved| state.relocate(moved));
                    deletions.iter().for_each(|change| state.count_deletion(change));
                    state.applied = *seq;
                }
                Pending::Retirement { seq, segment, .. } => {
                    state.applied = *seq;
                    state.retire(*segment, *seq);
                }
                Pending::Conflict { .. } => {}
            }
            bump(&mut state);
        }
        // Marks and footers count as well: the file is as long as what was written to it.
        let active = &self.log.active;
        state.grow_segment(active.header.segment, active.end, active.sealed);
        state.room = self.log.room();
        let wants = state.wants_reclaim(self.shared.config.segment_bytes);
        drop(state);
        if wants {
            self.shared.signals.check();
        }
        let has_spare = self.shared.spare.try_lock().is_none_or(|spare| spare.is_some());
        if active.end > active.capacity / 2 && !has_spare {
            self.shared.signals.prepare_spare();
        }
    }

    /// Forgets versions that no snapshot needs, a bounded number at a time so that no batch waits for it.
    fn forget(&self) {
        for _ in 0..FORGET_STEPS_MAX {
            if !self.shared.state.write().forget(FORGET_STEP) {
                return;
            }
        }
        let _ = self.shared.queue.push(Request::Forget);
    }

    /// Ends: what still waits is refused, and what is in the log is durable.
    fn end(&mut self) {
        if self.broken.is_none() {
            let marked = self.log.mark().and_then(|()| self.log.flush().map(|_| ()));
            if let Err(failure) = marked {
                self.after(failure);
            }
        }
        let reason = self.shared.queue.closed().unwrap_or_else(|| "the writer ended".to_owned());
        self.shared.poison(&reason);
        for request in self.shared.queue.drain() {
            let closed = Err(CommitError::Closed(reason.clone()));
            match request {
                Request::Commit(commit) => drop(commit.answer.send(closed)),
                Request::Relocate { answer, .. }
                | Request::Retire { answer, .. }
                | Request::Roll { answer } => drop(answer.send(closed)),
                Request::Forget | Request::Close => {}
            }
        }
    }
}

impl Pending {
    fn succeed(self) {
        // Nobody may be waiting any more: a dropped commit is applied all the same.
        match self {
            Pending::Commit { commit, .. } => drop(commit.answer.send(Ok(()))),
            Pending::Conflict { commit, key } => {
                drop(commit.answer.send(Err(CommitError::Conflict { key })));
            }
            Pending::Relocation { answer, .. } | Pending::Retirement { answer, .. } => {
                drop(answer.send(Ok(())));
            }
        }
    }

    fn fail(self, error: &CommitError) {
        match self {
            Pending::Commit { commit, .. } => drop(commit.answer.send(Err(error.clone()))),
            // The batch that it conflicts with may not exist after all, but this one was never written.
            Pending::Conflict { commit, .. } => {
                let error = match error {
                    CommitError::Undetermined(reason) => CommitError::Closed(reason.clone()),
                    other => other.clone(),
                };
                drop(commit.answer.send(Err(error)));
            }
            Pending::Relocation { answer, .. } | Pending::Retirement { answer, .. } => {
                drop(answer.send(Err(error.clone())));
            }
        }
    }
}

/// Lets those who wait for the lock have it for a moment.
fn bump(state: &mut RwLockWriteGuard<'_, State>) {
    lock_api::RwLockWriteGuard::bump(state);
}
