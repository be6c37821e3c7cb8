//! What the engine's threads and its callers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::config::Config;
use crate::fs::Fs;
use crate::log::Spare;
use crate::queue::Queue;
use crate::state::State;
use crate::upkeep::Signals;

/// Versions that are forgotten under one hold of the lock.
pub(crate) const FORGET_STEP: usize = 256;

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) state: RwLock<State>,
    pub(crate) queue: Queue,
    /// Work for the upkeep thread.
    pub(crate) signals: Signals,
    /// A file that is ready to become the next segment.
    pub(crate) spare: Mutex<Option<Spare>>,
    /// The reserve file exists.
    pub(crate) reserve_ready: AtomicBool,
    pub(crate) counters: Counters,
}

/// What the engine counts, since it was opened.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) batches: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) log_bytes: AtomicU64,
    pub(crate) fsyncs: AtomicU64,
    pub(crate) fsync_nanos: AtomicU64,
    pub(crate) segments_retired: AtomicU64,
    pub(crate) relocated_bytes: AtomicU64,
}

/// What an embedded engine did since it was opened, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Batches that were committed.
    pub batches: u64,
    /// Groups of batches that shared an fsync.
    pub groups: u64,
    /// Bytes that were appended to the log, with those of relocated records.
    pub log_bytes: u64,
    /// Fsyncs of the log.
    pub fsyncs: u64,
    /// The time that they took together.
    pub fsync_time: Duration,
    /// Segments of which nothing was needed any more, and that were deleted.
    pub segments_retired: u64,
    /// Bytes of live records that were copied to delete segments.
    pub relocated_bytes: u64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            batches: get(&self.batches),
            groups: get(&self.groups),
            log_bytes: get(&self.log_bytes),
            fsyncs: get(&self.fsyncs),
            fsync_time: Duration::from_nanos(get(&self.fsync_nanos)),
            segments_retired: get(&self.segments_retired),
            relocated_bytes: get(&self.relocated_bytes),
        }
    }
}

impl Shared {
    /// What a directory that was just read has in memory, before anything runs on it.
    pub(crate) fn new(config: Config, fs: Arc<dyn Fs>, state: State, reserve_ready: bool) -> Shared {
        Shared {
            queue: Queue::new(config.queue_bytes_max),
            fs,
            state: RwLock::new(state),
            signals: Signals::default(),
            spare: Mutex::new(None),
            reserve_ready: AtomicBool::new(reserve_ready),
            counters: Counters::default(),
            config,
        }
    }

    /// Whether new data may be written: the reserve must be there before the disk is filled further.
    pub(crate) fn takes_new_data(&self) -> bool {
        self.config.reserve_bytes == 0 || self.reserve_ready.load(Ordering::Acquire)
    }

    /// Closes the engine for good.
    pub(crate) fn poison(&self, reason: &str) {
        let mut state = self.state.write();
        if state.closed.is_none() {
            state.closed = Some(reason.to_owned());
        }
        drop(state);
        self.queue.close(reason);
        self.signals.stop();
    }
}
