//! The conformance suite finds what it is there to find: engines with one flaw each are caught by the check
//! that names the broken promise.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use engine::conformance::run_one;
use engine::{
    Batch, CommitError, Direction, Engine, KeySpan, MemoryEngine, ReadError, Scan, ScanPage, Snapshot, Usage,
    Write,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    AppliesPutsOfAConflict,
    InsertsOverwrite,
    SnapshotsFollowThePresent,
    DropsEmptyValues,
    SkipsTheRecordAfterAPage,
    BackwardScansIncludeTheEnd,
    ForgetsTheLimit,
    AnswersBeforeApplying,
    IgnoresClose,
}

struct Flawed {
    inner: Arc<MemoryEngine>,
    flaw: Flaw,
    waiting: tokio::sync::Mutex<Option<Batch>>,
}

struct FlawedSnapshot {
    inner: Box<dyn Snapshot>,
    present: Arc<MemoryEngine>,
    flaw: Flaw,
}

#[async_trait]
impl Engine for Flawed {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        let inner = self.inner.snapshot().await?;
        Ok(Box::new(FlawedSnapshot { inner, present: Arc::clone(&self.inner), flaw: self.flaw }))
    }

    async fn commit(&self, mut batch: Batch) -> Result<(), CommitError> {
        if self.flaw == Flaw::InsertsOverwrite {
            for write in &mut batch.writes {
                if let Write::Insert(key, value) = write {
                    *write = Write::Put(key.clone(), value.clone());
                }
            }
        }
        if self.flaw == Flaw::AnswersBeforeApplying {
            return match self.waiting.lock().await.replace(batch) {
                Some(before) => self.inner.commit(before).await,
                None => Ok(()),
            };
        }
        let answer = self.inner.commit(batch.clone()).await;
        if self.flaw == Flaw::AppliesPutsOfAConflict && answer.is_err() {
            batch.writes.retain(|write| matches!(write, Write::Put(..)));
            self.inner.commit(batch).await?;
        }
        answer
    }

    async fn split_points(&self, range: KeySpan, pieces: usize) -> Result<Vec<Bytes>, ReadError> {
        self.inner.split_points(range, pieces).await
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    async fn reclaim(&self) -> Result<(), ReadError> {
        self.inner.reclaim().await
    }

    async fn close(&self) {
        if self.flaw != Flaw::IgnoresClose {
            self.inner.close().await;
        }
    }
}

#[async_trait]
impl Snapshot for FlawedSnapshot {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        if self.flaw == Flaw::SnapshotsFollowThePresent {
            return self.present.snapshot().await?.get(key).await;
        }
        let value = self.inner.get(key).await?;
        Ok(value.filter(|value| self.flaw != Flaw::DropsEmptyValues || !value.is_empty()))
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, ReadError> {
        self.inner.get_many(keys).await
    }

    async fn scan(&self, scan: &Scan) -> Result<ScanPage, ReadError> {
        let mut scan = scan.clone();
        match self.flaw {
            Flaw::ForgetsTheLimit => scan.records_max = usize::MAX,
            Flaw::BackwardScansIncludeTheEnd if scan.direction == Direction::Backward => {
                scan.span.end = scan.span.end.map(|end| Bytes::from([&end[..], &[0]].concat()));
            }
            _ => {}
        }
        let mut page = self.inner.scan(&scan).await?;
        if let (Flaw::SkipsTheRecordAfterAPage, Some(next)) = (self.flaw, &mut page.next) {
            next.start = Bytes::from([&next.start[..], &[0]].concat());
        }
        Ok(page)
    }
}

#[tokio::test]
async fn each_flaw_is_caught_by_the_check_of_its_promise() {
    for (flaw, check) in [
        (Flaw::AppliesPutsOfAConflict, "a_conflict_applies_nothing"),
        (Flaw::InsertsOverwrite, "an_insert_needs_an_absent_key"),
        (Flaw::InsertsOverwrite, "of_concurrent_inserts_exactly_one_wins"),
        (Flaw::InsertsOverwrite, "an_unknown_outcome_is_settled_by_the_next_slot"),
        (Flaw::InsertsOverwrite, "random_operations_agree_with_a_model"),
        (Flaw::SnapshotsFollowThePresent, "a_snapshot_never_changes"),
        (Flaw::DropsEmptyValues, "keys_and_values_are_any_bytes"),
        (Flaw::SkipsTheRecordAfterAPage, "pages_join_without_gap_or_overlap"),
        (Flaw::BackwardScansIncludeTheEnd, "a_scan_covers_its_span_in_both_directions"),
        (Flaw::ForgetsTheLimit, "a_page_keeps_its_limits"),
        (Flaw::AnswersBeforeApplying, "a_snapshot_shows_what_was_acknowledged_before"),
        (Flaw::IgnoresClose, "a_closed_engine_refuses"),
    ] {
        let factory = || async move {
            let inner = Arc::new(MemoryEngine::new());
            Arc::new(Flawed { inner, flaw, waiting: tokio::sync::Mutex::new(None) }) as Arc<dyn Engine>
        };
        let broken = run_one(check, &factory).await.expect_err(&format!("{check} let {flaw:?} pass"));
        assert_eq!(broken.check, check);
        assert!(broken.to_string().contains(broken.promise), "{broken}");
    }
}
