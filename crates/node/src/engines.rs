use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use base::Supervisor;
use engine::{Engine, MemoryEngine};
use engine_embedded::{EmbeddedEngine, OpenError};
use server::Metrics;
use thiserror::Error;
use tokio::sync::watch;

use crate::app::World;
use crate::config::{Config, EngineKind};
use crate::data_dir;
use crate::listen::Listening;
use crate::metrics::EngineObserver;

#[cfg(feature = "tikv")]
mod tikv;

/// Why an engine could not be opened.
#[derive(Debug, Error)]
pub enum EngineError {
    /// There is no data directory and none can be made.
    #[error("the data directory {} cannot be created: {source}; choose another one with --data-dir", .dir.display())]
    DataDir {
        /// The directory.
        dir: PathBuf,
        /// What the operating system answered.
        source: io::Error,
    },
    /// The directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The faults that a suite asks for cannot be read.
    #[cfg(feature = "planted")]
    #[error("{0}")]
    Faults(String),
    /// TiKV cannot be used as it was asked for.
    #[cfg(feature = "tikv")]
    #[error(transparent)]
    Tikv(#[from] engine_tikv::ConfigError),
    /// This program was built without it.
    #[cfg(not(feature = "tikv"))]
    #[error("this orlop was built without TiKV")]
    NotBuilt,
    /// Opening broke off.
    #[error("opening the data directory {} broke off: {reason}", .dir.display())]
    BrokenOff {
        /// The directory.
        dir: PathBuf,
        /// What the thread left behind.
        reason: String,
    },
}

/// Opens the engine that the configuration names.
pub(crate) async fn open_engine(
    config: &Config,
    world: &World,
    metrics: &Metrics,
    listeners: &[Listening],
) -> Result<Arc<dyn Engine>, EngineError> {
    match config.engine {
        #[cfg(feature = "tikv")]
        EngineKind::Tikv => Ok(tikv::open(config, world, listeners).await?),
        #[cfg(not(feature = "tikv"))]
        EngineKind::Tikv => {
            let _ = listeners;
            Err(EngineError::NotBuilt)
        }
        EngineKind::Memory => Ok(Arc::new(MemoryEngine::new())),
        EngineKind::Embedded => {
            let settings = engine_embedded::Config {
                clock: world.clock.clone(),
                random: world.random.clone(),
                observer: Some(Arc::new(EngineObserver::new(metrics.clone()))),
                ..engine_embedded::Config::new(&config.data_dir)
            };
            let engine = open_embedded(settings).await?;
            #[cfg(feature = "planted")]
            let engine =
                crate::engine_faults::wrap(engine, world.clock.clone()).map_err(EngineError::Faults)?;
            Ok(engine)
        }
    }
}

/// Begins what the engine needs done regularly by the process that leads the store, from when `leading` says so.
pub(crate) fn tend(
    config: &Config,
    world: &World,
    engine: &Arc<dyn Engine>,
    (supervisor, leading): (&Supervisor, watch::Receiver<bool>),
) {
    #[cfg(feature = "tikv")]
    if config.engine == EngineKind::Tikv {
        tikv::keep_forgetting(config, engine.clone(), world.clock.clone(), (supervisor, leading));
    }
    #[cfg(not(feature = "tikv"))]
    let _ = (config, world, engine, supervisor, leading);
}

async fn open_embedded(settings: engine_embedded::Config) -> Result<Arc<dyn Engine>, EngineError> {
    let dir = settings.dir.clone();
    data_dir::create(&dir).map_err(|source| EngineError::DataDir { dir: dir.clone(), source })?;
    // Opening reads files: not on a thread that serves.
    match tokio::task::spawn_blocking(move || EmbeddedEngine::open(settings)).await {
        Ok(opened) => Ok(Arc::new(opened?)),
        Err(error) => Err(EngineError::BrokenOff { dir, reason: error.to_string() }),
    }
}
