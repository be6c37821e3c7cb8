//! What every engine is asked, and how long it takes: measured from outside, so that it means the same for each.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::Clock;
use bytes::Bytes;
use engine::{Batch, CommitError, Engine, KeySpan, ReadError, Scan, ScanPage, Snapshot, Usage, Write};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Histogram;

type Label = [(&'static str, &'static str); 1];

/// What is counted of the engine.
#[derive(Debug)]
pub(crate) struct EngineMetrics {
    commits: Commits,
    commit_secs: Histogram,
    commit_records: Histogram,
    commit_bytes: Histogram,
    snapshot_secs: Histogram,
    get_secs: Histogram,
    get_many_secs: Histogram,
    scan_secs: Histogram,
    unavailable: Counter,
    corrupt: Counter,
    closed: Counter,
    open_snapshots: Gauge,
}

#[derive(Debug)]
struct Commits {
    committed: Counter,
    conflict: Counter,
    unavailable: Counter,
    no_space: Counter,
    undetermined: Counter,
    closed: Counter,
}

impl EngineMetrics {
    pub(super) fn new(registry: &mut Registry) -> EngineMetrics {
        let commits = Family::<Label, Counter>::default();
        let help =
            "Batches that the engine was given, by what became of them; undetermined: it may have happened";
        registry.register("orlop_engine_commits", help, commits.clone());
        let failed = Family::<Label, Counter>::default();
        registry.register("orlop_engine_reads_failed", "Reads that gave no answer, by why", failed.clone());
        // 0.1 ms, what memory takes, to 13 s.
        let secs = || Histogram::of_durations(Duration::from_micros(100), 18);
        let reads = Family::<Label, Histogram>::new_with_constructor(secs);
        let help =
            "How long a read in a snapshot takes, by what is asked: a record, several, a step of a scan";
        registry.register("orlop_engine_read_duration_seconds", help, reads.clone());
        let of_outcome = |outcome| commits.get_or_create_owned(&[("outcome", outcome)]);
        let of_reason = |reason| failed.get_or_create_owned(&[("reason", reason)]);
        let of_call = |call| reads.get_or_create_owned(&[("call", call)]);
        let metrics = EngineMetrics {
            commits: Commits {
                committed: of_outcome("committed"),
                conflict: of_outcome("conflict"),
                unavailable: of_outcome("unavailable"),
                no_space: of_outcome("no_space"),
                undetermined: of_outcome("undetermined"),
                closed: of_outcome("closed"),
            },
            commit_secs: secs(),
            commit_records: Histogram::of_numbers(1, 4, 8),
            commit_bytes: Histogram::of_numbers(256, 4, 9),
            snapshot_secs: secs(),
            get_secs: of_call("get"),
            get_many_secs: of_call("get_many"),
            scan_secs: of_call("scan"),
            unavailable: of_reason("unavailable"),
            corrupt: of_reason("corrupt"),
            closed: of_reason("closed"),
            open_snapshots: Gauge::default(),
        };
        for (name, help, histogram) in [
            ("commit_duration_seconds", "How long the engine takes to commit a batch", &metrics.commit_secs),
            ("commit_records", "Records in a batch that the engine was given", &metrics.commit_records),
            (
                "commit_bytes",
                "Bytes of keys and values in a batch that the engine was given",
                &metrics.commit_bytes,
            ),
            (
                "snapshot_duration_seconds",
                "How long the engine takes to open a snapshot",
                &metrics.snapshot_secs,
            ),
        ] {
            registry.register(format!("orlop_engine_{name}"), help, histogram.clone());
        }
        let help = "Snapshots of the engine that are open";
        registry.register("etcd_mvcc_db_open_read_transactions", help, metrics.open_snapshots.clone());
        metrics
    }

    fn committed(&self, outcome: &Result<(), CommitError>) {
        let Commits { committed, conflict, unavailable, no_space, undetermined, closed } = &self.commits;
        let counter = match outcome {
            Ok(()) => committed,
            Err(CommitError::Conflict { .. }) => conflict,
            Err(CommitError::Unavailable(_)) => unavailable,
            Err(CommitError::NoSpace(_)) => no_space,
            Err(CommitError::Undetermined(_)) => undetermined,
            Err(CommitError::Closed(_)) => closed,
        };
        counter.inc();
    }

    fn read<T>(&self, outcome: &Result<T, ReadError>) {
        match outcome {
            Ok(_) => {}
            Err(ReadError::Unavailable(_)) => drop(self.unavailable.inc()),
            Err(ReadError::Corrupt(_)) => drop(self.corrupt.inc()),
            Err(ReadError::Closed(_)) => drop(self.closed.inc()),
        }
    }
}

/// An engine of which the calls are counted. A call costs one allocation more than without.
pub(super) struct MeasuredEngine {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) metrics: Arc<EngineMetrics>,
    pub(super) clock: Arc<dyn Clock>,
}

struct MeasuredSnapshot {
    snapshot: Box<dyn Snapshot>,
    metrics: Arc<EngineMetrics>,
    clock: Arc<dyn Clock>,
}

/// Does `work`, and says how long it took; a read that failed counts as one, too.
async fn timed<T>(
    (metrics, clock): (&EngineMetrics, &dyn Clock),
    histogram: &Histogram,
    work: impl Future<Output = Result<T, ReadError>>,
) -> Result<T, ReadError> {
    let begun = clock.now();
    let done = work.await;
    histogram.observe(clock.now().saturating_sub(begun));
    metrics.read(&done);
    done
}

#[async_trait]
impl Engine for MeasuredEngine {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        let MeasuredEngine { engine, metrics, clock } = self;
        let opened = timed((metrics, clock.as_ref()), &metrics.snapshot_secs, engine.snapshot()).await;
        opened.map(|snapshot| -> Box<dyn Snapshot> {
            metrics.open_snapshots.inc();
            Box::new(MeasuredSnapshot { snapshot, metrics: metrics.clone(), clock: clock.clone() })
        })
    }

    async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        let MeasuredEngine { engine, metrics, clock } = self;
        metrics.commit_records.count(batch.writes.len() as u64);
        metrics.commit_bytes.count(batch.writes.iter().map(bytes_of).sum());
        let begun = clock.now();
        let outcome = engine.commit(batch).await;
        metrics.commit_secs.observe(clock.now().saturating_sub(begun));
        metrics.committed(&outcome);
        outcome
    }

    async fn split_points(&self, range: KeySpan, pieces: usize) -> Result<Vec<Bytes>, ReadError> {
        self.engine.split_points(range, pieces).await
    }

    async fn time(&self) -> Result<Duration, ReadError> {
        self.engine.time().await
    }

    async fn settle(&self, spans: &[KeySpan]) -> Result<(), ReadError> {
        self.engine.settle(spans).await
    }

    fn usage(&self) -> Usage {
        self.engine.usage()
    }

    async fn reclaim(&self) -> Result<(), ReadError> {
        self.engine.reclaim().await
    }

    async fn close(&self) {
        self.engine.close().await;
    }
}

fn bytes_of(write: &Write) -> u64 {
    let value_len = match write {
        Write::Put(_, value) | Write::Insert(_, value) => value.len(),
        Write::Delete(_) => 0,
    };
    (write.key().len() + value_len) as u64
}

#[async_trait]
impl Snapshot for MeasuredSnapshot {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let MeasuredSnapshot { snapshot, metrics, clock } = self;
        timed((metrics, clock.as_ref()), &metrics.get_secs, snapshot.get(key)).await
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, ReadError> {
        let MeasuredSnapshot { snapshot, metrics, clock } = self;
        timed((metrics, clock.as_ref()), &metrics.get_many_secs, snapshot.get_many(keys)).await
    }

    async fn scan(&self, scan: &Scan) -> Result<ScanPage, ReadError> {
        let MeasuredSnapshot { snapshot, metrics, clock } = self;
        timed((metrics, clock.as_ref()), &metrics.scan_secs, snapshot.scan(scan)).await
    }
}

impl Drop for MeasuredSnapshot {
    fn drop(&mut self) {
        self.metrics.open_snapshots.dec();
    }
}

#[cfg(test)]
mod tests {
    use base::ManualClock;
    use engine::MemoryEngine;
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[tokio::test]
    async fn what_became_of_batches_and_reads_is_counted() {
        let mut registry = Registry::default();
        let metrics = Arc::new(EngineMetrics::new(&mut registry));
        let clock = Arc::new(ManualClock::default());
        let engine = MeasuredEngine { engine: Arc::new(MemoryEngine::new()), metrics, clock };
        let insert = || {
            let mut batch = Batch::new();
            batch.insert("slot", "0123456789");
            batch
        };
        engine.commit(insert()).await.unwrap();
        engine.commit(insert()).await.unwrap_err();
        let snapshot = engine.snapshot().await.unwrap();
        assert!(snapshot.get(b"slot").await.unwrap().is_some());
        let shown = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        let text = shown();
        for line in [
            "orlop_engine_commits_total{outcome=\"committed\"} 1",
            "orlop_engine_commits_total{outcome=\"conflict\"} 1",
            "orlop_engine_commits_total{outcome=\"undetermined\"} 0",
            "orlop_engine_commit_duration_seconds_count 2",
            "orlop_engine_commit_records_sum 2.0",
            "orlop_engine_commit_bytes_sum 28.0",
            "orlop_engine_read_duration_seconds_count{call=\"get\"} 1",
            "etcd_mvcc_db_open_read_transactions 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
        drop(snapshot);
        engine.close().await;
        assert!(engine.snapshot().await.is_err());
        let text = shown();
        for line in
            ["etcd_mvcc_db_open_read_transactions 0", "orlop_engine_reads_failed_total{reason=\"closed\"} 1"]
        {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
