//! The Watch service: each stream takes the client's requests and sends what its session says next, when the client
//! is ready for it.

pub(crate) mod driver;
mod history;
mod permits;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures_util::stream::BoxStream;
use proto::etcdserverpb::WatchRequest;
use proto::service::watch_server::Watch;
use proto::spliced::WatchResponse;
use tonic::{Request, Response, Status, Streaming};
use watch::{Hub, Session};

use crate::backend::Backend;
use crate::clients::Caller;
use driver::Driver;
pub use history::{PartitionHistory, hub_of};
use permits::Permits;

/// The watch service.
pub(crate) struct WatchService {
    backend: Arc<Backend>,
    hub: Arc<Hub>,
    history: Arc<PartitionHistory>,
}

impl WatchService {
    /// The service over the backend's partition; one for a backend, because each follows the partition.
    pub(crate) fn new(backend: Arc<Backend>) -> WatchService {
        let partition = backend.store.keys.clone();
        let hub = hub_of(&partition);
        let reads = backend.metrics.watch.history_reads.clone();
        WatchService { backend, hub, history: Arc::new(PartitionHistory::counted(partition, reads)) }
    }
}

#[async_trait::async_trait]
impl Watch for WatchService {
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = request.extensions().get::<Arc<Caller>>().cloned();
        let permits = Permits::new(self.backend.clone(), request.extensions().clone());
        let session = Session::new(self.hub.clone(), self.history.clone());
        let driver = Driver::new(self.backend.clone(), session, request.into_inner(), caller, permits);
        // No task and no queue between: the next response is made when the connection has room for it, so that a
        // slow client holds one response at most.
        let responses = futures_util::stream::unfold(driver, async |mut driver| {
            let response = driver.next().await?;
            Some((response, driver))
        });
        Ok(Response::new(Box::pin(responses)))
    }
}
