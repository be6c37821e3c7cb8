use std::time::Duration;

use engine_embedded::Observer;
use server::Metrics;

/// Takes what the engine measures to the server's metrics.
pub(crate) struct EngineObserver {
    metrics: Metrics,
}

impl EngineObserver {
    pub(crate) fn new(metrics: Metrics) -> EngineObserver {
        EngineObserver { metrics }
    }
}

impl Observer for EngineObserver {
    fn fsync(&self, took: Duration) {
        self.metrics.observe_fsync(took);
    }

    fn commit(&self, _records: u64, bytes: u64, took: Duration) {
        self.metrics.observe_commit(bytes, took);
    }
}
