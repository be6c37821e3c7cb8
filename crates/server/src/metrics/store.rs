use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{FleetMetrics, OfPartition, SYSTEM_PARTITION, USER_PARTITION, UnsignedGauge};
use crate::backend::Backend;
use crate::version;

/// The state of the server and of the store. What is a number somewhere already is read when it is asked for.
#[derive(Debug, Default)]
pub(crate) struct ServerMetrics {
    has_leader: Gauge,
    is_leader: Gauge,
    leader_changes: Counter,
    /// The highest term that was counted.
    last_term: Arc<AtomicU64>,
    proposals_committed: Gauge,
    proposals_applied: Gauge,
    pub(crate) proposals_pending: Gauge,
    pub(crate) proposals_failed: Counter,
    pub(crate) undetermined: Counter,
    quota_bytes: UnsignedGauge,
    total_bytes: UnsignedGauge,
    live_bytes: UnsignedGauge,
    keys: Gauge,
    current_revision: Gauge,
    compact_revision: Gauge,
    version: Family<[(&'static str, &'static str); 1], Gauge>,
    cluster_version: Family<[(&'static str, &'static str); 1], Gauge>,
    is_learner: Gauge,
    build: Family<[(&'static str, &'static str); 1], Gauge>,
    id: Family<[(&'static str, String); 1], Gauge>,
    owned: Family<OfPartition, Gauge>,
    queue_txns: Family<OfPartition, Gauge>,
    queue_bytes: Family<OfPartition, Gauge>,
}

impl ServerMetrics {
    pub(super) fn new(registry: &mut Registry) -> ServerMetrics {
        let server = ServerMetrics::default();
        let gauges = [
            (
                "server_has_leader",
                "Whether a leader is known and reached; always 1 with one process",
                &server.has_leader,
            ),
            ("server_is_leader", "Whether this member leads", &server.is_leader),
            ("server_is_learner", "Always 0: every member can lead", &server.is_learner),
            (
                "server_proposals_committed_total",
                "The published revision: there is no Raft log",
                &server.proposals_committed,
            ),
            (
                "server_proposals_applied_total",
                "The published revision: there is no Raft log",
                &server.proposals_applied,
            ),
            (
                "server_proposals_pending",
                "Transactions that wait for their outcome, reads in transactions too",
                &server.proposals_pending,
            ),
            ("debugging_mvcc_keys_total", "How many keys exist", &server.keys),
            ("debugging_mvcc_current_revision", "The newest revision", &server.current_revision),
            (
                "debugging_mvcc_compact_revision",
                "The compacted revision, -1 for none",
                &server.compact_revision,
            ),
        ];
        for (name, help, gauge) in gauges {
            registry.register(format!("etcd_{name}"), help, gauge.clone());
        }
        let sizes = [
            ("server_quota_backend_bytes", "The quota, 0 for none", &server.quota_bytes),
            ("mvcc_db_total_size_in_bytes", "What the engine occupies", &server.total_bytes),
            ("mvcc_db_total_size_in_use_in_bytes", "Of that, what live records need", &server.live_bytes),
        ];
        for (name, help, gauge) in sizes {
            registry.register(format!("etcd_{name}"), help, gauge.clone());
        }
        let help = "How often another server has begun to lead since this one was first asked for it; 0 with one process";
        registry.register("etcd_server_leader_changes_seen", help, server.leader_changes.clone());
        let help = "Transactions that failed or timed out, for whatever reason of the store";
        registry.register("etcd_server_proposals_failed", help, server.proposals_failed.clone());
        let help = "1 for the version of etcd's API that is served";
        registry.register("etcd_server_version", help, server.version.clone());
        registry.register("etcd_server_id", "1 for the id of this member", server.id.clone());
        let help = "1 for the version of etcd's API that the store has";
        registry.register("etcd_cluster_version", help, server.cluster_version.clone());
        registry.register("orlop_build_info", "1 for the version of this program", server.build.clone());
        let help =
            "Changes of clients that may have happened or not: they were told that the request timed out";
        registry.register("orlop_writes_undetermined", help, server.undetermined.clone());
        let owned =
            "Whether this server owns the partition: 0 is leases, alarms and who leads, 1 has all keys";
        let txns = "Transactions that wait for the partition's sequencer";
        let bytes = "About how many bytes the transactions take that wait or are being committed";
        for (name, help, gauge) in [
            ("owned", owned, &server.owned),
            ("queue_transactions", txns, &server.queue_txns),
            ("queue_bytes", bytes, &server.queue_bytes),
        ] {
            registry.register(format!("orlop_partition_{name}"), help, gauge.clone());
        }
        server.version.get_or_create(&[("server_version", version::SERVER)]).set(1);
        server.cluster_version.get_or_create(&[("cluster_version", version::CLUSTER_MINOR)]).set(1);
        server.build.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        server
    }

    /// Shows what there is only once a store is there, for the page of all metrics.
    pub(super) fn show_all(&self) {
        let _ = self.id.get_or_create(&[("server_id", String::new())]);
        for gauges in [&self.owned, &self.queue_txns, &self.queue_bytes] {
            let _ = gauges.get_or_create(&USER_PARTITION);
        }
    }

    /// Brings the numbers of the store up to date.
    pub(crate) fn refresh(&self, backend: &Backend) {
        let leader = backend.leader_id();
        self.has_leader.set(leader.is_some().into());
        self.is_leader.set((leader == Some(backend.config.member_id)).into());
        let term = backend.store.term();
        match self.last_term.fetch_max(term, Ordering::Relaxed) {
            // The leader that was found at the start is no change.
            0 => {}
            last => drop(self.leader_changes.inc_by(term.saturating_sub(last))),
        }
        let revision = backend.store.keys.revision().get();
        self.proposals_committed.set(revision);
        self.proposals_applied.set(revision);
        self.current_revision.set(revision);
        // etcd starts at -1.
        self.compact_revision.set(backend.store.keys.compacted().map_or(-1, model::Revision::get));
        self.keys.set(i64::try_from(backend.store.keys.key_count()).unwrap_or(i64::MAX));
        self.quota_bytes.set(backend.config.quota_backend_bytes);
        let usage = backend.engine.usage();
        self.total_bytes.set(usage.total_bytes);
        self.live_bytes.set(usage.live_bytes);
        let leads = *backend.store.leading().borrow();
        for partition in [SYSTEM_PARTITION, USER_PARTITION] {
            self.owned.get_or_create(&partition).set(leads.into());
        }
        let waiting = backend.store.keys.waiting();
        self.queue_txns.get_or_create(&USER_PARTITION).set(signed(waiting.txns));
        self.queue_bytes.get_or_create(&USER_PARTITION).set(signed(waiting.bytes));
        self.id.get_or_create(&[("server_id", format!("{:x}", backend.config.member_id))]).set(1);
    }
}

impl FleetMetrics {
    /// Brings the numbers of the fleet up to date.
    pub(crate) fn refresh(&self, backend: &Backend) {
        self.term.set(backend.store.term());
        self.partitions_owned.set(signed(backend.store.keys.owned_count()));
        let Some(peers) = &backend.peers else {
            self.members.set(1);
            return;
        };
        let leads = peers.standing.leads_here();
        let members = if leads { peers.members.lock().live(backend.clock.now()).len() } else { 0 };
        self.members.set(signed(members));
        self.followers.set(signed(peers.feeds.count()));
        let behind = peers.heard.behind(backend.store.keys.revision());
        self.lag_revisions.set(if leads { 0 } else { behind });
        let (calls, bytes) = peers.room.taken();
        self.forwarding_calls.set(signed(calls));
        self.forwarding_bytes.set(signed(bytes));
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
