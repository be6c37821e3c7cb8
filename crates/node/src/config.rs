//! The settings of a process: one table defines them all (`settings::SETTINGS`), and flags, environment variables, the file,
//! `--help` and the reference page are read from it.

mod args;
mod duration;
mod environment;
mod file;
mod help;
mod nearest;
mod problem;
mod read;
mod reference;
mod setting;
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod tls;
mod url;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use layout::KeySpace;
use layout::map::PartitionMap;
use server::ClientLimits;

pub(crate) use duration::at_least as duration_at_least;
pub use problem::Problems;
pub use read::{Command, read};
pub use reference::reference_page;
pub(crate) use setting::{SWITCH, Setting};
pub(crate) use settings::{SETTINGS, TIKV_GC_LIFETIME_MIN};
pub use source::{Process, Source};
pub use tls::{PeerTlsConfig, TlsConfig};
pub use url::ListenUrl;
pub(crate) use values::addresses as tikv_addresses;

/// Everything that a user can choose about a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file that settings were read from, if there was one.
    pub file: Option<PathBuf>,
    /// What the member is called; empty: a name is chosen when it starts.
    pub name: String,
    /// Where the embedded engine keeps its files.
    pub data_dir: PathBuf,
    /// Which engine holds the records.
    pub engine: EngineKind,
    /// What the engine on TiKV needs to know; looked at with [`EngineKind::Tikv`] alone.
    pub tikv: TikvConfig,
    /// How long a leader may be silent before another process takes over; looked at with [`EngineKind::Tikv`] alone.
    pub leader_lease: Duration,
    /// The prefix of all records in the engine.
    pub key_space: KeySpace,
    /// How the keys of a store that is founded are split.
    pub partitions: PartitionMap,
    /// Whether servers that do not lead own partitions too.
    pub spreads_partitions: bool,
    /// Where to listen; at least one.
    pub listen_client_urls: Vec<ListenUrl>,
    /// Where to listen for who asks for nothing but metrics and health.
    pub listen_metrics_urls: Vec<ListenUrl>,
    /// What the URLs with `https://` have for certificates, and whom they let in.
    pub client_tls: TlsConfig,
    /// What clients are told to connect to. Empty: where the server listens.
    pub advertise_client_urls: Vec<String>,
    /// Where to listen for the other servers of the store; at least one. Looked at with [`EngineKind::Tikv`] alone.
    pub listen_peer_urls: Vec<ListenUrl>,
    /// Where the other servers reach this one. Empty: where it listens for them.
    pub advertise_peer_urls: Vec<String>,
    /// The certificates between servers.
    pub peer_tls: PeerTlsConfig,
    /// How often an idle watch hears how far history has come.
    pub watch_progress_notify_interval: Duration,
    /// The largest request that is taken.
    pub max_request_bytes: usize,
    /// The most operations that a transaction may have.
    pub max_txn_ops: usize,
    /// The most bytes that the store may take before writes are refused; 0 is no limit.
    pub quota_backend_bytes: u64,
    /// The bytes of recent history to keep in memory.
    pub history_bytes_max: usize,
    /// The bytes of values to keep in memory.
    pub cache_bytes_max: u64,
    /// Who may read and write which keys; none: whoever is let in, everything.
    pub client_permissions_file: Option<PathBuf>,
    /// What clients may take up.
    pub client_limits: ClientLimits,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Whether and where requests are traced.
    pub tracing: TracingConfig,
}

/// An engine that a server can run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// Files in the data directory.
    Embedded,
    /// Nothing survives the process.
    Memory,
    /// A TiKV cluster.
    Tikv,
}

/// Where a TiKV cluster is, and how old versions of records go there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TikvConfig {
    /// The members of its PD, each as `host:port`.
    pub pd_endpoints: Vec<String>,
    /// The certificates of the authorities that sign those of PD and TiKV. With one of the three files, all three are
    /// there.
    pub ca_file: Option<PathBuf>,
    /// The certificate that PD and TiKV are shown.
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
    /// For how long the cluster keeps old versions.
    pub gc_lifetime: Duration,
    /// Whether this process has the cluster forget them.
    pub advances_gc: bool,
}

impl EngineKind {
    /// The name that the setting has for it.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Embedded => "embedded",
            EngineKind::Memory => "memory",
            EngineKind::Tikv => "tikv",
        }
    }
}

/// Whether requests are traced, and where the traces go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracingConfig {
    /// Whether they are.
    pub is_on: bool,
    /// The collector, as `host:port`.
    pub address: String,
    /// The name of the service that the traces say they are of.
    pub service_name: String,
    /// Which server of the service; empty says nothing.
    pub instance_id: String,
    /// How many requests in a million are traced, of those whose clients say nothing about it.
    pub sampled_per_million: u32,
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The least important records that are written.
    pub level: tracing::Level,
    /// Their form.
    pub format: LogFormat,
}

/// The form of a log record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A line to read.
    Human,
    /// A JSON object on a line.
    Json,
}
