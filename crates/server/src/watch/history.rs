use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use model::{Event, EventBatch, KeyRange, Revision};
use partition::{Follower, ReadFailure, UserKeys};
use prometheus_client::metrics::counter::Counter;
use watch::{History, HistoryError, HistoryPage, Hub};

/// The past of the keys, for watchers.
pub struct PartitionHistory {
    keys: UserKeys,
    /// Steps that were read.
    reads: Counter,
}

impl PartitionHistory {
    /// The past of `keys`.
    pub fn new(keys: UserKeys) -> PartitionHistory {
        PartitionHistory::counted(keys, Counter::default())
    }

    /// The past of `keys`, of which each step that is read is counted.
    pub(crate) fn counted(keys: UserKeys, reads: Counter) -> PartitionHistory {
        PartitionHistory { keys, reads }
    }
}

#[async_trait]
impl History for PartitionHistory {
    async fn events(&self, from: Revision, range: &KeyRange) -> Result<HistoryPage, HistoryError> {
        self.reads.inc();
        let page = self.keys.events(from, range).await.map_err(history_error)?;
        Ok(HistoryPage { events: page.events, through: page.through })
    }

    fn compacted(&self) -> Option<Revision> {
        self.keys.compacted()
    }

    async fn previous(&self, event: &Event) -> Result<Option<Bytes>, HistoryError> {
        self.keys.previous(event).await.map_err(history_error)
    }
}

fn history_error(failure: ReadFailure) -> HistoryError {
    match failure {
        ReadFailure::Compacted(compacted) => HistoryError::Compacted(compacted),
        ReadFailure::Corrupt(reason) => HistoryError::Corrupt(reason),
        ReadFailure::FutureRevision => HistoryError::Unavailable(failure.to_string()),
        ReadFailure::Unavailable(reason) | ReadFailure::Closed(reason) => HistoryError::Unavailable(reason),
    }
}

/// Passes published batches on to the hub.
pub(crate) struct HubFollower(pub(crate) Arc<Hub>);

impl Follower for HubFollower {
    fn published(&self, batch: &Arc<EventBatch>) {
        self.0.publish(batch);
    }
}

/// A hub that follows `keys`.
pub fn hub_of(keys: &UserKeys) -> Arc<Hub> {
    let hub = Arc::new(Hub::new(keys.published()));
    let position = keys.follow(Arc::new(HubFollower(hub.clone())));
    hub.start_at(position);
    hub
}
