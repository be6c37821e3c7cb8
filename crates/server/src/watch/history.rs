use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use model::{Event, EventBatch, KeyRange, Revision};
use partition::{Follower, Partition, ReadFailure};
use prometheus_client::metrics::counter::Counter;
use watch::{History, HistoryError, HistoryPage, Hub};

/// A partition's past, for watchers.
pub struct PartitionHistory {
    partition: Partition,
    /// Steps that were read.
    reads: Counter,
}

impl PartitionHistory {
    /// The past of `partition`.
    pub fn new(partition: Partition) -> PartitionHistory {
        PartitionHistory::counted(partition, Counter::default())
    }

    /// The past of `partition`, of which each step that is read is counted.
    pub(crate) fn counted(partition: Partition, reads: Counter) -> PartitionHistory {
        PartitionHistory { partition, reads }
    }
}

#[async_trait]
impl History for PartitionHistory {
    async fn events(&self, from: Revision, range: &KeyRange) -> Result<HistoryPage, HistoryError> {
        self.reads.inc();
        let page = self.partition.events(from, range).await.map_err(history_error)?;
        Ok(HistoryPage { events: page.events, through: page.through })
    }

    fn compacted(&self) -> Option<Revision> {
        self.partition.compacted()
    }

    async fn previous(&self, event: &Event) -> Result<Option<Bytes>, HistoryError> {
        self.partition.previous(event).await.map_err(history_error)
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

/// Passes a partition's batches on to the hub.
pub(crate) struct HubFollower(pub(crate) Arc<Hub>);

impl Follower for HubFollower {
    fn published(&self, batch: &Arc<EventBatch>) {
        self.0.publish(batch);
    }
}

/// A hub that follows `partition`.
pub fn hub_of(partition: &Partition) -> Arc<Hub> {
    let hub = Arc::new(Hub::new(partition.published()));
    let position = partition.follow(Arc::new(HubFollower(hub.clone())));
    hub.start_at(position);
    hub
}
