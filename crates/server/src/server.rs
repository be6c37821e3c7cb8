use std::sync::{Arc, OnceLock};

use base::{Clock, Random, Shutdown, Supervisor, TaskKind};
use engine::Engine;
use partition::Store;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

use crate::backend::Backend;
use crate::clients::Clients;
use crate::config::Config;
use crate::grpc::Grpc;
use crate::http::Http;
use crate::leases::Leases;
use crate::metrics::{CountingFollower, Metrics};
use crate::peer::{Departure, Fleet, Peers};
use crate::permissions::Permissions;
use crate::rpc::snapshot::SNAPSHOTS_MAX;
use crate::trace::{Traces, Tracing};

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
    /// Who may do what; none: whoever is let in may do everything.
    pub permissions: Option<Permissions>,
    /// What it is told.
    pub config: Config,
    /// Where several servers serve the store: what it needs for that.
    pub fleet: Option<Fleet>,
    /// How it traces requests, if it does.
    pub tracing: Option<Tracing>,
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
    pub(crate) clients: Arc<Clients>,
}

impl Server {
    /// A server of `parts`. From when the store leads leases expire, also while nobody serves. Must be called within a
    /// tokio runtime, before anybody else changes leases, once for a store.
    pub fn new(parts: Parts) -> Server {
        let Parts {
            store,
            engine,
            clock,
            random,
            supervisor,
            permissions,
            config,
            fleet,
            metrics,
            registry,
            ..
        } = parts;
        let traces = parts.tracing.map(|tracing| Arc::new(Traces::new(tracing, random.clone())));
        if let Some(traces) = traces.clone() {
            store.keys.follow(traces);
        }
        // Before whoever hands out events: it notes when they were published.
        let counting = CountingFollower { metrics: metrics.published.clone(), clock: clock.clone() };
        store.keys.follow(Arc::new(counting));
        let (leases, driver) =
            Leases::start(&store, clock.clone(), metrics.clone(), supervisor.shutdown().clone());
        supervisor.spawn("leases", TaskKind::Essential, driver);
        let peers = fleet.map(|fleet| {
            let metrics = metrics.fleet.clone();
            Peers::start(
                &store,
                (&config, fleet),
                leases.loaded(),
                (clock.clone(), supervisor.clone(), metrics),
            )
        });
        let backend = Arc::new(Backend {
            store,
            engine,
            clock,
            random,
            permissions,
            config,
            metrics,
            traces,
            leases,
            peers,
            supervisor: supervisor.clone(),
            snapshots: Arc::new(Semaphore::new(SNAPSHOTS_MAX)),
            stopping: Shutdown::new(),
        });
        let clients = Clients::new(backend.config.client_limits.clone());
        let grpc = Grpc::new(&backend);
        let http = Http::new(backend.clone(), registry);
        Server { shared: Arc::new(Shared { backend, supervisor, grpc, http, clients }) }
    }

    /// Where it is noted, once, why the server left the fleet by itself. It stops then.
    pub fn departure(&self) -> Arc<OnceLock<Departure>> {
        self.shared.backend.peers.as_ref().map(|peers| peers.departure.clone()).unwrap_or_default()
    }
}
