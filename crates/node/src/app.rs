use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Random, Shutdown, Supervisor, SystemClock, SystemRandom, TaskKind};
use engine::Engine;
use partition::{Candidate, LeaderLease, OpenFailure, Presence, Settings, Store};
use prometheus_client::registry::Registry;
use server::tls::{TlsAcceptor, TlsError, TlsSettings};
use server::{
    ClientLimits, Fleet, Metrics, Permissions, PermissionsError, Server, Serves, Tracing, while_waiting,
};
use thiserror::Error;
use tracing::{debug, warn};

use crate::config::{Config, EngineKind, ListenUrl, TlsConfig};
use crate::engines::{EngineError, open_engine, tend};
use crate::limits::connections_max;
use crate::listen::{ListenError, Listening, Sockets, open_to_clients};
use crate::name::with_name;
use crate::running::Running;

/// What is said while nobody has confirmed yet what was loaded.
const WAITS_FOR_LEADER: &str = "no leader has confirmed yet what this server has loaded";
/// How long to wait before the leader is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What a server takes from the world outside and a test brings itself.
#[derive(Clone)]
pub struct World {
    /// What leases and pauses go by.
    pub clock: Arc<dyn Clock>,
    /// Where names and ids come from.
    pub random: Arc<dyn Random>,
    /// Where requests are traced, if they are.
    pub tracing: Option<Tracing>,
}

impl Default for World {
    /// The machine's.
    fn default() -> World {
        World { clock: Arc::new(SystemClock), random: Arc::new(SystemRandom), tracing: None }
    }
}

/// Why a server could not be built. Nothing was served; data that was there is as it was.
#[derive(Debug, Error)]
pub enum StartError {
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The permissions cannot be used.
    #[error(transparent)]
    Permissions(#[from] PermissionsError),
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
    store: Store,
    clock: Arc<dyn Clock>,
    server: Server,
    listeners: Vec<Listening>,
    advertised: Vec<String>,
    key_count: usize,
    revision: i64,
}

impl App {
    /// Binds the addresses, reads the certificates, then opens the engine and the store: what is wrong with the first
    /// two costs no recovery.
    pub async fn build(config: &Config, world: World) -> Result<App, StartError> {
        let sockets = Sockets::bind(config).await?;
        App::build_on(&sockets, config, world, Duration::ZERO).await
    }

    /// Opens the engine and the store, and serves on `sockets` then. Where others can lead the store this process lets
    /// them for `stand_after`, even if nobody does.
    pub(crate) async fn build_on(
        sockets: &Sockets,
        config: &Config,
        world: World,
        stand_after: Duration,
    ) -> Result<App, StartError> {
        let supervisor = Supervisor::new(Shutdown::new());
        let config = &with_name(config, world.random.as_ref());
        let built = App::build_in(&supervisor, sockets, (config, world), stand_after).await;
        if built.is_err() {
            supervisor.shutdown().begin();
        }
        built
    }

    async fn build_in(
        supervisor: &Supervisor,
        sockets: &Sockets,
        (config, world): (&Config, World),
        stand_after: Duration,
    ) -> Result<App, StartError> {
        let tls = acceptor(config.client_tls.settings(), &world, supervisor).await?;
        let peer_tls = match config.engine {
            EngineKind::Tikv => acceptor(config.peer_tls.settings(), &world, supervisor).await?,
            EngineKind::Embedded | EngineKind::Memory => None,
        };
        let permissions = match &config.client_permissions_file {
            Some(file) => Some(Permissions::open(file.clone(), world.clock.clone(), supervisor).await?),
            None => None,
        };
        let listeners = sockets.listeners(tls.as_ref(), peer_tls.as_ref());
        warn_of_the_clear(config);
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let engine = open_engine(config, &world, &metrics, &listeners).await?;
        let engine = metrics.measured(engine, world.clock.clone());
        let advertised = advertised(&config.advertise_client_urls, urls(&listeners, Serves::Everything));
        let peer_urls = advertised_to_peers(config, &listeners);
        let opened = open_store(config, &world, (&engine, supervisor), (&listeners, &peer_urls)).await;
        let (store, candidate) = match opened {
            Ok(opened) => opened,
            Err(source) => {
                engine.close().await;
                return Err(StartError::Store { place: place(config), source });
            }
        };
        if let Some(candidate) = candidate {
            let lead = candidate.stand_after(stand_after).lead();
            let shutdown = supervisor.shutdown().clone();
            let stands = async move { shutdown.or(lead).await.unwrap_or(Ok(())) };
            supervisor.spawn("candidate", TaskKind::Essential, stands);
        }
        tend(config, &world, &engine, (supervisor, store.leading()));
        let (key_count, revision) = (store.keys.key_count(), store.keys.revision().get());
        let (served, clock) = (store.clone(), world.clock.clone());
        let parts = server::Parts {
            config: server_config(config, store.cluster_id, advertised.clone()),
            fleet: fleet(config, peer_urls),
            store,
            engine: engine.clone(),
            clock: world.clock,
            random: world.random,
            supervisor: supervisor.clone(),
            permissions,
            tracing: world.tracing,
            metrics,
            registry: Arc::new(registry),
        };
        let server = Server::new(parts);
        Ok(App {
            supervisor: supervisor.clone(),
            engine,
            store: served,
            clock,
            server,
            listeners,
            advertised,
            key_count,
            revision,
        })
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
            let (store, clock) = (self.store.clone(), self.clock.clone());
            let serve = async move {
                // The other members have to reach this one before: it may be about to lead.
                if listening.listener.serves != Serves::Peers {
                    let shown = until_shown(&store, clock.as_ref());
                    let listeners = [&listening.listener];
                    let waiting = while_waiting(&listeners, WAITS_FOR_LEADER, shown);
                    if shutdown.or(waiting).await.is_err() {
                        return Ok(());
                    }
                }
                drop((store, clock));
                server.serve(listening.listener, shutdown).await
            };
            self.supervisor.spawn("server", TaskKind::Essential, serve);
        }
        let departure = self.server.departure();
        Running { supervisor: self.supervisor, engine: self.engine, departure }
    }
}

/// Waits until what was loaded may be shown: whoever leads has published it, or this process leads.
async fn until_shown(store: &Store, clock: &dyn Clock) {
    let mut leading = store.leading();
    while let Err(error) = store.ready().await {
        debug!(%error, "what was loaded may not be shown yet");
        tokio::select! {
            _ = leading.wait_for(|leads| *leads) => {}
            () = clock.sleep_until(clock.now() + ASK_AGAIN_AFTER) => {}
        }
    }
}

/// Reads the certificates, if there are any.
async fn acceptor(
    settings: Option<TlsSettings>,
    world: &World,
    supervisor: &Supervisor,
) -> Result<Option<TlsAcceptor>, TlsError> {
    match settings {
        Some(settings) => TlsAcceptor::open(settings, world.clock.clone(), supervisor).await.map(Some),
        None => Ok(None),
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

/// What others are told to connect to: what was configured, or where this process listens.
fn advertised(configured: &[String], listens: impl Iterator<Item = ListenUrl>) -> Vec<String> {
    match configured {
        [] => listens.map(|url| url.to_string()).collect(),
        given => given.to_vec(),
    }
}

fn advertised_to_peers(config: &Config, listeners: &[Listening]) -> Vec<String> {
    match config.engine {
        EngineKind::Tikv => advertised(&config.advertise_peer_urls, urls(listeners, Serves::Peers)),
        EngineKind::Embedded | EngineKind::Memory => Vec::new(),
    }
}

/// Opens the store; where others can lead it, as one who does not lead yet, with what will.
async fn open_store(
    config: &Config,
    world: &World,
    (engine, supervisor): (&Arc<dyn Engine>, &Supervisor),
    (listeners, peer_urls): (&[Listening], &[String]),
) -> Result<(Store, Option<Candidate>), OpenFailure> {
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
        partitions: config.partitions.clone(),
        ..Settings::new(config.key_space.clone())
    };
    if settings.leader_lease.is_none() {
        return Ok((Store::open(world, settings).await?, None));
    }
    let peer_url = peer_urls.first().cloned().unwrap_or_default();
    let joining = Store::join(world, settings, Presence { name: config.name.clone(), peer_url });
    let doors = open_to_clients(listeners);
    let (store, candidate) = while_waiting(&doors, "the store is being loaded", joining).await?;
    Ok((store, Some(candidate)))
}

/// What a server needs to know that is one of several.
fn fleet(config: &Config, peer_urls: Vec<String>) -> Option<Fleet> {
    let LeaderLease { length } = leader_lease(config)?;
    Some(Fleet {
        leader_lease: length,
        peer_urls,
        spreads: config.spreads_partitions,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tls: config.peer_tls.connector(),
    })
}

/// Only the embedded engine's directory, and memory, are one process's own.
fn leader_lease(config: &Config) -> Option<LeaderLease> {
    (config.engine == EngineKind::Tikv).then_some(LeaderLease { length: config.leader_lease })
}

fn server_config(config: &Config, cluster_id: u64, advertised: Vec<String>) -> server::Config {
    server::Config {
        name: config.name.clone(),
        member_id: fleet::member_id(cluster_id, &config.name),
        advertise_client_urls: advertised,
        max_request_bytes: config.max_request_bytes,
        max_txn_ops: config.max_txn_ops,
        quota_backend_bytes: config.quota_backend_bytes,
        watch_progress_notify_interval: config.watch_progress_notify_interval,
        client_limits: ClientLimits {
            connections_max: connections_max(config.client_limits.connections_max),
            ..config.client_limits.clone()
        },
        ..server::Config::default()
    }
}
