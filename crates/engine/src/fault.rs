//! An engine around an engine that fails on purpose: on order, or at random from a seed.
//!
//! It never lies: whatever it answers is what the contract allows for what really happened underneath. It
//! takes no time of its own; latency goes through a delay function that the caller gives.

mod hold;
mod plan;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

pub use self::hold::Hold;
use self::hold::{Gate, HoldPoint};
use self::plan::Plan;
pub use self::plan::{CommitFault, FaultCounts, FaultRates, ReadFault};
use crate::{Batch, CommitError, Engine, KeySpan, ReadError, Scan, ScanPage, Snapshot, Usage};

/// Batches that wait to be applied late; one more pushes the oldest into the engine.
const LATE_MAX: usize = 64;

/// How injected latency passes: a real or simulated sleep.
pub type Delay = Arc<dyn Fn(Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Wraps an engine and injects faults into its calls.
///
/// What a call meets is decided when the call begins: the next entry of the script if there is one, else by
/// the rates and the seed, else nothing. The same calls in the same order with the same seed meet the same
/// faults.
pub struct FaultEngine {
    inner: Arc<dyn Engine>,
    shared: Arc<Shared>,
}

struct Shared {
    plan: Mutex<Plan>,
    holds: Mutex<VecDeque<Arc<Gate>>>,
    late: Mutex<VecDeque<Late>>,
    delay: Option<Delay>,
}

/// A batch whose outcome was reported as unknown and that is yet to be applied.
struct Late {
    batch: Batch,
    /// Commits and snapshots that begin before it is applied; `None`: only on request.
    calls_left: Option<usize>,
}

impl FaultEngine {
    /// `inner` with no fault so far. Injected latency only lets other tasks run first.
    pub fn new(inner: Arc<dyn Engine>) -> FaultEngine {
        FaultEngine::build(inner, None)
    }

    /// As [`FaultEngine::new`]; injected latency passes through `delay`.
    pub fn with_delay(inner: Arc<dyn Engine>, delay: Delay) -> FaultEngine {
        FaultEngine::build(inner, Some(delay))
    }

    fn build(inner: Arc<dyn Engine>, delay: Option<Delay>) -> FaultEngine {
        let shared = Shared {
            plan: Mutex::new(Plan::default()),
            holds: Mutex::new(VecDeque::new()),
            late: Mutex::new(VecDeque::new()),
            delay,
        };
        FaultEngine { inner, shared: Arc::new(shared) }
    }

    /// Appends to the script of commits: each entry is what one further commit meets.
    pub fn script_commits(&self, faults: impl IntoIterator<Item = CommitFault>) {
        self.shared.plan.lock().script_commits(faults);
    }

    /// Appends to the script of reads: each entry is what one further read meets. Opening a snapshot, each
    /// read on it, and asking for split points are one read each.
    pub fn script_reads(&self, faults: impl IntoIterator<Item = ReadFault>) {
        self.shared.plan.lock().script_reads(faults);
    }

    /// From now on, calls without a script meet faults at these rates, chosen by `seed`.
    pub fn inject(&self, rates: FaultRates, seed: u64) {
        self.shared.plan.lock().inject(rates, seed);
    }

    /// Ends all faults: drops the script and the rates. Batches that are still to be applied late stay so.
    pub fn heal(&self) {
        self.shared.plan.lock().heal();
    }

    /// How many faults of each kind calls have met so far.
    pub fn counts(&self) -> FaultCounts {
        self.shared.plan.lock().counts()
    }

    /// Holds the next commit that no other hold waits for, before it does anything, until it is released.
    pub fn hold_next_commit(&self) -> Hold {
        self.hold(HoldPoint::BeforeApply)
    }

    /// Holds the next commit that no other hold waits for after it had its effect, before its caller learns
    /// of it.
    pub fn hold_next_answer(&self) -> Hold {
        self.hold(HoldPoint::BeforeAnswer)
    }

    fn hold(&self, point: HoldPoint) -> Hold {
        let gate = Arc::new(Gate::new(point));
        self.shared.holds.lock().push_back(Arc::clone(&gate));
        Hold::new(gate)
    }

    /// Applies every batch that is to be applied late, oldest first, and says how many there were.
    pub async fn apply_late(&self) -> usize {
        let late = std::mem::take(&mut *self.shared.late.lock());
        let count = late.len();
        self.apply_each(late).await;
        count
    }

    async fn apply_due_late(&self) {
        let due = {
            let mut late = self.shared.late.lock();
            for one in late.iter_mut() {
                one.calls_left = one.calls_left.map(|left| left.saturating_sub(1));
            }
            let (due, kept): (VecDeque<Late>, VecDeque<Late>) =
                late.drain(..).partition(|one| one.calls_left == Some(0));
            *late = kept;
            due
        };
        self.apply_each(due).await;
    }

    async fn apply_each(&self, late: VecDeque<Late>) {
        for one in late {
            // Its caller was told that the outcome is unknown, so no outcome contradicts the answer.
            let _ = self.inner.commit(one.batch).await;
        }
    }

    async fn keep_for_later(&self, batch: Batch, calls_left: Option<usize>) {
        let pushed_out = {
            let mut late = self.shared.late.lock();
            late.push_back(Late { batch, calls_left });
            if late.len() > LATE_MAX { late.pop_front() } else { None }
        };
        self.apply_each(pushed_out.into_iter().collect()).await;
    }

    async fn commit_with(&self, batch: Batch, fault: CommitFault) -> Result<(), CommitError> {
        match fault {
            CommitFault::Pass => self.inner.commit(batch).await,
            CommitFault::Delay(length) => {
                self.shared.pass_time(length).await;
                self.inner.commit(batch).await
            }
            CommitFault::Refused => Err(CommitError::Unavailable("injected fault".into())),
            CommitFault::NoSpace => Err(CommitError::NoSpace("injected fault".into())),
            CommitFault::UndeterminedApplied => {
                let _ = self.inner.commit(batch).await;
                Err(lost_answer())
            }
            CommitFault::UndeterminedNotApplied => Err(lost_answer()),
            CommitFault::UndeterminedAppliedLater { calls } => {
                self.keep_for_later(batch, calls).await;
                Err(lost_answer())
            }
        }
    }
}

/// The same text for all, so that nobody can tell from it what really happened.
fn lost_answer() -> CommitError {
    CommitError::Undetermined("injected fault: the answer was lost".into())
}

impl Shared {
    async fn pass_time(&self, length: Duration) {
        match &self.delay {
            Some(delay) => delay(length).await,
            None => tokio::task::yield_now().await,
        }
    }

    async fn meet_read_fault(&self) -> Result<(), ReadError> {
        let fault = self.plan.lock().next_read();
        match fault {
            ReadFault::Pass => Ok(()),
            ReadFault::Delay(length) => {
                self.pass_time(length).await;
                Ok(())
            }
            ReadFault::Unavailable => Err(ReadError::Unavailable("injected fault".into())),
            ReadFault::Corrupt => Err(ReadError::Corrupt("injected fault".into())),
        }
    }
}

#[async_trait]
impl Engine for FaultEngine {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        self.apply_due_late().await;
        self.shared.meet_read_fault().await?;
        let inner = self.inner.snapshot().await?;
        Ok(Box::new(FaultSnapshot { inner, shared: Arc::clone(&self.shared) }))
    }

    async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        let fault = self.shared.plan.lock().next_commit();
        let gate = self.shared.holds.lock().pop_front();
        self.apply_due_late().await;
        if let Some(gate) = &gate {
            gate.pass(HoldPoint::BeforeApply).await;
        }
        let answer = self.commit_with(batch, fault).await;
        if let Some(gate) = &gate {
            gate.pass(HoldPoint::BeforeAnswer).await;
        }
        answer
    }

    async fn split_points(&self, range: KeySpan, pieces: usize) -> Result<Vec<Bytes>, ReadError> {
        self.shared.meet_read_fault().await?;
        self.inner.split_points(range, pieces).await
    }

    async fn settle(&self, spans: &[KeySpan]) -> Result<(), ReadError> {
        self.shared.meet_read_fault().await?;
        self.inner.settle(spans).await
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    async fn reclaim(&self) -> Result<(), ReadError> {
        self.inner.reclaim().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

struct FaultSnapshot {
    inner: Box<dyn Snapshot>,
    shared: Arc<Shared>,
}

#[async_trait]
impl Snapshot for FaultSnapshot {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.shared.meet_read_fault().await?;
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, ReadError> {
        self.shared.meet_read_fault().await?;
        self.inner.get_many(keys).await
    }

    async fn scan(&self, scan: &Scan) -> Result<ScanPage, ReadError> {
        self.shared.meet_read_fault().await?;
        self.inner.scan(scan).await
    }
}
