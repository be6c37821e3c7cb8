//! When a store that is opened settles what others have left in the engine.

use std::sync::Arc;

use async_trait::async_trait;
use base::{ManualClock, SeededRandom, Shutdown, Supervisor};
use bytes::Bytes;
use engine::{Batch, CommitError, Engine, KeySpan, MemoryEngine, ReadError, Snapshot, Usage};
use layout::log::{PartitionId, Slot};
use parking_lot::Mutex;
use partition::{Store, World};

use crate::common::{USER, retentive, space};

/// What the store asked of its engine, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Read,
    Write,
    Settle(Vec<KeySpan>),
}

/// The memory engine, and a list of what it was asked.
struct Noting {
    inner: MemoryEngine,
    calls: Mutex<Vec<Call>>,
}

#[async_trait]
impl Engine for Noting {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        self.calls.lock().push(Call::Read);
        self.inner.snapshot().await
    }

    async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        self.calls.lock().push(Call::Write);
        self.inner.commit(batch).await
    }

    async fn split_points(&self, range: KeySpan, pieces: usize) -> Result<Vec<Bytes>, ReadError> {
        self.inner.split_points(range, pieces).await
    }

    async fn settle(&self, spans: &[KeySpan]) -> Result<(), ReadError> {
        self.calls.lock().push(Call::Settle(spans.to_vec()));
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

#[tokio::test]
async fn what_the_dead_have_left_is_settled_before_the_log_is_read_and_again_before_it_is_loaded() {
    let engine = Arc::new(Noting { inner: MemoryEngine::new(), calls: Mutex::default() });
    let world = World {
        engine: engine.clone(),
        clock: Arc::new(ManualClock::default()),
        random: Arc::new(SeededRandom::new(1)),
        supervisor: Supervisor::new(Shutdown::new()),
    };
    Store::open(world, retentive()).await.unwrap();
    let calls = engine.calls.lock().clone();
    let at = |wanted: fn(&Call) -> bool| {
        calls.iter().enumerate().filter(|(_, call)| wanted(call)).map(|(at, _)| at).collect::<Vec<usize>>()
    };
    let settles = at(|call| matches!(call, Call::Settle(_)));
    // The first batch founds the store, and the others are the takeovers.
    let (writes, reads) = (at(|call| *call == Call::Write), at(|call| *call == Call::Read));
    assert_eq!((settles.len(), writes.len()), (2, 3), "{calls:?}");
    assert_eq!(settles[0], writes[0] + 2, "only who the store is was read before: {calls:?}");
    assert!(writes[2] < settles[1] && settles[1] < reads[reads.len() - 1], "before it is loaded: {calls:?}");
    let settled = |at: usize, key: &Bytes| {
        let Call::Settle(spans) = &calls[at] else { unreachable!() };
        spans.iter().any(|span| span.start <= *key && span.end.as_ref().is_none_or(|end| key < end))
    };
    let (user, system) = (space().log_key(USER, Slot(2)), space().log_key(PartitionId::SYSTEM, Slot(2)));
    assert!(settled(settles[0], &user) && settled(settles[0], &system));
    // By then the process itself writes to the system partition's log.
    assert!(settled(settles[1], &user) && !settled(settles[1], &system));
}
