//! Where the store is that a command is about, and how it is looked at.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use engine::{Engine, ReadError, Snapshot};
use engine_embedded::{EmbeddedEngine, OpenError, ReadOnlyEngine};
use layout::KeySpace;
use thiserror::Error;

use crate::config::{Problems, TIKV_GC_LIFETIME_MIN, duration_at_least, tikv_addresses};
use crate::data_dir;

/// As long as a server keeps old versions unless it is told otherwise.
#[cfg(feature = "tikv")]
const GC_LIFETIME: Duration = Duration::from_secs(600);

/// What holds the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum StoreEngine {
    /// Files in the data directory
    #[default]
    Embedded,
    /// A TiKV cluster
    Tikv,
}

/// Where a store is.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreArguments {
    /// The data directory [default: ./orlop-data; variable: ORLOP_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// What every record in the engine begins with [default: nothing; variable: ORLOP_KEY_PREFIX]
    #[arg(long, value_name = "TEXT", value_parser = super::key_space)]
    key_prefix: Option<KeySpace>,
    /// What holds the store [default: embedded; variable: ORLOP_ENGINE]
    #[arg(long, value_name = "NAME")]
    engine: Option<StoreEngine>,
    /// With --engine tikv: the members of PD, as host:port [variable: ORLOP_PD_ENDPOINTS]
    #[arg(long, value_name = "ADDRESSES")]
    pd_endpoints: Option<String>,
    /// With --engine tikv: who signs the certificates of PD and TiKV, PEM [variable: ORLOP_TIKV_CA_FILE]
    #[arg(long, value_name = "FILE")]
    tikv_ca_file: Option<PathBuf>,
    /// With --engine tikv: the certificate to show, PEM [variable: ORLOP_TIKV_CERT_FILE]
    #[arg(long, value_name = "FILE")]
    tikv_cert_file: Option<PathBuf>,
    /// With --engine tikv: its private key, PEM [variable: ORLOP_TIKV_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    tikv_key_file: Option<PathBuf>,
    /// With --engine tikv: as the servers have it. What takes longer than half of it fails
    /// [default: 10m; variable: ORLOP_TIKV_GC_LIFETIME]
    #[arg(long, value_name = "DURATION", value_parser = gc_lifetime)]
    tikv_gc_lifetime: Option<Duration>,
}

fn gc_lifetime(value: &str) -> Result<Duration, String> {
    duration_at_least(value, TIKV_GC_LIFETIME_MIN)
}

/// Why a store cannot be looked at.
#[derive(Debug, Error)]
pub(crate) enum StoreFailure {
    /// The process cannot do it.
    #[error("the command cannot be set up: {0}")]
    SetUp(std::io::Error),
    /// A server uses the directory, or it cannot be used.
    #[error("{}", of_open(.0))]
    Open(#[from] OpenError),
    /// There is something where the data directory is to be.
    #[error(
        "the data directory {} is not empty, and a store is never changed: choose another one with --data-dir, or delete \
         it if it is what an import or a restore has left that broke off",
        .dir.display()
    )]
    NotEmpty { dir: PathBuf },
    /// There is no data directory and none can be made.
    #[error("the data directory {} cannot be used: {source}; choose another one with --data-dir", .dir.display())]
    DataDir { dir: PathBuf, source: std::io::Error },
    /// TiKV is not there, or cannot be used as asked for.
    #[cfg(feature = "tikv")]
    #[error(transparent)]
    Tikv(#[from] engine_tikv::ConnectError),
    /// This program was built without it.
    #[cfg(not(feature = "tikv"))]
    #[error("this orlop was built without TiKV")]
    NotBuilt,
    /// The engine does not answer.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A store that is looked at: nothing in it changes, neither by this process nor, as it is seen here, by others.
pub(super) struct StoreView {
    pub(super) snapshot: Box<dyn Snapshot>,
    pub(super) space: KeySpace,
    /// Bytes of all records, where that is known.
    pub(super) bytes: Option<u64>,
    _engine: Opened,
}

/// Where a store is to be founded.
pub(super) struct Founding {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) space: KeySpace,
}

/// What has to live as long as its snapshot.
enum Opened {
    Embedded {
        _engine: Box<ReadOnlyEngine>,
    },
    #[cfg(feature = "tikv")]
    Tikv {
        _engine: Box<engine_tikv::TikvEngine>,
    },
}

impl StoreArguments {
    /// Takes what was left out from the environment, where it is set.
    pub(super) fn complete(&mut self, variables: &[(OsString, OsString)], problems: &mut Problems) {
        super::complete((&mut self.data_dir, &mut self.key_prefix), variables, problems);
        let set = |name: &str| {
            let found = variables.iter().find(|(variable, value)| variable == name && !value.is_empty());
            found.map(|(_, value)| value)
        };
        if let (None, Some(value)) = (self.engine, set("ORLOP_ENGINE")) {
            match StoreEngine::from_str(&value.to_string_lossy(), true) {
                Ok(engine) => self.engine = Some(engine),
                Err(_) => problems.add("ORLOP_ENGINE: expected embedded or tikv"),
            }
        }
        if self.pd_endpoints.is_none() {
            self.pd_endpoints = set("ORLOP_PD_ENDPOINTS").map(|value| value.to_string_lossy().into_owned());
        }
        for (file, name) in [
            (&mut self.tikv_ca_file, "ORLOP_TIKV_CA_FILE"),
            (&mut self.tikv_cert_file, "ORLOP_TIKV_CERT_FILE"),
            (&mut self.tikv_key_file, "ORLOP_TIKV_KEY_FILE"),
        ] {
            if file.is_none() {
                *file = set(name).map(PathBuf::from);
            }
        }
        if let (None, Some(value)) = (self.tikv_gc_lifetime, set("ORLOP_TIKV_GC_LIFETIME")) {
            match gc_lifetime(&value.to_string_lossy()) {
                Ok(lifetime) => self.tikv_gc_lifetime = Some(lifetime),
                Err(reason) => problems.add(format_args!("ORLOP_TIKV_GC_LIFETIME: {reason}")),
            }
        }
        self.check(problems);
    }

    /// Says what does not fit together.
    fn check(&self, problems: &mut Problems) {
        let endpoints = tikv_addresses(self.pd_endpoints.as_deref().unwrap_or_default());
        match endpoints {
            Err(reason) => problems.add(format_args!("--pd-endpoints: {reason}")),
            Ok(endpoints) if endpoints.is_empty() && self.engine() == StoreEngine::Tikv => {
                problems.add("--pd-endpoints: --engine tikv needs to know where PD is");
            }
            Ok(_) => {}
        }
        let files = [&self.tikv_ca_file, &self.tikv_cert_file, &self.tikv_key_file];
        let given = files.iter().filter(|file| file.is_some()).count();
        if given != 0 && given != files.len() {
            problems.add(
                "--tikv-ca-file, --tikv-cert-file, --tikv-key-file: all three have to be given, or none",
            );
        }
    }

    fn engine(&self) -> StoreEngine {
        self.engine.unwrap_or_default()
    }

    /// What to call the store.
    pub(super) fn place(&self) -> String {
        match self.engine() {
            StoreEngine::Embedded => self.data_dir().display().to_string(),
            StoreEngine::Tikv => format!("TiKV at {}", self.pd_endpoints.as_deref().unwrap_or_default()),
        }
    }

    fn data_dir(&self) -> &Path {
        self.data_dir.as_deref().unwrap_or(Path::new(""))
    }

    fn space(&self) -> Result<KeySpace, StoreFailure> {
        match &self.key_prefix {
            Some(space) => Ok(space.clone()),
            None => super::key_space("").map_err(|reason| StoreFailure::SetUp(std::io::Error::other(reason))),
        }
    }

    /// Looks at the store as it is now. A data directory must have no server; nothing in it is changed.
    pub(super) async fn view(&self) -> Result<StoreView, StoreFailure> {
        let space = self.space()?;
        match self.engine() {
            StoreEngine::Embedded => {
                let engine = ReadOnlyEngine::open(engine_embedded::Config::new(self.data_dir()))?;
                let (snapshot, bytes) = (engine.snapshot()?, Some(engine.usage().live_bytes));
                Ok(StoreView {
                    snapshot,
                    space,
                    bytes,
                    _engine: Opened::Embedded { _engine: Box::new(engine) },
                })
            }
            #[cfg(feature = "tikv")]
            StoreEngine::Tikv => {
                let engine = self.connect(&space).await?;
                let snapshot = engine.snapshot().await?;
                let _engine = Opened::Tikv { _engine: Box::new(engine) };
                Ok(StoreView { snapshot, space, bytes: None, _engine })
            }
            #[cfg(not(feature = "tikv"))]
            StoreEngine::Tikv => Err(StoreFailure::NotBuilt),
        }
    }

    /// Whether a data directory is empty or not there; before long work, so that it is not for nothing.
    pub(super) fn check_free(&self) -> Result<(), StoreFailure> {
        let dir = self.data_dir().to_owned();
        if self.engine() != StoreEngine::Embedded {
            return Ok(());
        }
        match is_empty(&dir) {
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreFailure::NotEmpty { dir }),
            Err(source) => Err(StoreFailure::DataDir { dir, source }),
        }
    }

    /// The engine for a new store. A data directory must be empty or not there; what is on TiKV is for the caller to see.
    pub(super) async fn found(&self) -> Result<Founding, StoreFailure> {
        let space = self.space()?;
        let engine: Arc<dyn Engine> = match self.engine() {
            StoreEngine::Embedded => {
                self.check_free()?;
                let dir = self.data_dir();
                data_dir::create(dir)
                    .map_err(|source| StoreFailure::DataDir { dir: dir.to_owned(), source })?;
                Arc::new(EmbeddedEngine::open(engine_embedded::Config::new(dir))?)
            }
            #[cfg(feature = "tikv")]
            StoreEngine::Tikv => Arc::new(self.connect(&space).await?),
            #[cfg(not(feature = "tikv"))]
            StoreEngine::Tikv => return Err(StoreFailure::NotBuilt),
        };
        Ok(Founding { engine, space })
    }

    #[cfg(feature = "tikv")]
    async fn connect(&self, space: &KeySpace) -> Result<engine_tikv::TikvEngine, engine_tikv::ConnectError> {
        let tls = match (&self.tikv_ca_file, &self.tikv_cert_file, &self.tikv_key_file) {
            (Some(ca), Some(cert), Some(key)) => {
                Some(engine_tikv::Tls { ca_file: ca.clone(), cert_file: cert.clone(), key_file: key.clone() })
            }
            _ => None,
        };
        // They were found right with the other arguments.
        let endpoints = tikv_addresses(self.pd_endpoints.as_deref().unwrap_or_default()).unwrap_or_default();
        let config = engine_tikv::Config {
            tls,
            gc_lifetime: self.tikv_gc_lifetime.unwrap_or(GC_LIFETIME),
            collecting: engine_tikv::Collecting::Elsewhere,
            // Not the servers' own: a command must not say what they need.
            service: format!("orlop-command/{}", space.prefix()),
            ..engine_tikv::Config::new(endpoints)
        };
        engine_tikv::TikvEngine::connect(config).await
    }
}

/// Whether there is nothing at `dir`. What has anything in it may be a store, or what is left of one.
fn is_empty(dir: &Path) -> std::io::Result<bool> {
    match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
        Ok(mut entries) => Ok(entries.next().is_none()),
    }
}

/// A runtime for one command.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, StoreFailure> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().map_err(StoreFailure::SetUp)
}

fn of_open(error: &OpenError) -> String {
    match error {
        OpenError::Locked { dir, pid } => {
            let holder = pid.map_or_else(String::new, |pid| format!(" (process id {pid})"));
            format!(
                "the data directory {} is in use by a server{holder}, and this command needs it to stay as it is: stop \
                 the server first, or look at a snapshot of the file system",
                dir.display()
            )
        }
        other => other.to_string(),
    }
}
