//! What the server counts, under etcd's names where the meaning is etcd's, so that its dashboards and alerts work.
//!
//! Counters are registered without `_total`: the encoder adds it. What etcd calls a total but can go down is a
//! gauge here as it is there.

mod fleet;
mod grpc;
mod histogram;
mod maintenance;
mod measured;
mod process;
mod published;
mod reference;
mod runtime;
mod store;
mod text;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use base::Clock;
use engine::Engine;
use partition::{BranchOutcome, OpOutcome, TxnOutcome};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tonic::{Code, Status};

use crate::error::EtcdError;

pub(crate) use fleet::FleetMetrics;
pub(crate) use grpc::{GrpcMetrics, Method};
pub(crate) use histogram::Histogram;
pub(crate) use maintenance::MaintenanceMetrics;
pub(crate) use published::{CountingFollower, PublishedMetrics};
pub use reference::metrics_page;
pub(crate) use text::classic;

/// The server's metrics. Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) grpc: Arc<GrpcMetrics>,
    pub(crate) mvcc: Arc<Mvcc>,
    pub(crate) watch: Arc<WatchMetrics>,
    pub(crate) leases: Arc<LeaseMetrics>,
    pub(crate) disk: Arc<Disk>,
    pub(crate) maintenance: Arc<MaintenanceMetrics>,
    pub(crate) published: Arc<PublishedMetrics>,
    pub(crate) fleet: Arc<FleetMetrics>,
    engine: Arc<measured::EngineMetrics>,
    pub(crate) clients: Arc<ClientMetrics>,
    pub(crate) server: Arc<store::ServerMetrics>,
}

impl Metrics {
    /// Registers everything with `registry`.
    pub fn new(registry: &mut Registry) -> Metrics {
        process::register(registry);
        runtime::register(registry);
        Metrics {
            grpc: Arc::new(GrpcMetrics::new(registry)),
            mvcc: Arc::new(Mvcc::new(registry)),
            watch: Arc::new(WatchMetrics::new(registry)),
            leases: Arc::new(LeaseMetrics::new(registry)),
            disk: Arc::new(Disk::new(registry)),
            maintenance: Arc::new(MaintenanceMetrics::new(registry)),
            published: Arc::new(PublishedMetrics::new(registry)),
            fleet: Arc::new(FleetMetrics::new(registry)),
            engine: Arc::new(measured::EngineMetrics::new(registry)),
            clients: Arc::new(ClientMetrics::new(registry)),
            server: Arc::new(store::ServerMetrics::new(registry)),
        }
    }

    /// A sync of the engine's log took this long.
    pub fn observe_fsync(&self, took: Duration) {
        self.disk.fsync_secs.observe(took);
    }

    /// A group of batches took this long, and so many bytes were written to the log for it.
    pub fn observe_commit(&self, bytes: u64, took: Duration) {
        self.disk.commit_secs.observe(took);
        self.disk.written_bytes.inc_by(bytes);
    }

    /// The engine, of which all calls are counted from now on.
    pub fn measured(&self, engine: Arc<dyn Engine>, clock: Arc<dyn Clock>) -> Arc<dyn Engine> {
        Arc::new(measured::MeasuredEngine { engine, metrics: self.engine.clone(), clock })
    }

    /// A change has been handed to the partition; it counts as pending until the guard goes.
    pub(crate) fn proposal_pending(&self) -> impl Drop + use<> {
        self.server.proposals_pending.inc();
        Pending(self.server.clone())
    }

    /// How the change ended. Only what the store failed counts as failed, not what a client got wrong.
    pub(crate) fn proposal_ended<T>(&self, outcome: &Result<T, Status>) {
        if outcome.as_ref().is_err_and(|status| status.code() == Code::Unavailable) {
            self.server.proposals_failed.inc();
        }
    }

    /// A change that a client asked for has ended. Whether it has happened may be unknown.
    pub(crate) fn change_ended<T>(&self, outcome: &Result<T, Status>) {
        if outcome.as_ref().is_err_and(|status| status.message() == EtcdError::Timeout.text()) {
            self.server.undetermined.inc();
        }
    }

    /// A compaction was made durable.
    pub(crate) fn compacted(&self, clock: &dyn Clock) {
        // The clock has no date, but it counts from the boot, whose date is known.
        self.mvcc.compaction_last.set(process::unix_secs_at(clock.now()));
    }
}

struct Pending(Arc<store::ServerMetrics>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.proposals_pending.dec();
    }
}

/// What is counted of keys and versions.
#[derive(Debug, Default)]
pub(crate) struct Mvcc {
    pub(crate) ranges: Counter,
    puts: Counter,
    deletes: Counter,
    txns: Counter,
    compaction_last: Gauge,
}

impl Mvcc {
    fn new(registry: &mut Registry) -> Mvcc {
        let mvcc = Mvcc::default();
        let mut counter = |name: &str, help: &str, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        counter("etcd_mvcc_range", "Ranges read", &mvcc.ranges);
        counter("etcd_mvcc_put", "Puts", &mvcc.puts);
        counter("etcd_mvcc_delete", "Deletions", &mvcc.deletes);
        counter("etcd_mvcc_txn", "Transactions of more than one operation", &mvcc.txns);
        let last = "etcd_debugging_mvcc_db_compaction_last";
        let help = "The unix time of the last compaction, 0 when there was none since the start";
        registry.register(last, help, mvcc.compaction_last.clone());
        mvcc
    }

    /// Counts what a transaction did, as etcd does.
    pub(crate) fn observe(&self, outcome: &TxnOutcome) {
        let mut counted = Counted::default();
        counted.branch(&outcome.branch);
        self.puts.inc_by(counted.puts);
        self.deletes.inc_by(counted.deletes);
        self.ranges.inc_by(counted.ranges);
        if counted.puts + counted.deletes + counted.ranges > 1 {
            self.txns.inc();
        }
    }
}

#[derive(Default)]
struct Counted {
    puts: u64,
    deletes: u64,
    ranges: u64,
}

impl Counted {
    fn branch(&mut self, branch: &BranchOutcome) {
        for op in &branch.ops {
            match op {
                OpOutcome::Range { .. } => self.ranges += 1,
                OpOutcome::Put { .. } => self.puts += 1,
                OpOutcome::Delete { .. } => self.deletes += 1,
                OpOutcome::Txn(nested) => self.branch(nested),
            }
        }
    }
}

/// What is counted of watchers; the watch service sets it.
#[derive(Debug, Default)]
pub(crate) struct WatchMetrics {
    /// Open watch streams.
    pub(crate) streams: Gauge,
    /// Open watchers.
    pub(crate) watchers: Gauge,
    /// Watchers that are behind the newest revision.
    pub(crate) slow_watchers: Gauge,
    /// Events sent.
    pub(crate) events: Counter,
    /// Steps through the past for watchers that are behind.
    pub(crate) history_reads: Counter,
}

impl WatchMetrics {
    fn new(registry: &mut Registry) -> WatchMetrics {
        let watch = WatchMetrics::default();
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| {
            registry.register(format!("etcd_debugging_mvcc_{name}_total"), help, gauge.clone());
        };
        gauge("watch_stream", "Open watch streams", &watch.streams);
        gauge("watcher", "Open watchers", &watch.watchers);
        let help = "Watchers that read history: they fell behind, or began in the past";
        gauge("slow_watcher", help, &watch.slow_watchers);
        registry.register("etcd_debugging_mvcc_events", "Events put into responses", watch.events.clone());
        let help = "Steps through the past, in memory or the log, for watchers that are behind";
        registry.register("orlop_watch_history_reads", help, watch.history_reads.clone());
        watch
    }
}

/// What is counted of leases.
#[derive(Debug)]
pub(crate) struct LeaseMetrics {
    pub(crate) granted: Counter,
    pub(crate) revoked: Counter,
    pub(crate) renewed: Counter,
    pub(crate) expired: Counter,
    /// The lives that leases were granted.
    pub(crate) ttl_secs: Histogram,
}

impl LeaseMetrics {
    fn new(registry: &mut Registry) -> LeaseMetrics {
        let leases = LeaseMetrics {
            granted: Counter::default(),
            revoked: Counter::default(),
            renewed: Counter::default(),
            expired: Counter::default(),
            // etcd's buckets: 1 s to 97 days.
            ttl_secs: Histogram::of_durations(Duration::from_secs(1), 24),
        };
        let mut counter = |name: &str, help: &str, counter: &Counter| {
            registry.register(format!("etcd_debugging_{name}"), help, counter.clone());
        };
        counter("lease_granted", "Leases granted", &leases.granted);
        counter("lease_revoked", "Leases that ended, by revocation or expiry", &leases.revoked);
        counter("lease_renewed", "Leases renewed", &leases.renewed);
        let help = "Leases whose time was up; one whose revocation is tried again counts again";
        counter("server_lease_expired", help, &leases.expired);
        let help = "The TTLs that leases were granted, in seconds";
        registry.register("etcd_debugging_lease_ttl_total", help, leases.ttl_secs.clone());
        leases
    }
}

/// What is counted of clients that take too much.
#[derive(Debug, Default)]
pub(crate) struct ClientMetrics {
    pub(crate) refused_connections: Counter,
    pub(crate) refused_calls: Counter,
    pub(crate) cut_connections: Counter,
}

impl ClientMetrics {
    fn new(registry: &mut Registry) -> ClientMetrics {
        let clients = ClientMetrics::default();
        let mut counter = |name: &str, help: &str, counter: &Counter| {
            registry.register(format!("orlop_client_{name}"), help, counter.clone());
        };
        counter(
            "connections_refused",
            "Connections closed at once: there were too many in all, or from their address",
            &clients.refused_connections,
        );
        counter(
            "calls_refused",
            "Calls refused with etcdserver: too many requests, as the client had too much under way",
            &clients.refused_calls,
        );
        let help = "Connections cut, as the client took no answers or said nothing";
        counter("connections_cut", help, &clients.cut_connections);
        clients
    }
}

/// How long the engine's disk takes; fed by whoever builds the engine.
#[derive(Debug)]
pub(crate) struct Disk {
    fsync_secs: Histogram,
    commit_secs: Histogram,
    written_bytes: UnsignedGauge,
}

impl Disk {
    fn new(registry: &mut Registry) -> Disk {
        // etcd's buckets: 1 ms to 8 s.
        let histogram = || Histogram::of_durations(Duration::from_millis(1), 14);
        let disk = Disk {
            fsync_secs: histogram(),
            commit_secs: histogram(),
            written_bytes: UnsignedGauge::default(),
        };
        let help = "How long a sync of the embedded engine's log takes";
        registry.register("etcd_disk_wal_fsync_duration_seconds", help, disk.fsync_secs.clone());
        let help = "How long a group of batches takes in the embedded engine, from the first check to the last answer";
        registry.register("etcd_disk_backend_commit_duration_seconds", help, disk.commit_secs.clone());
        let help = "Bytes that the embedded engine wrote to its log since the start";
        registry.register("etcd_disk_wal_write_bytes_total", help, disk.written_bytes.clone());
        disk
    }
}

/// The label of a metric of one partition.
pub(crate) type OfPartition = [(&'static str, &'static str); 1];
/// The partition that has all user keys.
pub(crate) const USER_PARTITION: OfPartition = [("partition", "1")];
/// The one of leases, alarms, and who leads.
pub(crate) const SYSTEM_PARTITION: OfPartition = [("partition", "0")];

/// A gauge of a number that has no sign.
pub(crate) type UnsignedGauge = Gauge<u64, AtomicU64>;
