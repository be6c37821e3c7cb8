use std::sync::Arc;

use base::{Clock, Random, Shutdown, Supervisor, SystemClock, SystemRandom, TaskKind};
use engine::Engine;
use partition::{LeaderLease, OpenFailure, Settings, Store};
use prometheus_client::registry::Registry;
use server::tls::{TlsAcceptor, TlsError};
use server::{Metrics, Server, Serves, while_waiting};
use thiserror::Error;
use tracing::warn;

use crate::config::{Config, EngineKind, ListenUrl, TlsConfig};
use crate::engines::{EngineError, open_engine, tend};
use crate::listen::{ListenError, Listening, listen};
use crate::member::member_id;
use crate::running::Running;

/// What a server takes from the world outside and a test brings itself.
#[derive(Clone)]
pub struct World {
    /// What leases and pauses go by.
    pub clock: Arc<dyn Clock>,
    /// Where names and ids come from.
    pub random: Arc<dyn Random>,
}

impl Default for World {
    /// The machine's.
    fn default() -> World {
        World { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom) }
    }
}

/// Why a server could not be built. Nothing was served; data that was there is as it was.
#[derive(Debug, Error)]
pub enum StartError {
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address is not to be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The engine cannot be opened.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What the engine holds cannot be used.
    #[error("{place}: {source}")]
    Store {
        /// Where it is.
        place: String,
        /// What is wrong with it.
        source: OpenFailure,
    },
}

/// A server that is ready: its data is loaded, its addresses are bound, and nothing is served yet.
pub struct App {
    supervisor: Supervisor,
    engine: Arc<dyn Engine>,
    server: Server,
    listeners: Vec<Listening>,
    advertised: Vec<String>,
    key_count: usize,
    revision: i64,
}

impl App {
    /// Reads the certificates, binds the addresses, then opens the engine and the store: what is wrong with the first
    /// two costs no recovery.
    pub async fn build(config: &Config, world: World) -> Result<App, StartError> {
        let supervisor = Supervisor::new(Shutdown::new());
        let built = App::build_on(config, world, &supervisor).await;
        if built.is_err() {
            supervisor.shutdown().begin();
        }
        built
    }

    async fn build_on(config: &Config, world: World, supervisor: &Supervisor) -> Result<App, StartError> {
        let tls = match config.client_tls.settings() {
            Some(settings) => Some(TlsAcceptor::open(settings, world.clock.clone(), supervisor).await?),
            None => None,
        };
        let mut listeners = listen(&config.listen_client_urls, tls.as_ref(), Serves::Everything).await?;
        listeners.extend(listen(&config.listen_metrics_urls, tls.as_ref(), Serves::Observation).await?);
        warn_of_the_clear(config);
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let engine = open_engine(config, &world, &metrics, &listeners).await?;
        let store = match open_store(config, &world, &engine, supervisor, &listeners).await {
            Ok(store) => store,
            Err(source) => {
                engine.close().await;
                return Err(StartError::Store { place: place(config), source });
            }
        };
        tend(config, &world, &engine, supervisor);
        let advertised = match config.advertise_client_urls.as_slice() {
            [] => urls(&listeners, Serves::Everything).map(|url| url.to_string()).collect(),
            given => given.to_vec(),
        };
        let (key_count, revision) = (store.partition.key_count(), store.partition.revision().get());
        let parts = server::Parts {
            config: server_config(config, store.cluster_id, advertised.clone()),
            store,
            engine: engine.clone(),
            clock: world.clock,
            random: world.random,
            supervisor: supervisor.clone(),
            metrics,
            registry: Arc::new(registry),
        };
        let server = Server::new(parts);
        Ok(App { supervisor: supervisor.clone(), engine, server, listeners, advertised, key_count, revision })
    }

    /// Where it listens for clients, each with the port that it really has.
    pub fn listen_urls(&self) -> impl Iterator<Item = ListenUrl> + '_ {
        urls(&self.listeners, Serves::Everything)
    }

    /// Where it listens for who asks for nothing but metrics and health, with the ports too.
    pub fn metrics_urls(&self) -> impl Iterator<Item = ListenUrl> + '_ {
        urls(&self.listeners, Serves::Observation)
    }

    /// What clients are told to connect to.
    pub fn advertised_urls(&self) -> &[String] {
        &self.advertised
    }

    /// How many keys there were when it was built.
    pub fn key_count(&self) -> usize {
        self.key_count
    }

    /// The revision of the store when it was built.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Serves, until the answer is drained.
    pub fn start(self) -> Running {
        // The server is held by its tasks alone: the store's tasks end when the last of these has.
        for listening in self.listeners {
            let (server, shutdown) = (self.server.clone(), self.supervisor.shutdown().clone());
            let serve = async move { server.serve(listening.listener, shutdown).await };
            self.supervisor.spawn("server", TaskKind::Essential, serve);
        }
        Running { supervisor: self.supervisor, engine: self.engine }
    }
}

fn urls(listeners: &[Listening], serves: Serves) -> impl Iterator<Item = ListenUrl> + '_ {
    listeners
        .iter()
        .filter(move |listening| listening.listener.serves == serves)
        .map(|listening| listening.url)
}

/// Says that certificates are there and an address does without, as etcd does.
fn warn_of_the_clear(config: &Config) {
    let TlsConfig { cert_file, trusted_ca_file, .. } = &config.client_tls;
    for url in config.listen_client_urls.iter().filter(|url| !url.is_tls && cert_file.is_some()) {
        warn!(%url, "the URL is http:// though there is a certificate: connections to it are in the clear");
        if trusted_ca_file.is_some() {
            warn!(%url, "clients of an http:// URL show no certificate: whoever reaches it is let in");
        }
    }
}

/// Where the data is, for people.
fn place(config: &Config) -> String {
    match config.engine {
        EngineKind::Embedded => config.data_dir.display().to_string(),
        EngineKind::Tikv => format!("TiKV at {}", config.tikv.pd_endpoints.join(",")),
        EngineKind::Memory => "memory".to_owned(),
    }
}

/// Opens the store; where others can lead it, waits until nobody does, and says so to whoever asks meanwhile.
async fn open_store(
    config: &Config,
    world: &World,
    engine: &Arc<dyn Engine>,
    supervisor: &Supervisor,
    listeners: &[Listening],
) -> Result<Store, OpenFailure> {
    let world = partition::World {
        engine: engine.clone(),
        clock: world.clock.clone(),
        random: world.random.clone(),
        supervisor: supervisor.clone(),
    };
    let settings = Settings {
        history_bytes_max: config.history_bytes_max,
        cache_bytes_max: config.cache_bytes_max,
        leader_lease: leader_lease(config),
        ..Settings::new(config.key_space.clone())
    };
    let is_shared = settings.leader_lease.is_some();
    let opening = Store::open(world, settings);
    if !is_shared {
        return opening.await;
    }
    let doors: Vec<_> = listeners.iter().map(|listening| &listening.listener).collect();
    while_waiting(&doors, "another server leads this store", opening).await
}

/// Only the embedded engine's directory, and memory, are one process's own.
fn leader_lease(config: &Config) -> Option<LeaderLease> {
    (config.engine == EngineKind::Tikv).then_some(LeaderLease { length: config.leader_lease })
}

fn server_config(config: &Config, cluster_id: u64, advertised: Vec<String>) -> server::Config {
    server::Config {
        name: config.name.clone(),
        member_id: member_id(cluster_id, &config.name),
        advertise_client_urls: advertised,
        max_request_bytes: config.max_request_bytes,
        max_txn_ops: config.max_txn_ops,
        quota_backend_bytes: config.quota_backend_bytes,
        watch_progress_notify_interval: config.watch_progress_notify_interval,
        ..server::Config::default()
    }
}
