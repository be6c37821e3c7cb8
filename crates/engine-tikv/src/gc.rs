use std::time::Duration;

use bytes::Bytes;
use engine::{KeySpan, ReadError};
use tikv_client::{Timestamp, TimestampExt};
use tracing::{info, warn};

use crate::config::Collecting;
use crate::shared::{Shared, age, earlier, numbered};

/// The service under which whoever collects says how far it goes. PD keeps it for ever.
const COLLECTOR: &str = "gc_worker";

/// How far old versions can be forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// The timestamp below which the cluster keeps the newest version of each key only; 0 if it was not moved here.
    pub safe_point: u64,
    /// Who holds on to older versions than this engine wants to keep, if somebody does.
    pub held_by: Option<String>,
}

impl Shared {
    /// Says that this store needs the versions of its lifetime, for three times as long as that: whoever collects
    /// leaves them. To be repeated within that time.
    pub(crate) async fn hold_versions(&self, now: &Timestamp) -> Result<(), String> {
        let safe_point = earlier(now, self.config.gc_lifetime).version();
        let held_for = Some(self.config.gc_lifetime * 3);
        let held = self.pd.hold_safe_point(&self.config.service, safe_point, held_for).await;
        let least = held.map_err(|error| error.to_string())?;
        if least.safe_point > safe_point {
            // Somebody collects with a shorter lifetime. Snapshots are checked against ours: say so, loudly.
            warn!(
                service = least.service,
                behind = ?age(&numbered(safe_point), &numbered(least.safe_point)),
                "old versions are collected earlier than this store needs them: lengthen the GC life time of that \
                 service, or shorten this store's"
            );
        }
        Ok(())
    }

    /// Moves the cluster's safe point to `wanted`, or as far as other services allow. First every lock below it is
    /// settled, in all keys: TiKV forgets what became of a transaction, and a lock that is met later would then be
    /// rolled back although it was committed.
    pub(crate) async fn collect(&self, wanted: &Timestamp) -> Result<Collected, ReadError> {
        let unavailable = |error: String| ReadError::Unavailable(error);
        let now = self.timestamp().await.map_err(unavailable)?;
        self.hold_versions(&now).await.map_err(unavailable)?;
        if self.config.collecting == Collecting::Elsewhere {
            return Ok(Collected { safe_point: 0, held_by: None });
        }
        let own = earlier(&now, self.config.gc_lifetime).version();
        let wanted = wanted.version().min(own);
        let least = self.pd.hold_safe_point(COLLECTOR, wanted, None).await;
        let least = least.map_err(|error| unavailable(error.to_string()))?;
        let safe_point = wanted.min(least.safe_point);
        let held_by = (least.safe_point < wanted).then_some(least.service);
        let everything = KeySpan { start: Bytes::new(), end: None };
        self.clear_locks(&everything, &numbered(safe_point)).await?;
        let moved = self.pd.move_safe_point(safe_point).await;
        let safe_point = moved.map_err(|error| unavailable(error.to_string()))?;
        info!(safe_point, held_by, "old versions can be forgotten");
        Ok(Collected { safe_point, held_by })
    }
}

/// How often to collect, for versions that are kept this long.
pub(crate) fn interval(lifetime: Duration) -> Duration {
    lifetime / 2
}
