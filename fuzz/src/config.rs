//! The configuration: whatever stands on the command line, in the environment and in the file, it is read or every
//! problem is told on one line; and what was read says the same when it is written out.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use node::config::{Command, Config, EngineKind, ListenUrl, LogFormat, read};

use server::tls::TlsVersion;

use crate::source::Lines;

/// Reads the input as `Lines` says: `-argument`, `$NAME=value`, `=a line of the file`.
pub fn check(input: &[u8]) {
    let lines = Lines::read(input);
    match read(&lines) {
        Err(problems) => {
            assert!(!problems.lines().is_empty(), "refused for nothing");
            for line in problems.lines() {
                assert!(!line.is_empty() && !line.chars().any(char::is_control), "{line:?} is not one line");
            }
        }
        Ok(Command::Print(text)) => assert!(!text.is_empty()),
        // A command for an operator, with a command line of its own, which clap reads.
        Ok(Command::Operate(_)) => {}
        Ok(Command::Serve(config)) => {
            check_bounds(&config);
            let again = Lines { arguments: written(&config), ..Lines::default() };
            let config = Config { file: None, ..*config };
            assert_eq!(read(&again), Ok(Command::Serve(Box::new(config))), "{again:?}");
        }
    }
}

/// What `docs/configuration.md` promises of every configuration.
fn check_bounds(config: &Config) {
    assert!(!config.listen_client_urls.is_empty() && !config.listen_peer_urls.is_empty());
    assert!(config.name.is_empty() || !config.name.trim().is_empty());
    assert!(config.watch_progress_notify_interval.as_millis() >= 100);
    assert!((1..=64 << 20).contains(&config.max_request_bytes));
    assert!((1..=65_536).contains(&config.max_txn_ops));
    assert!(config.tikv.gc_lifetime.as_secs() >= 60 && config.leader_lease.as_millis() >= 500);
    if config.engine == EngineKind::Tikv {
        assert!(!config.tikv.pd_endpoints.is_empty() && config.quota_backend_bytes == 0);
        assert!(config.max_request_bytes <= 4 << 20);
    }
    assert!(!config.tracing.address.is_empty() && config.tracing.sampled_per_million <= 1_000_000);
    let limits = &config.client_limits;
    assert!(limits.connections_per_client_max >= 1);
    assert!(limits.connections_per_client_max <= limits.connections_max);
    assert!(limits.streams_per_connection_max >= 1 && limits.calls_per_client_max >= 1);
    let tls = &config.client_tls;
    assert_eq!(tls.settings().is_some(), tls.cert_file.is_some());
    assert!(tls.trusted_ca_file.is_some() || !tls.client_cert_auth && tls.crl_file.is_none());
    if config.engine == EngineKind::Tikv {
        let unspecified = config.listen_peer_urls.iter().any(|url| url.is_unspecified());
        assert!(!unspecified || !config.advertise_peer_urls.is_empty());
        let is_tls = config.listen_peer_urls.iter().any(|url| url.is_tls);
        assert!(!is_tls || config.peer_tls.settings().is_some() && config.peer_tls.connector().is_some());
    }
    for url in &config.listen_client_urls {
        assert!(!url.is_tls || tls.settings().is_some());
        assert!(!url.is_unspecified() || !config.advertise_client_urls.is_empty());
    }
}

/// The flags that say what a configuration holds.
fn written(config: &Config) -> Vec<OsString> {
    let urls = |urls: &[ListenUrl]| urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let limits = &config.client_limits;
    let format = match config.log.format {
        LogFormat::Human => "human",
        LogFormat::Json => "json",
    };
    let quota = config.quota_backend_bytes.to_string();
    let prefix = prefix_of(config);
    let splits: Vec<_> =
        config.partitions.splits().map(|key| String::from_utf8_lossy(key).into_owned()).collect();
    let (tikv, tls) = (&config.tikv, &config.client_tls);
    let suites: Vec<_> = tls.cipher_suites.iter().map(|suite| suite.name()).collect();
    let file =
        |file: &Option<PathBuf>| file.as_deref().unwrap_or(Path::new("")).to_string_lossy().into_owned();
    [
        ("name", config.name.clone()),
        ("data-dir", config.data_dir.to_string_lossy().into_owned()),
        ("listen-client-urls", urls(&config.listen_client_urls)),
        ("advertise-client-urls", config.advertise_client_urls.join(",")),
        ("listen-peer-urls", urls(&config.listen_peer_urls)),
        ("advertise-peer-urls", config.advertise_peer_urls.join(",")),
        ("peer-cert-file", file(&config.peer_tls.cert_file)),
        ("peer-key-file", file(&config.peer_tls.key_file)),
        ("peer-trusted-ca-file", file(&config.peer_tls.trusted_ca_file)),
        ("peer-client-cert-auth", config.peer_tls.client_cert_auth.to_string()),
        ("watch-progress-notify-interval", format!("{}ns", config.watch_progress_notify_interval.as_nanos())),
        ("max-request-bytes", config.max_request_bytes.to_string()),
        ("max-txn-ops", config.max_txn_ops.to_string()),
        ("quota-backend-bytes", quota),
        ("log-level", config.log.level.to_string()),
        ("engine", config.engine.name().to_owned()),
        ("pd-endpoints", tikv.pd_endpoints.join(",")),
        ("listen-metrics-urls", urls(&config.listen_metrics_urls)),
        ("max-concurrent-streams", limits.streams_per_connection_max.to_string()),
        ("max-connections", limits.connections_max.to_string()),
        ("max-connections-per-client", limits.connections_per_client_max.to_string()),
        ("max-calls-per-client", limits.calls_per_client_max.to_string()),
        ("max-inflight-bytes-per-client", limits.bytes_per_client_max.to_string()),
        ("client-permissions-file", file(&config.client_permissions_file)),
        ("cert-file", file(&tls.cert_file)),
        ("key-file", file(&tls.key_file)),
        ("trusted-ca-file", file(&tls.trusted_ca_file)),
        ("client-cert-auth", tls.client_cert_auth.to_string()),
        ("client-crl-file", file(&tls.crl_file)),
        ("client-cert-allowed-cn", tls.allowed_cns.join(",")),
        ("client-cert-allowed-hostname", tls.allowed_hostnames.join(",")),
        ("tls-min-version", tls.version_min.name().to_owned()),
        ("tls-max-version", tls.version_max.map_or("", TlsVersion::name).to_owned()),
        ("cipher-suites", suites.join(",")),
        ("tikv-ca-file", file(&tikv.ca_file)),
        ("tikv-cert-file", file(&tikv.cert_file)),
        ("tikv-key-file", file(&tikv.key_file)),
        ("tikv-gc-lifetime", format!("{}ns", tikv.gc_lifetime.as_nanos())),
        ("leader-lease", format!("{}ns", config.leader_lease.as_nanos())),
        ("tikv-gc", if tikv.advances_gc { "advance" } else { "hold" }.to_owned()),
        ("key-prefix", prefix),
        ("initial-partition-splits", splits.join(",")),
        ("partition-owners", if config.spreads_partitions { "all" } else { "leader" }.to_owned()),
        ("history-bytes", config.history_bytes_max.to_string()),
        ("cache-bytes", config.cache_bytes_max.to_string()),
        ("log-format", format.to_owned()),
        ("enable-distributed-tracing", config.tracing.is_on.to_string()),
        ("distributed-tracing-address", config.tracing.address.clone()),
        ("distributed-tracing-service-name", config.tracing.service_name.clone()),
        ("distributed-tracing-instance-id", config.tracing.instance_id.clone()),
        ("distributed-tracing-sampling-rate", config.tracing.sampled_per_million.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| OsString::from(format!("--{name}={value}")))
    .collect()
}

/// What stands before the kind in a record's key.
fn prefix_of(config: &Config) -> String {
    let key = config.key_space.compacted_key();
    let end = key.iter().position(|&byte| byte == 1).unwrap_or_default();
    String::from_utf8_lossy(&key[..end]).into_owned()
}
