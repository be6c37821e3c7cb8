use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Shutdown, Supervisor, TaskKind};
use engine::Engine;
use engine_tikv::{Collecting, ConfigError, ConnectError, TikvEngine, Tls};
use server::while_waiting;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::app::World;
use crate::config::{Config, TikvConfig};
use crate::listen::{Listening, open_to_clients};

/// The pause between two tries to reach PD, each of which takes some seconds when nothing answers.
const PAUSE: Duration = Duration::from_secs(1);

/// Connects to the cluster, and waits for it if it is not there. Meanwhile whoever asks on `listeners` is told.
pub(super) async fn open(
    config: &Config,
    world: &World,
    listeners: &[Listening],
) -> Result<Arc<dyn Engine>, ConfigError> {
    let settings = settings(config, world);
    let doors = open_to_clients(listeners);
    let connecting = connect(settings, &*world.clock);
    Ok(Arc::new(while_waiting(&doors, "TiKV's PD does not answer", connecting).await?))
}

/// Tells the cluster regularly what it can forget, from when this process leads the store: one process does.
pub(super) fn keep_forgetting(
    config: &Config,
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    (supervisor, mut leading): (&Supervisor, watch::Receiver<bool>),
) {
    let interval = TikvEngine::reclaim_interval(config.tikv.gc_lifetime);
    let shutdown = supervisor.shutdown().clone();
    let forget = forget_old_versions(engine, interval, clock, shutdown.clone());
    supervisor.spawn("tikv-gc", TaskKind::Essential, async move {
        match shutdown.or(leading.wait_for(|leads| *leads)).await {
            Ok(Ok(_)) => {}
            // The process stops, or the store is gone.
            Ok(Err(_)) | Err(_) => return Ok(()),
        }
        forget.await
    });
}

fn settings(config: &Config, world: &World) -> engine_tikv::Config {
    let TikvConfig { pd_endpoints, ca_file, cert_file, key_file, gc_lifetime, advances_gc } = &config.tikv;
    let tls = match (ca_file, cert_file, key_file) {
        (Some(ca), Some(cert), Some(key)) => {
            Some(Tls { ca_file: ca.clone(), cert_file: cert.clone(), key_file: key.clone() })
        }
        _ => None,
    };
    engine_tikv::Config {
        tls,
        gc_lifetime: *gc_lifetime,
        collecting: if *advances_gc { Collecting::Here } else { Collecting::Elsewhere },
        service: format!("orlop/{}", config.key_space.prefix()),
        clock: world.clock.clone(),
        ..engine_tikv::Config::new(pd_endpoints.clone())
    }
}

async fn connect(settings: engine_tikv::Config, clock: &dyn Clock) -> Result<TikvEngine, ConfigError> {
    let mut waited = false;
    loop {
        match TikvEngine::connect(settings.clone()).await {
            Ok(engine) => {
                if waited {
                    info!("TiKV answers");
                }
                return Ok(engine);
            }
            Err(ConnectError::Config(error)) => return Err(error),
            Err(error @ ConnectError::Unreachable { .. }) => {
                warn!(%error, "waiting for TiKV");
                waited = true;
            }
        }
        clock.sleep_until(clock.now() + PAUSE).await;
    }
}

/// A time without it costs the cluster space, and nothing else: so it is tried again at the next one.
async fn forget_old_versions(
    engine: Arc<dyn Engine>,
    interval: Duration,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) -> Result<(), Infallible> {
    while shutdown.or(clock.sleep_until(clock.now() + interval)).await.is_ok() {
        if let Ok(Err(error)) = shutdown.or(engine.reclaim()).await {
            warn!(%error, "old versions were not given up");
        }
    }
    Ok(())
}
