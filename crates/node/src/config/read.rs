use std::path::PathBuf;
use std::time::Duration;

use layout::KeySpace;
use layout::map::PartitionMap;
use server::ClientLimits;
use server::tls::TlsVersion;
use tracing::Level;

use super::args::{self, Wants};
use super::problem::Problems;
use super::setting::Setting;
use super::settings::{CONFIG_FILE, SETTINGS};
use super::source::Source;
use super::url::ListenUrl;
use super::{
    Config, EngineKind, LogConfig, LogFormat, PeerTlsConfig, TikvConfig, TlsConfig, TracingConfig,
    environment, file, help,
};
use crate::commands::{self, OperatorCommand, Parsed};

/// TiKV takes 8 MiB in one entry of its log unless it is told otherwise, and the value is not alone in it.
const TIKV_REQUEST_BYTES_MAX: usize = 4 << 20;

/// What a process was started for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Serve with this configuration.
    Serve(Box<Config>),
    /// Print this text.
    Print(String),
    /// Do this for an operator.
    Operate(Box<OperatorCommand>),
}

/// Reads what to do and with which settings: a flag goes before an environment variable, that before the file, and
/// that before the default. Everything that is wrong is reported, wherever it stands.
pub fn read(source: &dyn Source) -> Result<Command, Problems> {
    let mut problems = Problems::default();
    if let Some(parsed) = commands::parse(source, &mut problems) {
        return match parsed {
            _ if !problems.is_empty() => Err(problems),
            Parsed::Run(command) => Ok(Command::Operate(command)),
            Parsed::Print(text) => Ok(Command::Print(text)),
        };
    }
    let arguments = args::parse(source.arguments(), &mut problems);
    match arguments.wants {
        Wants::Help => return Ok(Command::Print(help::help())),
        Wants::Version => return Ok(Command::Print(help::version())),
        Wants::Serve => {}
    }
    let variables = environment::parse(source.variables(), &mut problems);
    let path = config_file(&arguments.flags).or_else(|| config_file(&variables));
    let settings = match &path {
        Some(path) => file::parse(path.as_ref(), source, &mut problems),
        None => Vec::new(),
    };

    let mut config = unset();
    for setting in SETTINGS {
        assign(&mut config, setting, setting.default, "the default", &mut problems);
    }
    for (setting, value) in &settings {
        let origin = format!("{}: {}", path.as_deref().unwrap_or_default(), setting.name);
        assign(&mut config, setting, value, &origin, &mut problems);
    }
    for (setting, value) in &variables {
        assign(&mut config, setting, value, &setting.variable(), &mut problems);
    }
    for (setting, value) in &arguments.flags {
        assign(&mut config, setting, value, &setting.flag(), &mut problems);
    }
    check(&config, &mut problems);
    if problems.is_empty() { Ok(Command::Serve(Box::new(config))) } else { Err(problems) }
}

/// The file that the last of these settings of it names.
fn config_file(settings: &[(&'static Setting, String)]) -> Option<String> {
    let last = settings.iter().rfind(|(setting, _)| setting.name == CONFIG_FILE)?;
    Some(last.1.clone()).filter(|path| !path.is_empty())
}

fn assign(config: &mut Config, setting: &Setting, value: &str, origin: &str, problems: &mut Problems) {
    if let Err(reason) = (setting.set)(config, value) {
        problems.add(format_args!("{origin}: {value:?}: {reason}"));
    }
}

/// What only the settings together can be asked.
fn check(config: &Config, problems: &mut Problems) {
    let unspecified = config.listen_client_urls.iter().find(|url| url.is_unspecified());
    if let (Some(url), true) = (unspecified, config.advertise_client_urls.is_empty()) {
        problems.add(format_args!(
            "--listen-client-urls: {url} is every address of this machine: say with --advertise-client-urls \
             which URL clients can connect to"
        ));
    }
    let (clients, metrics) = (&config.listen_client_urls, &config.listen_metrics_urls);
    let is_taken = |url: &&ListenUrl| {
        url.address.port() != 0 && clients.iter().any(|other| other.address == url.address)
    };
    if let Some(url) = metrics.iter().find(is_taken) {
        problems.add(format_args!(
            "--listen-metrics-urls: {url} is among --listen-client-urls too, which serve the same"
        ));
    }
    config.client_tls.check(clients, metrics, problems);
    if config.client_permissions_file.is_some() && config.client_tls.trusted_ca_file.is_none() {
        problems.add(
            "--client-permissions-file: clients have names by their certificates: say with --trusted-ca-file which \
             authority signs them",
        );
    }
    let limits = &config.client_limits;
    if limits.connections_per_client_max > limits.connections_max {
        problems.add("--max-connections-per-client: is more than --max-connections");
    }
    if config.engine == EngineKind::Tikv {
        check_tikv(config, problems);
    }
}

/// What TiKV needs, and what it cannot do.
fn check_tikv(config: &Config, problems: &mut Problems) {
    config.peer_tls.check(&config.listen_peer_urls, &config.advertise_peer_urls, problems);
    let unspecified = config.listen_peer_urls.iter().find(|url| url.is_unspecified());
    if let (Some(url), true) = (unspecified, config.advertise_peer_urls.is_empty()) {
        problems.add(format_args!(
            "--listen-peer-urls: {url} is every address of this machine: say with --advertise-peer-urls under which URL \
             the other servers reach it"
        ));
    }
    let TikvConfig { pd_endpoints, ca_file, cert_file, key_file, .. } = &config.tikv;
    if !cfg!(feature = "tikv") {
        problems.add("--engine: \"tikv\": this orlop was built without TiKV (cargo feature `tikv`)");
    }
    if pd_endpoints.is_empty() {
        problems.add("--pd-endpoints: has to be given with --engine tikv, such as 127.0.0.1:2379");
    }
    let files = [ca_file, cert_file, key_file];
    if files.iter().any(|file| file.is_some()) && files.iter().any(|file| file.is_none()) {
        problems.add("--tikv-ca-file, --tikv-cert-file, --tikv-key-file: for TLS all three have to be given");
    }
    if config.quota_backend_bytes > 0 {
        problems.add(
            "--quota-backend-bytes: TiKV does not say what a store occupies, so there is no quota with --engine tikv",
        );
    }
    if config.max_request_bytes > TIKV_REQUEST_BYTES_MAX {
        problems.add(format_args!(
            "--max-request-bytes: with --engine tikv at most {TIKV_REQUEST_BYTES_MAX}: TiKV takes no larger value"
        ));
    }
}

/// A configuration that every default is still to be put into.
fn unset() -> Config {
    Config {
        file: None,
        name: String::new(),
        data_dir: PathBuf::new(),
        engine: EngineKind::Embedded,
        tikv: TikvConfig::default(),
        leader_lease: Duration::ZERO,
        key_space: KeySpace::new("").expect("an empty prefix is allowed"),
        partitions: PartitionMap::default(),
        spreads_partitions: true,
        listen_client_urls: Vec::new(),
        listen_metrics_urls: Vec::new(),
        client_tls: TlsConfig {
            cert_file: None,
            key_file: None,
            trusted_ca_file: None,
            client_cert_auth: false,
            crl_file: None,
            allowed_cns: Vec::new(),
            allowed_hostnames: Vec::new(),
            version_min: TlsVersion::Tls12,
            version_max: None,
            cipher_suites: Vec::new(),
        },
        advertise_client_urls: Vec::new(),
        listen_peer_urls: Vec::new(),
        advertise_peer_urls: Vec::new(),
        peer_tls: PeerTlsConfig::default(),
        watch_progress_notify_interval: Duration::ZERO,
        max_request_bytes: 0,
        max_txn_ops: 0,
        quota_backend_bytes: 0,
        history_bytes_max: 0,
        cache_bytes_max: 0,
        client_permissions_file: None,
        client_limits: ClientLimits::default(),
        log: LogConfig { level: Level::INFO, format: LogFormat::Human },
        tracing: TracingConfig {
            is_on: false,
            address: String::new(),
            service_name: String::new(),
            instance_id: String::new(),
            sampled_per_million: 0,
        },
    }
}
