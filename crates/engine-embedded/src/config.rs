use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Random, SystemClock, SystemRandom};

use crate::error::OpenError;

const MIB: u64 = 1 << 20;

/// The smallest segment that is allowed: below it headers and file handling outweigh the data.
pub(crate) const SEGMENT_BYTES_MIN: u64 = 4096;
/// The largest segment that is allowed: offsets in a segment are 32 bits, and one batch may exceed the segment.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 1024 * MIB;

/// Receives what the engine measures. Called on the engine's writer thread: must return at once.
pub trait Observer: Send + Sync {
    /// One fsync of the log, and how long it took.
    fn fsync(&self, took: Duration);

    /// One group of batches became durable: its records, its bytes in the log, and the time from the first
    /// check to the last answer.
    fn commit(&self, records: u64, bytes: u64, took: Duration);
}

/// The settings of an embedded engine.
#[derive(Clone)]
pub struct Config {
    /// The data directory. Created if it is missing (its parent must exist or be creatable).
    pub dir: PathBuf,
    /// Bytes of one segment file (default 64 MiB). Larger: fewer files and rarer switches. Smaller: space is
    /// given back sooner, and the last segment is read faster at start.
    pub segment_bytes: u64,
    /// Bytes set aside for emptying a full disk (default 16 MiB). 0 sets nothing aside: deletions then fail on
    /// a full disk as other writes do.
    pub reserve_bytes: u64,
    /// Bytes of batches that may wait for the writer (default 64 MiB). More wait outside, without memory here.
    pub queue_bytes_max: u64,
    /// The clock for measurements.
    pub clock: Arc<dyn Clock>,
    /// The randomness that makes segments of different directories unlike each other.
    pub random: Arc<dyn Random>,
    /// Receives measurements, if there is one.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Config {
    /// The default settings for the directory `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Config {
        Config {
            dir: dir.into(),
            segment_bytes: 64 * MIB,
            reserve_bytes: 16 * MIB,
            queue_bytes_max: 64 * MIB,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            observer: None,
        }
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let refuse = |setting, value, reason| Err(OpenError::Config { setting, value, reason });
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return refuse("segment_bytes", self.segment_bytes, "it must be between 4 KiB and 1 GiB");
        }
        if self.reserve_bytes != 0 && !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.reserve_bytes) {
            return refuse("reserve_bytes", self.reserve_bytes, "it must be 0, or between 4 KiB and 1 GiB");
        }
        if !(1024..=1024 * MIB).contains(&self.queue_bytes_max) {
            return refuse("queue_bytes_max", self.queue_bytes_max, "it must be between 1 KiB and 1 GiB");
        }
        Ok(())
    }
}
