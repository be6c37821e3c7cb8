use std::time::Duration;

use layout::KeySpace;
use server::tls::TlsVersion;
use tracing::Level;

use super::setting::{Family, SWITCH, Setting};
use super::{EngineKind, LogConfig, LogFormat, duration, url, values};

/// One request has to fit several times into the memory that waiting writes may take.
const REQUEST_BYTES_MAX: usize = 64 << 20;
/// All other writes wait while one transaction is evaluated.
const TXN_OPS_MAX: usize = 65_536;
/// Below it, progress would be most of what the server sends; etcd has the same bound.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// A list of a large cluster takes seconds, and has to be over in half of this.
pub(crate) const TIKV_GC_LIFETIME_MIN: Duration = Duration::from_secs(60);
/// A heartbeat is a commit, and four of them have to fit.
const LEADER_LEASE_MIN: Duration = Duration::from_millis(500);
/// Each connection is a file, and a process has no more.
const CONNECTIONS_MAX: usize = 1_000_000;
/// Each takes some kilobytes.
const CALLS_MAX: usize = 1_000_000;
/// The largest requests have to fit.
const INFLIGHT_BYTES_MIN: u64 = 128 << 20;
/// Above it the bytes could not be addressed on every machine.
const MEMORY_BYTES_MAX: u64 = 1 << 40;

/// Every setting, in the order of help and reference page. Its families must each stand together.
pub(crate) static SETTINGS: &[Setting] = &[
    Setting {
        name: "name",
        value: "NAME",
        default: "",
        family: Family::Etcd,
        summary: "The name in member lists (default: `default`; on TiKV one of its own)",
        detail: "The member's id is derived from it and the store's own id: another name is another id. Without it a server \
                 is called `default`; with `--engine tikv` by the machine's name and a random part. Of two servers of a \
                 store with one name the one that was started first stops.",
        set: |config, value| values::name(value).map(|name| config.name = name.to_owned()),
    },
    Setting {
        name: "data-dir",
        value: "DIR",
        default: "./orlop-data",
        family: Family::Etcd,
        summary: "Where the data is kept",
        detail: "Created if it is missing, for its owner only. One process at a time can use it. What a write \
                 costs is mostly how long this disk takes to make it durable (fsync). Only used with `--engine embedded`.",
        set: |config, value| values::text(value).map(|dir| config.data_dir = dir.into()),
    },
    Setting {
        name: "listen-client-urls",
        value: "URLS",
        default: "http://127.0.0.1:2379",
        family: Family::Etcd,
        summary: "Where to listen, separated by commas",
        detail: "`http://` or `https://` with an IP address or `localhost`, and a port; port 0 takes a free one. gRPC \
                 and HTTP share the port. `https://` needs `--cert-file` and `--key-file`. Whoever reaches an `http://` \
                 address can read and change everything, and so can everybody who reaches an `https://` address \
                 without `--trusted-ca-file`.",
        set: |config, value| url::listen(value).map(|urls| config.listen_client_urls = urls),
    },
    Setting {
        name: "advertise-client-urls",
        value: "URLS",
        default: "",
        family: Family::Etcd,
        summary: "The URLs that member lists show to clients (default: where it listens)",
        detail: "Clients that ask for the members connect to these. Has to be given when the server listens on \
                 `0.0.0.0` or `[::]`, which nobody can connect to.",
        set: |config, value| url::advertise(value).map(|urls| config.advertise_client_urls = urls),
    },
    Setting {
        name: "listen-peer-urls",
        value: "URLS",
        default: "http://127.0.0.1:2380",
        family: Family::Etcd,
        summary: "Where to listen for the other servers, separated by commas",
        detail: "Only used with `--engine tikv`, where several servers serve a store. In the form of \
                 `--listen-client-urls`; `https://` needs the three `--peer-` files. Whoever reaches an `http://` address \
                 can change everything: it is for the other servers alone. Each server of a machine needs a port of \
                 its own.",
        set: |config, value| url::listen(value).map(|urls| config.listen_peer_urls = urls),
    },
    Setting {
        name: "advertise-peer-urls",
        value: "URLS",
        default: "",
        family: Family::Etcd,
        summary: "Where the other servers reach this one (default: where it listens)",
        detail: "`http://` or `https://`, a host and a port. The first one is written into the store when this server leads, and the \
                 others connect to it. Has to be given when it listens on `0.0.0.0` or `[::]`, and where the others are \
                 on other machines.",
        set: |config, value| url::advertise(value).map(|urls| config.advertise_peer_urls = urls),
    },
    Setting {
        name: "peer-cert-file",
        value: "FILE",
        default: "",
        family: Family::Etcd,
        summary: "The certificate that the other servers are shown, PEM",
        detail: "Used on both sides of a connection: it has to be good for a server under the host of \
                 `--advertise-peer-urls`, and for a client. This and the two other `--peer-` files are read again after a \
                 change, for new connections. All three have to be given, or none.",
        set: |config, value| values::file(value).map(|file| config.peer_tls.cert_file = file),
    },
    Setting {
        name: "peer-key-file",
        value: "FILE",
        default: "",
        family: Family::Etcd,
        summary: "The private key of that certificate, PEM",
        detail: "PKCS#8, PKCS#1 or SEC1, not encrypted.",
        set: |config, value| values::file(value).map(|file| config.peer_tls.key_file = file),
    },
    Setting {
        name: "peer-trusted-ca-file",
        value: "FILE",
        default: "",
        family: Family::Etcd,
        summary: "Which servers to connect with and let in, PEM",
        detail: "The certificates of the authorities that sign those of the store's servers: of nothing else, because \
                 whoever has one can change everything.",
        set: |config, value| values::file(value).map(|file| config.peer_tls.trusted_ca_file = file),
    },
    Setting {
        name: "peer-client-cert-auth",
        value: SWITCH,
        default: "false",
        family: Family::Etcd,
        summary: "Let in only servers with a certificate",
        detail: "`--peer-trusted-ca-file` alone does the same.",
        set: |config, value| {
            values::choice(value, &SWITCH_POSITIONS).map(|is_on| config.peer_tls.client_cert_auth = is_on)
        },
    },
    Setting {
        name: "listen-metrics-urls",
        value: "URLS",
        default: "",
        family: Family::Etcd,
        summary: "Where to answer for metrics and health alone, separated by commas",
        detail: "As `--listen-client-urls`, `https://` with the same certificates and demands. `/metrics`, `/health`, \
                 `/livez` and `/readyz` are answered there and nothing else, so that the URL can be open to who must \
                 not reach the keys. As with etcd the client URLs answer them too.",
        set: |config, value| url::listen_or_not(value).map(|urls| config.listen_metrics_urls = urls),
    },
    Setting {
        name: "cert-file",
        value: "FILE",
        default: "",
        family: Family::Etcd,
        summary: "The certificate for https:// URLs, PEM",
        detail: "The server's own certificate first, then those between it and the root. This file, `--key-file`, \
                 `--trusted-ca-file` and `--client-crl-file` are read again within a second of a change, for new \
                 connections; files that cannot be used change nothing and are warned of. RSA keys from 2048 bits, \
                 ECDSA with P-256 or P-384, Ed25519.",
        set: |config, value| values::file(value).map(|file| config.client_tls.cert_file = file),
    },
    Setting {
        name: "key-file",
        value: "FILE",
        default: "",
        family: Family::Etcd,
        summary: "The private key of that certificate, PEM",
        detail: "PKCS#8, PKCS#1 or SEC1, not encrypted.",
        set: |config, value| values::file(value).map(|file| config.client_tls.key_file = file),
    },
    Setting {
        name: "trusted-ca-file",
        value: "FILE",
        default: "",
        family: Family::Etcd,
        summary: "Whose clients to let in on https:// URLs, PEM; turns client certificates on",
        detail: "The certificates of the authorities that sign those of clients. With it every client has to show a \
                 certificate that is good for clients, also without `--client-cert-auth`, as with etcd.",
        set: |config, value| values::file(value).map(|file| config.client_tls.trusted_ca_file = file),
    },
    Setting {
        name: "client-cert-auth",
        value: SWITCH,
        default: "false",
        family: Family::Etcd,
        summary: "Let in only clients with a certificate",
        detail: "Needs `--trusted-ca-file` (etcd falls back to the authorities that the system trusts), which alone \
                 does the same.",
        set: |config, value| {
            values::choice(value, &SWITCH_POSITIONS).map(|is_on| config.client_tls.client_cert_auth = is_on)
        },
    },
    Setting {
        name: "client-crl-file",
        value: "FILE",
        default: "",
        family: Family::Etcd,
        summary: "Certificates of clients that were taken back: revocation lists, PEM or DER",
        detail: "Lists of the authorities that sign the certificates; an authority without a list has taken nothing \
                 back. A list counts when its authority has signed it, also when it is out of date (etcd looks at \
                 serial numbers alone). Connections that exist stay.",
        set: |config, value| values::file(value).map(|file| config.client_tls.crl_file = file),
    },
    Setting {
        name: "client-cert-allowed-hostname",
        value: "NAMES",
        default: "",
        family: Family::Etcd,
        summary: "Let in only clients whose certificate is for one of these hosts",
        detail: "Host names or IP addresses, separated by commas, looked for among the certificate's alternative names. \
                 Not together with `--client-cert-allowed-cn`.",
        set: |config, value| values::hosts(value).map(|names| config.client_tls.allowed_hostnames = names),
    },
    Setting {
        name: "tls-min-version",
        value: "VERSION",
        default: "TLS1.2",
        family: Family::Etcd,
        summary: "The oldest version of TLS to speak: TLS1.2 or TLS1.3",
        detail: "`TLS1.2` or `TLS1.3`.",
        set: |config, value| {
            values::choice(value, &TLS_VERSIONS).map(|version| config.client_tls.version_min = version)
        },
    },
    Setting {
        name: "tls-max-version",
        value: "VERSION",
        default: "",
        family: Family::Etcd,
        summary: "The newest version of TLS to speak: TLS1.2 or TLS1.3 (default: the newest there is)",
        detail: "`TLS1.2` or `TLS1.3`; empty is the newest there is.",
        set: |config, value| {
            config.client_tls.version_max = match value {
                "" => None,
                value => Some(values::choice(value, &TLS_VERSIONS)?),
            };
            Ok(())
        },
    },
    Setting {
        name: "cipher-suites",
        value: "NAMES",
        default: "",
        family: Family::Etcd,
        summary: "The cipher suites of TLS 1.2, separated by commas (default: all that are safe)",
        detail: "By the names that Go has for them, such as `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256`. Those of \
                 TLS 1.3 are all on, named or not, as with etcd; with `--tls-min-version TLS1.3` nothing can be named. Suites without forward secrecy \
                 or with CBC, which etcd still knows, are not there.",
        set: |config, value| {
            values::cipher_suites(value).map(|suites| config.client_tls.cipher_suites = suites)
        },
    },
    Setting {
        name: "watch-progress-notify-interval",
        value: "DURATION",
        default: "10m",
        family: Family::Etcd,
        summary: "How often a watch without events hears how far history has come",
        detail: "As `10m`, `5s` or `1m30s`; at least `100ms`. Only watches that ask for it get it. kubeadm sets `5s` \
                 for kube-apiserver: then a watch resumes after a restart from a revision that was not compacted yet.",
        set: |config, value| {
            duration::at_least(value, PROGRESS_INTERVAL_MIN)
                .map(|interval| config.watch_progress_notify_interval = interval)
        },
    },
    Setting {
        name: "max-request-bytes",
        value: "BYTES",
        default: "1572864",
        family: Family::Etcd,
        summary: "The largest request that is taken",
        detail: "From 1 to 67108864. A larger one is refused with `etcdserver: request is too large`. \
                 Large requests hold up those behind them.",
        set: |config, value| {
            values::number(value, 1..=REQUEST_BYTES_MAX).map(|bytes| config.max_request_bytes = bytes)
        },
    },
    Setting {
        name: "max-txn-ops",
        value: "COUNT",
        default: "128",
        family: Family::Etcd,
        summary: "The most operations that a transaction may have",
        detail: "From 1 to 65536. Counted as etcd does: compares, success and failure operations each.",
        set: |config, value| values::number(value, 1..=TXN_OPS_MAX).map(|ops| config.max_txn_ops = ops),
    },
    Setting {
        name: "max-concurrent-streams",
        value: "COUNT",
        default: "10000",
        family: Family::Etcd,
        summary: "The most calls at a time on one connection",
        detail: "From 1 to 4294967295, etcd's default. A client's library waits with further calls until one ends; a \
                 watch stream is one call, with any number of watchers.",
        set: |config, value| {
            values::number(value, 1..=u32::MAX)
                .map(|count| config.client_limits.streams_per_connection_max = count)
        },
    },
    Setting {
        name: "quota-backend-bytes",
        value: "BYTES",
        default: "0",
        family: Family::Etcd,
        summary: "Refuse writes when the store takes more than this; 0: no quota",
        detail: "0 or below is no quota: the disk is the limit (in etcd, 0 is 2 GiB). Beyond the quota the NOSPACE \
                 alarm is raised and writes are refused; reads, deletions and compaction go on.",
        set: |config, value| {
            values::number(value, i64::MIN..=i64::MAX)
                .map(|bytes| config.quota_backend_bytes = u64::try_from(bytes).unwrap_or(0))
        },
    },
    Setting {
        name: "enable-distributed-tracing",
        value: SWITCH,
        default: "false",
        family: Family::Etcd,
        summary: "Trace requests, and send the traces to an OpenTelemetry collector",
        detail: "A request is traced when its client says so in W3C's `traceparent` (kube-apiserver with its own tracing \
                 does), or as `--distributed-tracing-sampling-rate` says. What a collector does not take is lost, and \
                 holds up nothing.",
        set: |config, value| {
            values::choice(value, &SWITCH_POSITIONS).map(|is_on| config.tracing.is_on = is_on)
        },
    },
    Setting {
        name: "distributed-tracing-address",
        value: "ADDRESS",
        default: "localhost:4317",
        family: Family::Etcd,
        summary: "Where the collector takes OTLP over gRPC",
        detail: "As `host:port`. Traces go in the clear and have the names of methods in them, never keys or values: a \
                 collector elsewhere is reached through one on this machine.",
        set: |config, value| values::address(value).map(|address| config.tracing.address = address),
    },
    Setting {
        name: "distributed-tracing-service-name",
        value: "NAME",
        default: "orlop",
        family: Family::Etcd,
        summary: "The service that traces are of",
        detail: "The same for all servers of a store (etcd says `etcd`).",
        set: |config, value| values::name(value).map(|name| config.tracing.service_name = name.to_owned()),
    },
    Setting {
        name: "distributed-tracing-instance-id",
        value: "NAME",
        default: "",
        family: Family::Etcd,
        summary: "Which server of the service traces are of",
        detail: "Each server needs one of its own.",
        set: |config, value| values::name(value).map(|name| config.tracing.instance_id = name.to_owned()),
    },
    Setting {
        name: "distributed-tracing-sampling-rate",
        value: "COUNT",
        default: "0",
        family: Family::Etcd,
        summary: "How many requests in a million to trace where clients say nothing of it",
        detail: "From 0 to 1000000. A traced write costs some microseconds of processor time more.",
        set: |config, value| {
            values::number(value, 0..=1_000_000).map(|count| config.tracing.sampled_per_million = count)
        },
    },
    Setting {
        name: "log-level",
        value: "LEVEL",
        default: "info",
        family: Family::Etcd,
        summary: "The least important records to log: error, warn, info, debug or trace",
        detail: "`error`, `warn`, `info`, `debug` or `trace`. Keys and values of users are not logged at `info`; \
                 `debug` and `trace` cost speed.",
        set: |config, value| {
            values::choice(value, &LOG_LEVELS).map(|level| config.log = LogConfig { level, ..config.log })
        },
    },
    Setting {
        name: "engine",
        value: "ENGINE",
        default: "embedded",
        family: Family::Own,
        summary: "What holds the data: embedded (files in the data directory), tikv, memory",
        detail: "`embedded` keeps it in the data directory and answers a write once it is durable. `tikv` keeps it in a \
                 TiKV cluster, where several servers can be started for a store: all serve, and one leads. `memory` keeps nothing beyond the process: for tests.",
        set: |config, value| values::choice(value, &ENGINES).map(|engine| config.engine = engine),
    },
    Setting {
        name: "pd-endpoints",
        value: "ADDRESSES",
        default: "",
        family: Family::Own,
        summary: "The members of TiKV's PD, separated by commas",
        detail: "Needed with `--engine tikv`. Each as `host:port`; `http://` or `https://` in front is passed over. One that answers is enough. While \
                 none does, the server waits: `/livez` says ok and `/readyz` does not.",
        set: |config, value| values::addresses(value).map(|addresses| config.tikv.pd_endpoints = addresses),
    },
    Setting {
        name: "tikv-ca-file",
        value: "FILE",
        default: "",
        family: Family::Own,
        summary: "Whose certificates to believe of PD and TiKV, PEM; turns TLS on",
        detail: "Needs `--tikv-cert-file` and `--tikv-key-file`, too. Without the three everything goes in the clear: \
                 only for a network that you trust.",
        set: |config, value| values::file(value).map(|file| config.tikv.ca_file = file),
    },
    Setting {
        name: "tikv-cert-file",
        value: "FILE",
        default: "",
        family: Family::Own,
        summary: "The certificate that PD and TiKV are shown, PEM",
        detail: "Read when the server starts.",
        set: |config, value| values::file(value).map(|file| config.tikv.cert_file = file),
    },
    Setting {
        name: "tikv-key-file",
        value: "FILE",
        default: "",
        family: Family::Own,
        summary: "The private key of that certificate, PEM",
        detail: "Read when the server starts.",
        set: |config, value| values::file(value).map(|file| config.tikv.key_file = file),
    },
    Setting {
        name: "tikv-gc-lifetime",
        value: "DURATION",
        default: "10m",
        family: Family::Own,
        summary: "For how long TiKV keeps old versions of records",
        detail: "At least `1m`. A read that takes longer than half of it fails. Old versions cost space and make scans \
                 slower.",
        set: |config, value| {
            duration::at_least(value, TIKV_GC_LIFETIME_MIN).map(|time| config.tikv.gc_lifetime = time)
        },
    },
    Setting {
        name: "tikv-gc",
        value: "WHO",
        default: "advance",
        family: Family::Own,
        summary: "Who has TiKV forget: advance (this process) or hold (another)",
        detail: "`advance` settles old locks and moves the safe point of the whole cluster, not beyond what other services \
                 registered with PD: right where nothing else does. `hold` only registers what this store needs: right \
                 where a TiDB uses the same cluster.",
        set: |config, value| {
            values::choice(value, &TIKV_GC).map(|advances| config.tikv.advances_gc = advances)
        },
    },
    Setting {
        name: "leader-lease",
        value: "DURATION",
        default: "2s",
        family: Family::Own,
        summary: "How long a leader on TiKV may be silent before another server takes over",
        detail: "At least `500ms`, and the same for all servers of a store. Only used with `--engine tikv`, where one \
                 server leads: without it the others answer no write and no read of the newest. Shorter means a shorter gap after a crash; longer bears longer pauses \
                 of the leader and of TiKV. A leader that is asked to stop hands over at once.",
        set: |config, value| {
            duration::at_least(value, LEADER_LEASE_MIN).map(|lease| config.leader_lease = lease)
        },
    },
    Setting {
        name: "key-prefix",
        value: "TEXT",
        default: "",
        family: Family::Own,
        summary: "What every record in the engine begins with",
        detail: "At most 64 printable ASCII characters. Stores with different prefixes can share an engine. It is not \
                 part of the keys that clients see. Data written under one prefix is not seen under another.",
        set: |config, value| match KeySpace::new(value) {
            Ok(space) => {
                config.key_space = space;
                Ok(())
            }
            Err(_) => Err("expected at most 64 printable ASCII characters".to_owned()),
        },
    },
    Setting {
        name: "initial-partition-splits",
        value: "KEYS",
        default: "",
        family: Family::Own,
        summary: "Where the keys of a new store are split into partitions, each with a log of its own",
        detail: "Keys in ascending order, separated by commas: each is the first of a partition. `kubernetes` stands for \
                 the borders of the busiest resources under `/registry/`: events, leases, nodes, pods. Only used when a \
                 store is founded; it keeps its partitions. Without it there is one. Partitions are written at the same \
                 time: then a number may be left out in the order of revisions, and of one transaction's events over \
                 several partitions those of one partition come together.",
        set: |config, value| values::partitions(value).map(|map| config.partitions = map),
    },
    Setting {
        name: "partition-owners",
        value: "WHO",
        default: "all",
        family: Family::Own,
        summary: "Which servers write to the partitions: `all`, or the `leader` alone",
        detail: "Only used with `--engine tikv`. With `all` the leader gives partitions to the other servers, about as many                  to each, and takes back those of one that stops or is silent for a lease; it numbers what they write. What                  touches several partitions is written by the leader, which fetches them back for that. The leader's                  setting counts for what it gives, and each server's own for what it takes.",
        set: |config, value| {
            values::choice(value, &PARTITION_OWNERS).map(|spreads| config.spreads_partitions = spreads)
        },
    },
    Setting {
        name: "client-cert-allowed-cn",
        value: "NAMES",
        default: "",
        family: Family::Own,
        summary: "Let in only clients whose certificate has one of these common names",
        detail: "Separated by commas. Not together with `--client-cert-allowed-hostname`. etcd has it for peers \
                 (`--peer-cert-allowed-cn`).",
        set: |config, value| {
            config.client_tls.allowed_cns = values::list(value);
            Ok(())
        },
    },
    Setting {
        name: "client-permissions-file",
        value: "FILE",
        default: "",
        family: Family::Own,
        summary: "Which client may read and write which keys, by the name in its certificate, TOML",
        detail: "Needs `--trusted-ca-file`. See [security](security.md#who-may-do-what) for what is in it. Without it whoever \
                 is let in may do everything. Read again within a second of a change; a file that cannot be used changes \
                 nothing and is warned of.",
        set: |config, value| values::file(value).map(|file| config.client_permissions_file = file),
    },
    Setting {
        name: "max-connections",
        value: "COUNT",
        default: "20000",
        family: Family::Own,
        summary: "The most connections of all clients together",
        detail: "From 1 to 1000000. A further one is closed at once. When the process may open fewer files, less 256 \
                 for itself, then that counts.",
        set: |config, value| {
            values::number(value, 1..=CONNECTIONS_MAX)
                .map(|count| config.client_limits.connections_max = count)
        },
    },
    Setting {
        name: "max-connections-per-client",
        value: "COUNT",
        default: "4096",
        family: Family::Own,
        summary: "The most connections from one address",
        detail: "At most `--max-connections`. A client is an IPv4 address or an IPv6 network of /64. kube-apiserver has a \
                 connection for each kind of object. Set it higher for clients behind one proxy.",
        set: |config, value| {
            values::number(value, 1..=CONNECTIONS_MAX)
                .map(|count| config.client_limits.connections_per_client_max = count)
        },
    },
    Setting {
        name: "max-calls-per-client",
        value: "COUNT",
        default: "50000",
        family: Family::Own,
        summary: "The most calls at a time from one address, streams too",
        detail: "From 1 to 1000000. A further one is refused with `etcdserver: too many requests`, and has not happened.",
        set: |config, value| {
            values::number(value, 1..=CALLS_MAX)
                .map(|count| config.client_limits.calls_per_client_max = count)
        },
    },
    Setting {
        name: "max-inflight-bytes-per-client",
        value: "BYTES",
        default: "536870912",
        family: Family::Own,
        summary: "The most memory for requests and answers of one address",
        detail: "Above it, calls are refused with `etcdserver: too many requests`, and have not happened. Answers count \
                 until the client has taken them; one that is being made is finished, however large it is.",
        set: |config, value| {
            let bytes = values::number(value, INFLIGHT_BYTES_MIN..=MEMORY_BYTES_MAX)?;
            config.client_limits.bytes_per_client_max =
                usize::try_from(bytes).map_err(|_| "too large for this machine".to_owned())?;
            Ok(())
        },
    },
    Setting {
        name: "history-bytes",
        value: "BYTES",
        default: "67108864",
        family: Family::Own,
        summary: "Memory for recent changes",
        detail: "Watches that are within it read no disk; older ones read the engine, which is slower and no less \
                 complete.",
        set: |config, value| {
            let bytes = values::number(value, 0..=MEMORY_BYTES_MAX)?;
            config.history_bytes_max =
                usize::try_from(bytes).map_err(|_| "too large for this machine".to_owned())?;
            Ok(())
        },
    },
    Setting {
        name: "cache-bytes",
        value: "BYTES",
        default: "67108864",
        family: Family::Own,
        summary: "Memory for values",
        detail: "Reads of what is in it touch no disk. The keys themselves are always in memory, beside this. 0 keeps \
                 no values.",
        set: |config, value| {
            values::number(value, 0..=MEMORY_BYTES_MAX).map(|bytes| config.cache_bytes_max = bytes)
        },
    },
    Setting {
        name: "log-format",
        value: "FORMAT",
        default: "human",
        family: Family::Own,
        summary: "How to log, on standard error: human or json",
        detail: "`human` (lines to read, in colour on a terminal) or `json` (an object on each line). With `json` \
                 nothing is written to standard output.",
        set: |config, value| {
            values::choice(value, &LOG_FORMATS).map(|format| config.log = LogConfig { format, ..config.log })
        },
    },
    Setting {
        name: CONFIG_FILE,
        value: "FILE",
        default: "",
        family: Family::Own,
        summary: "A TOML file with settings",
        detail: "Its keys are the names of the flags without dashes in front. Environment variables and flags go \
                 before it. It cannot name another file.",
        set: |config, value| {
            config.file = (!value.is_empty()).then(|| value.into());
            Ok(())
        },
    },
];

/// The setting that says where the others are.
pub(crate) const CONFIG_FILE: &str = "config-file";

const LOG_LEVELS: [(&str, Level); 5] = [
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];

const LOG_FORMATS: [(&str, LogFormat); 2] = [("human", LogFormat::Human), ("json", LogFormat::Json)];

const ENGINES: [(&str, EngineKind); 3] =
    [("embedded", EngineKind::Embedded), ("tikv", EngineKind::Tikv), ("memory", EngineKind::Memory)];

const SWITCH_POSITIONS: [(&str, bool); 2] = [("true", true), ("false", false)];

const TLS_VERSIONS: [(&str, TlsVersion); 2] = [("TLS1.2", TlsVersion::Tls12), ("TLS1.3", TlsVersion::Tls13)];

const PARTITION_OWNERS: [(&str, bool); 2] = [("all", true), ("leader", false)];

const TIKV_GC: [(&str, bool); 2] = [("advance", true), ("hold", false)];

/// The setting with this name.
pub(crate) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}
