use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use engine::{Batch, CommitError, KeySpan, MemoryEngine, Snapshot, Usage};

use super::*;

/// An engine whose clock the test sets; no time, and it cannot be read.
struct Timed(MemoryEngine, AtomicU64);

#[async_trait]
impl Engine for Timed {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        self.0.snapshot().await
    }

    async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        self.0.commit(batch).await
    }

    async fn split_points(&self, range: KeySpan, pieces: usize) -> Result<Vec<Bytes>, ReadError> {
        self.0.split_points(range, pieces).await
    }

    async fn time(&self) -> Result<Duration, ReadError> {
        match self.1.load(Ordering::SeqCst) {
            0 => Err(ReadError::Unavailable("no clock".to_owned())),
            secs => Ok(Duration::from_secs(secs)),
        }
    }

    fn usage(&self) -> Usage {
        self.0.usage()
    }

    async fn reclaim(&self) -> Result<(), ReadError> {
        self.0.reclaim().await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}

fn leased() -> (Arc<Timed>, Leadership) {
    let engine = Arc::new(Timed(MemoryEngine::new(), AtomicU64::new(100)));
    let leadership = Leadership::new(engine.clone(), Some(LeaderLease { length: Duration::from_secs(3) }));
    (engine, leadership)
}

#[tokio::test]
async fn who_has_the_engine_alone_needs_no_clock() {
    let alone = Leadership::new(Arc::new(MemoryEngine::new()), None);
    assert_eq!(alone.confirm().await, Ok(()));
    assert_eq!(alone.begin_record().await, Ok(None));
    assert!(!alone.release());
}

#[tokio::test]
async fn a_lease_runs_from_the_beginning_of_the_last_record() {
    let (engine, leadership) = leased();
    assert_eq!(leadership.confirm().await, Err(NotConfirmed::Lapsed), "nothing was written yet");
    let begun = leadership.begin_record().await.unwrap();
    engine.1.store(102, Ordering::SeqCst);
    leadership.extend(begun).await;
    assert_eq!(leadership.confirm().await, Ok(()));
    engine.1.store(103, Ordering::SeqCst);
    assert_eq!(
        leadership.confirm().await,
        Err(NotConfirmed::Lapsed),
        "not from when it was known to be durable"
    );
}

#[tokio::test]
async fn a_record_that_is_known_late_does_not_shorten_the_lease() {
    let (engine, leadership) = leased();
    let late = leadership.begin_record().await.unwrap();
    engine.1.store(102, Ordering::SeqCst);
    leadership.extend(leadership.begin_record().await.unwrap()).await;
    leadership.extend(late).await;
    engine.1.store(104, Ordering::SeqCst);
    assert_eq!(leadership.confirm().await, Ok(()));
}

#[tokio::test]
async fn without_the_time_nothing_is_confirmed() {
    let (engine, leadership) = leased();
    leadership.extend(leadership.begin_record().await.unwrap()).await;
    engine.1.store(0, Ordering::SeqCst);
    assert!(matches!(leadership.confirm().await, Err(NotConfirmed::Clock(_))));
}

#[tokio::test]
async fn who_has_given_up_confirms_nothing() {
    let (_engine, leadership) = leased();
    leadership.extend(leadership.begin_record().await.unwrap()).await;
    assert!(leadership.release());
    assert_eq!(leadership.confirm().await, Err(NotConfirmed::Lapsed));
}
