//! The engine contract: an ordered, transactional byte store behind one small trait, and everything that holds
//! for each engine alike (the conformance suite, the fault wrapper, the memory engine as the reference).
//!
//! Nothing above the contract may know which engine it runs on, and nothing in this crate may know what the bytes
//! mean: record formats live in `layout`.
//!
//! What every engine guarantees:
//! - a committed batch is durable as a whole before [`Engine::commit`] returns, whatever crashes afterwards;
//! - a [`Snapshot`] shows durable batches only, whole, and never changes;
//! - batches of one caller that commits them one after another become visible in that order;
//! - the outcome of a commit is told apart as [`CommitError`] says: nothing that may have happened is ever
//!   reported as not having happened.

mod batch;
pub mod conformance;
mod error;
pub mod fault;
mod memory;
mod seed;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

pub use batch::{Batch, BatchClass, Write};
pub use error::{CommitError, ReadError};
pub use memory::MemoryEngine;

/// An ordered, transactional byte store. Shared by everything that reads or writes.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// A consistent view of all batches that are durable now, at least those acknowledged before the call.
    ///
    /// A view pins what it shows: hold it for seconds, not longer.
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError>;

    /// Applies `batch` atomically and durably.
    ///
    /// Cancel-safety: when the future is dropped, the batch may be applied or not, as after
    /// [`CommitError::Undetermined`].
    async fn commit(&self, batch: Batch) -> Result<(), CommitError>;

    /// At most `pieces - 1` keys that cut the range into parts of about equal size: hints for parallel scans.
    async fn split_points(&self, range: KeySpan, pieces: usize) -> Result<Vec<Bytes>, ReadError>;

    /// The time by the clock that all processes on this engine share: it never goes back, and whoever asks later, in any
    /// process, is not told less. Leases among processes go by it, so that no machine's clock is trusted.
    ///
    /// An engine that one process has for itself needs none and answers `Unavailable`.
    async fn time(&self) -> Result<Duration, ReadError> {
        Err(ReadError::Unavailable("this engine has no clock that processes share".to_owned()))
    }

    /// Ends what others have under way in `spans`, one span after the other: when it returns, each batch that had left
    /// a lock there is applied as a whole or never will be, and nobody waits for it any more. A batch whose owner is
    /// alive may so fail, for certain. One that writes there only later is not held up.
    ///
    /// For who takes over from a process that may have died. Engines without locks have nothing to do.
    async fn settle(&self, spans: &[KeySpan]) -> Result<(), ReadError> {
        let _ = spans;
        Ok(())
    }

    /// What the engine occupies now. Cheap: no I/O.
    fn usage(&self) -> Usage;

    /// Gives back what space it can, without stopping reads or writes. Returns when it is done for now.
    async fn reclaim(&self) -> Result<(), ReadError>;

    /// Stops the engine: everything acknowledged is durable, later calls answer `Closed`.
    async fn close(&self);
}

/// A consistent, unchanging view of an engine.
#[async_trait]
pub trait Snapshot: Send + Sync {
    /// The value of `key`, if it exists.
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError>;

    /// The values of `keys`, in their order. The caller bounds the number of keys and the size of their values.
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, ReadError>;

    /// The next records of a scan. An empty page with no `next` ends it.
    async fn scan(&self, scan: &Scan) -> Result<ScanPage, ReadError>;
}

/// The keys from `start` on and before `end`; no `end` means to the last key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpan {
    /// The first key of the span.
    pub start: Bytes,
    /// The first key behind the span.
    pub end: Option<Bytes>,
}

/// One step of a scan: what to read, which way, and when to stop.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The keys to read.
    pub span: KeySpan,
    /// The order to read them in.
    pub direction: Direction,
    /// Stop after this many records (at least 1).
    pub records_max: usize,
    /// Stop when keys and values together reach this many bytes; a page holds at least one record all the same.
    pub bytes_max: usize,
    /// Whether values are wanted; without them a page's values are empty and the engine may spare the reads.
    pub values: bool,
}

/// The order of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Lowest key first.
    Forward,
    /// Highest key first.
    Backward,
}

/// The records that one step of a scan found, and how to go on.
#[derive(Clone, Debug, Default)]
pub struct ScanPage {
    /// Keys and values in the order of the scan.
    pub records: Vec<(Bytes, Bytes)>,
    /// The span that is left to read; `None` when the scan is complete.
    pub next: Option<KeySpan>,
}

/// What an engine occupies, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Allocated on disk (or in memory, for the memory engine).
    pub total_bytes: u64,
    /// Of these, what live records need.
    pub live_bytes: u64,
}
