#[cfg(test)]
mod tests;
mod versions;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;

use self::versions::{Sequence, Versions};
use crate::{Batch, CommitError, Engine, KeySpan, ReadError, Scan, ScanPage, Snapshot, Usage};

const CLOSED: &str = "the memory engine was closed";

/// The reference engine: everything in memory, nothing survives the process.
///
/// "Durable" here means "applied". Snapshots cost nothing until something that they show is overwritten or
/// deleted; what only they need is dropped with them.
pub struct MemoryEngine {
    shared: Arc<RwLock<State>>,
}

struct State {
    versions: Versions,
    closed: bool,
}

impl MemoryEngine {
    /// An empty engine that takes as much memory as it is given data.
    pub fn new() -> MemoryEngine {
        MemoryEngine::with_capacity_bytes(u64::MAX)
    }

    /// An empty engine that is "full" at `capacity_bytes`: a normal batch that could take it beyond fails
    /// with [`CommitError::NoSpace`], while batches that reclaim always pass.
    pub fn with_capacity_bytes(capacity_bytes: u64) -> MemoryEngine {
        let state = State { versions: Versions::new(capacity_bytes), closed: false };
        MemoryEngine { shared: Arc::new(RwLock::new(state)) }
    }
}

impl Default for MemoryEngine {
    fn default() -> Self {
        MemoryEngine::new()
    }
}

impl State {
    fn open_for_read(&self) -> Result<&Versions, ReadError> {
        if self.closed { Err(ReadError::Closed(CLOSED.into())) } else { Ok(&self.versions) }
    }
}

#[async_trait]
impl Engine for MemoryEngine {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        let mut state = self.shared.write();
        state.open_for_read()?;
        let at = state.versions.pin();
        Ok(Box::new(MemorySnapshot { shared: Arc::clone(&self.shared), at }))
    }

    async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        let mut state = self.shared.write();
        if state.closed {
            return Err(CommitError::Closed(CLOSED.into()));
        }
        state.versions.apply(batch)
    }

    async fn split_points(&self, range: KeySpan, pieces: usize) -> Result<Vec<Bytes>, ReadError> {
        Ok(self.shared.read().open_for_read()?.split_points(&range, pieces))
    }

    fn usage(&self) -> Usage {
        self.shared.read().versions.usage()
    }

    async fn reclaim(&self) -> Result<(), ReadError> {
        loop {
            {
                let mut state = self.shared.write();
                state.open_for_read()?;
                if !state.versions.collect_some() {
                    return Ok(());
                }
            }
            // Between two steps everybody else has a turn.
            tokio::task::yield_now().await;
        }
    }

    async fn close(&self) {
        self.shared.write().closed = true;
    }
}

struct MemorySnapshot {
    shared: Arc<RwLock<State>>,
    at: Sequence,
}

#[async_trait]
impl Snapshot for MemorySnapshot {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        Ok(self.shared.read().open_for_read()?.get(self.at, key))
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, ReadError> {
        let state = self.shared.read();
        let versions = state.open_for_read()?;
        Ok(keys.iter().map(|key| versions.get(self.at, key)).collect())
    }

    async fn scan(&self, scan: &Scan) -> Result<ScanPage, ReadError> {
        Ok(self.shared.read().open_for_read()?.scan(self.at, scan))
    }
}

impl Drop for MemorySnapshot {
    fn drop(&mut self) {
        self.shared.write().versions.unpin(self.at);
    }
}
