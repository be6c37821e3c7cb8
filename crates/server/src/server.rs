use std::sync::Arc;

use base::{Clock, Random, Shutdown, Supervisor, TaskKind};
use engine::Engine;
use partition::Store;
use prometheus_client::registry::Registry;

use crate::backend::Backend;
use crate::config::Config;
use crate::convert::to_proto::Identity;
use crate::grpc::Grpc;
use crate::http::Http;
use crate::leases::Leases;
use crate::metrics::Metrics;

/// What a server is made of.
pub struct Parts {
    /// The store that it serves.
    pub store: Store,
    /// The engine below the store, for what concerns it as a whole: sizes, and giving space back.
    pub engine: Arc<dyn Engine>,
    /// What leases and time-outs go by.
    pub clock: Arc<dyn Clock>,
    /// Where the ids of leases come from.
    pub random: Arc<dyn Random>,
    /// Who runs the tasks.
    pub supervisor: Supervisor,
    /// What it is told.
    pub config: Config,
    /// What it counts.
    pub metrics: Metrics,
    /// What `/metrics` shows: the registry that `metrics` was registered with, and whatever else is in it.
    pub registry: Arc<Registry>,
}

/// A server of etcd's API. Cheap to clone; it may serve several listeners at a time.
#[derive(Clone)]
pub struct Server {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) backend: Arc<Backend>,
    pub(crate) supervisor: Supervisor,
    pub(crate) grpc: Grpc,
    pub(crate) http: Http,
}

impl Server {
    /// A server of `parts`. From here on leases expire, also while nobody serves. Must be called within a tokio
    /// runtime, before anybody else changes leases, once for a store.
    pub fn new(parts: Parts) -> Server {
        let Parts { store, engine, clock, random, supervisor, config, metrics, registry } = parts;
        let (leases, driver) =
            Leases::start(&store, clock.clone(), metrics.clone(), supervisor.shutdown().clone());
        supervisor.spawn("leases", TaskKind::Essential, driver);
        let identity =
            Identity { cluster_id: store.cluster_id, member_id: config.member_id, raft_term: store.term() };
        let backend = Arc::new(Backend {
            store,
            engine,
            clock,
            random,
            config,
            metrics,
            leases,
            identity,
            stopping: Shutdown::new(),
        });
        let grpc = Grpc::new(&backend);
        let http = Http::new(backend.clone(), registry);
        Server { shared: Arc::new(Shared { backend, supervisor, grpc, http }) }
    }
}
