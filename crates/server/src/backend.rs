use std::future::Future;
use std::sync::Arc;

use base::{Clock, Random, Shutdown, Supervisor};
use engine::{Engine, ReadError};
use model::Revision;
use partition::Store;
use proto::etcdserverpb::ResponseHeader;
use tokio::sync::Semaphore;
use tonic::{Extensions, Status};

use crate::clients::Caller;
use crate::config::Config;
use crate::convert::to_proto::Identity;
use crate::error::EtcdError;
use crate::leases::Leases;
use crate::metrics::Metrics;
use crate::peer::Peers;
use crate::peer::caller::OnBehalf;
use crate::permissions::{Access, Permissions};
use crate::trace::Traces;

/// What every service works with; shared by all of them and by all connections.
pub(crate) struct Backend {
    pub(crate) store: Store,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    /// Who may do what, if that is said.
    pub(crate) permissions: Option<Permissions>,
    pub(crate) config: Config,
    pub(crate) metrics: Metrics,
    /// Where requests are traced.
    pub(crate) traces: Option<Arc<Traces>>,
    pub(crate) leases: Leases,
    /// The other servers of the store, where there are any.
    pub(crate) peers: Option<Arc<Peers>>,
    /// Runs what goes on while a client does not read.
    pub(crate) supervisor: Supervisor,
    /// One permit for each snapshot that may be under way.
    pub(crate) snapshots: Arc<Semaphore>,
    /// Given when the server stops serving, before connections are drained.
    pub(crate) stopping: Shutdown,
}

impl Backend {
    /// What the client may do that has sent a request with these extensions.
    pub(crate) fn access(&self, extensions: &Extensions) -> Access {
        match &self.permissions {
            None => Access::Everything,
            Some(permissions) => match extensions.get::<OnBehalf>() {
                Some(OnBehalf::Of(name)) => permissions.of(name.as_ref()),
                Some(OnBehalf::Unknown) => Access::Nothing,
                None => {
                    let caller = extensions.get::<Arc<Caller>>();
                    permissions.of(caller.and_then(|caller| caller.name.as_ref()))
                }
            },
        }
    }

    /// The header of an answer at `revision`.
    pub(crate) fn header(&self, revision: Revision) -> Option<ResponseHeader> {
        Some(self.identity().header(revision))
    }

    /// Who answers.
    pub(crate) fn identity(&self) -> Identity {
        Identity {
            cluster_id: self.store.cluster_id,
            member_id: self.config.member_id,
            raft_term: self.store.term(),
        }
    }

    /// The member id of whoever leads; `None` while nobody is known to, or none is reached.
    pub(crate) fn leader_id(&self) -> Option<u64> {
        match &self.peers {
            Some(peers) => peers.leader_id(),
            None => Some(self.config.member_id),
        }
    }

    /// The header of an answer at the newest revision.
    pub(crate) fn newest_header(&self) -> Option<ResponseHeader> {
        self.header(self.store.keys.revision())
    }

    /// Runs a change until it is done or the request has taken too long; it may still happen then.
    pub(crate) async fn within_timeout<T>(
        &self,
        change: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let deadline = self.clock.now() + self.config.request_timeout;
        let outcome = tokio::select! {
            // An outcome that is there counts, however late.
            biased;
            outcome = change => outcome,
            () = self.clock.sleep_until(deadline) => {
                tracing::warn!("a request has timed out; what it asked for may still happen");
                Err(EtcdError::Timeout.into())
            }
        };
        self.metrics.change_ended(&outcome);
        outcome
    }

    /// Whether the engine answers: it has to show what is durable now.
    pub(crate) async fn check_engine(&self) -> Result<(), ReadError> {
        let late = self.clock.now() + self.config.request_timeout;
        tokio::select! {
            biased;
            shown = self.engine.snapshot() => shown.map(drop),
            () = self.clock.sleep_until(late) => {
                Err(ReadError::Unavailable("it has not answered in time".to_owned()))
            }
        }
    }
}
