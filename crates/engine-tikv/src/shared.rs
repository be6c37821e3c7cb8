use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tikv_client::{Timestamp, TimestampExt, TransactionClient};

use crate::config::Config;
use crate::error::text;
use crate::limits::READ_TIME_MAX;
use crate::pd::Pd;
use crate::portion::Portion;
use crate::regions::Regions;
use crate::retry::Tries;

/// What the engine and its snapshots have in common.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) client: TransactionClient,
    pub(crate) pd: Pd,
    pub(crate) regions: Regions,
    pub(crate) portion: Portion,
    /// Bytes of keys and values that this process has committed.
    pub(crate) written_bytes: AtomicU64,
    closed: AtomicBool,
}

impl Shared {
    pub(crate) fn new(config: Config, client: TransactionClient, pd: Pd) -> Shared {
        Shared {
            config,
            client,
            pd,
            regions: Regions::default(),
            portion: Portion::default(),
            written_bytes: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Why nothing can be done any more, if the engine was closed.
    pub(crate) fn closed(&self) -> Option<String> {
        self.closed.load(Ordering::Acquire).then(|| "it was closed".to_owned())
    }

    pub(crate) fn tries(&self, length: Duration) -> Tries<'_> {
        Tries::new(&*self.config.clock, length)
    }

    /// The present, by PD's clock: above the timestamp of everything that was committed before the call.
    pub(crate) async fn timestamp(&self) -> Result<Timestamp, String> {
        let mut tries = self.tries(READ_TIME_MAX);
        loop {
            let reason = match tries.run(self.client.current_timestamp()).await {
                Ok(Ok(timestamp)) => return Ok(timestamp),
                Ok(Err(error)) => text(&error),
                Err(_) => "PD gave no timestamp in time".to_owned(),
            };
            if !tries.again().await {
                return Err(reason);
            }
        }
    }
}

/// A timestamp `by` earlier.
pub(crate) fn earlier(timestamp: &Timestamp, by: Duration) -> Timestamp {
    let physical = timestamp.physical.saturating_sub(milliseconds(by)).max(0);
    Timestamp { physical, logical: 0, ..timestamp.clone() }
}

/// How much later than `start` the timestamp `now` is, by PD's clock.
pub(crate) fn age(start: &Timestamp, now: &Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(now.physical - start.physical).unwrap_or(0))
}

/// The timestamp with this number.
pub(crate) fn numbered(version: u64) -> Timestamp {
    Timestamp::from_version(version)
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
