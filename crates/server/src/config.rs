use std::time::Duration;

/// What the server needs to be told. Data only; what it works with comes in [`crate::Parts`].
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of this member, never empty: clients take a member without a name for one that was never started.
    pub name: String,
    /// The id of this member, never zero: zero means "nobody" in the API.
    pub member_id: u64,
    /// Where clients reach this member: what `MemberList` tells them.
    pub advertise_client_urls: Vec<String>,
    /// The largest request that changes something, in bytes of its encoding, as etcd counts them. A larger one is
    /// refused with `etcdserver: request is too large`; a message that is more than 512 KiB above it is not even
    /// read. Also the size at which a piece of a streamed range is aimed.
    pub max_request_bytes: usize,
    /// The most conditions, and the most operations in each branch, that a transaction may have.
    pub max_txn_ops: usize,
    /// How much the store may occupy before it takes no new data, in bytes. 0, the default, is no quota: how much
    /// fits is then what the disk or the cluster below holds. (In etcd 0 means 2 GiB, a limit that comes from how
    /// etcd stores and that turns a cluster read-only; nothing here gets slower or less safe above it.)
    pub quota_backend_bytes: u64,
    /// How often a watcher that asked for it hears how far it has come while nothing happens.
    pub watch_progress_notify_interval: Duration,
    /// How long a connection may be silent before it is asked whether the client still lives.
    pub keepalive_interval: Duration,
    /// How long the client then has to answer.
    pub keepalive_timeout: Duration,
    /// How long a request that changes something may take before it is answered as timed out: it may still happen
    /// then.
    pub request_timeout: Duration,
    /// What clients may take up.
    pub client_limits: ClientLimits,
}

/// What clients may take up, so that one leaves the others what they need. A client is an IPv4 address, or an IPv6
/// network of /64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Connections of all clients together, at least one.
    pub connections_max: usize,
    /// Connections of one client, at least one. kube-apiserver has one for each kind of object, so hundreds.
    pub connections_per_client_max: usize,
    /// Calls at a time on one connection; the client's library waits with further ones.
    pub streams_per_connection_max: u32,
    /// Calls at a time of one client, streams too.
    pub calls_per_client_max: usize,
    /// Bytes of requests and answers of one client that are in memory, beyond its largest answers.
    pub bytes_per_client_max: usize,
}

impl Default for ClientLimits {
    /// Far beyond what several kube-apiservers behind one address need.
    fn default() -> ClientLimits {
        ClientLimits {
            connections_max: 20_000,
            connections_per_client_max: 4096,
            streams_per_connection_max: 10_000,
            calls_per_client_max: 50_000,
            bytes_per_client_max: 512 << 20,
        }
    }
}

impl Default for Config {
    /// etcd's defaults, but no quota.
    fn default() -> Config {
        Config {
            name: "default".to_owned(),
            member_id: 1,
            advertise_client_urls: vec!["http://localhost:2379".to_owned()],
            max_request_bytes: 1536 << 10,
            max_txn_ops: crate::convert::from_proto::TXN_OPS_MAX_DEFAULT,
            quota_backend_bytes: 0,
            watch_progress_notify_interval: Duration::from_secs(600),
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            request_timeout: Duration::from_secs(7),
            client_limits: ClientLimits::default(),
        }
    }
}
