//! How one who does not lead learns what is the newest.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::Clock;
use fleet::Asks;
use partition::{Authority, Confirmed, NotConfirmed, Store};
use proto::peer::{ConfirmRequest, ConfirmResponse};
use tracing::debug;

use super::convert::revision_from_wire;
use super::{Connection, Heard, Route, Standing, remote};
use crate::metrics::FleetMetrics;

/// How long a question to the leader is tried: through a change of leaders. etcd's reads wait as long for theirs.
const ASK_TIME_MAX: Duration = Duration::from_secs(5);

/// What the leader said, for all who asked.
pub(crate) type Answer = Result<Confirmed, NotConfirmed>;

/// Asks the leader, whoever that is; a question serves all who came before it was sent.
pub(crate) struct Question {
    pub(crate) heard: Arc<Heard>,
    pub(crate) metrics: Arc<FleetMetrics>,
    pub(crate) cluster_id: u64,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) standing: Standing,
    /// For when this process itself leads meanwhile.
    pub(crate) store: Store,
}

impl Question {
    /// Asks until there is an answer, or no time left. It changes nothing: it may be asked again wherever it got lost.
    pub(crate) async fn ask(&self) -> Answer {
        let late = self.clock.now() + ASK_TIME_MAX;
        tokio::select! {
            biased;
            answer = self.ask_on() => answer,
            () = self.clock.sleep_until(late) => {
                self.metrics.questions_failed.inc();
                Err(NotConfirmed::NoLeader(self.standing.link.trouble()))
            }
        }
    }

    async fn ask_on(&self) -> Answer {
        let mut tried = None;
        loop {
            match self.standing.route(tried).await {
                Route::Here => {
                    let partition = &self.store.keys;
                    partition.confirm().await?;
                    let (revision, compacted) = (partition.revision(), partition.compacted());
                    return Ok(Confirmed { revision, compacted });
                }
                Route::Nowhere => return Err(NotConfirmed::NoLeader("this server is stopping".to_owned())),
                Route::There(connection) => {
                    tried = Some(connection.id);
                    match self.ask_at(connection).await {
                        Ok(confirmed) => return Ok(confirmed),
                        Err(error) => debug!(error, "a question to the leader was not answered"),
                    }
                }
            }
        }
    }

    async fn ask_at(&self, connection: Connection) -> Result<Confirmed, String> {
        let request = ConfirmRequest { cluster_id: self.cluster_id };
        let answered =
            remote::client(connection).confirm(request).await.map_err(|status| status.to_string())?;
        let ConfirmResponse { revision, compacted, .. } = answered.into_inner();
        let revision = revision_from_wire(revision)?;
        self.heard.of(revision);
        Ok(Confirmed { revision, compacted: compacted.map(revision_from_wire).transpose()? })
    }
}

/// The leader, as the store asks it.
pub(crate) struct Leader {
    pub(crate) asks: Asks<Answer>,
}

#[async_trait]
impl Authority for Leader {
    async fn confirm(&self) -> Answer {
        let stopping = |_| NotConfirmed::NoLeader("this server is stopping".to_owned());
        self.asks.ask().await.map_err(stopping)?
    }
}
