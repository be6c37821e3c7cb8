//! The checks of durability on a store that outlives its engines, and on one that forgets.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use engine::conformance::{Factory, run_one};
use engine::{Batch, CommitError, Engine, KeySpan, MemoryEngine, ReadError, Snapshot, Usage, Write};
use parking_lot::Mutex;

/// Stores by name. When `forgets`, a store loses the records of its last commit when it is stopped without
/// having been closed.
#[derive(Default)]
struct Stores {
    stores: Mutex<HashMap<String, Arc<Store>>>,
    forgets: bool,
}

#[derive(Default)]
struct Store {
    records: MemoryEngine,
    last_written: Mutex<Vec<Bytes>>,
}

/// A store while it is open.
struct Opened {
    store: Arc<Store>,
    closed: AtomicBool,
    forgets: bool,
}

#[async_trait]
impl Factory for Stores {
    async fn open(&self, name: &str) -> Arc<dyn Engine> {
        let store = Arc::clone(self.stores.lock().entry(name.to_owned()).or_default());
        let forgotten = std::mem::take(&mut *store.last_written.lock());
        let mut loss = Batch::new();
        forgotten.into_iter().for_each(|key| loss.delete(key));
        store.records.commit(loss).await.expect("the memory engine takes every deletion");
        Arc::new(Opened { store, closed: AtomicBool::new(false), forgets: self.forgets })
    }

    fn is_durable(&self) -> bool {
        true
    }
}

#[async_trait]
impl Engine for Opened {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        self.check_open().map_err(ReadError::Closed)?;
        self.store.records.snapshot().await
    }

    async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        self.check_open().map_err(CommitError::Closed)?;
        if self.forgets {
            *self.store.last_written.lock() = batch.writes.iter().map(Write::key).cloned().collect();
        }
        self.store.records.commit(batch).await
    }

    async fn split_points(&self, range: KeySpan, pieces: usize) -> Result<Vec<Bytes>, ReadError> {
        self.check_open().map_err(ReadError::Closed)?;
        self.store.records.split_points(range, pieces).await
    }

    fn usage(&self) -> Usage {
        self.store.records.usage()
    }

    async fn reclaim(&self) -> Result<(), ReadError> {
        self.check_open().map_err(ReadError::Closed)?;
        self.store.records.reclaim().await
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.store.last_written.lock().clear();
    }
}

impl Opened {
    fn check_open(&self) -> Result<(), String> {
        if self.closed.load(Ordering::SeqCst) { Err("it was closed".to_owned()) } else { Ok(()) }
    }
}

engine::conformance_tests!(Stores::default());

#[tokio::test]
async fn a_store_that_forgets_unless_it_is_closed_is_caught() {
    let forgetful = || Stores { forgets: true, ..Stores::default() };
    run_one("a_closed_store_opens_with_everything", &forgetful()).await.expect("closing keeps everything");
    for check in ["a_stopped_store_opens_with_everything", "random_operations_agree_with_a_model"] {
        let broken = run_one(check, &forgetful()).await.expect_err(check);
        assert_eq!(broken.check, check);
    }
}

#[tokio::test]
async fn run_goes_through_all_checks() {
    engine::conformance::run(&Stores::default()).await.expect("this store keeps all promises");
    let names: std::collections::HashSet<_> =
        engine::conformance::CHECKS.iter().map(|check| check.name).collect();
    assert_eq!(names.len(), engine::conformance::CHECKS.len(), "each check has a name of its own");
}
