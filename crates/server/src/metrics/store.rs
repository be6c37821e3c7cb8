use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::UnsignedGauge;
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
    quota_bytes: UnsignedGauge,
    total_bytes: UnsignedGauge,
    live_bytes: UnsignedGauge,
    keys: Gauge,
    current_revision: Gauge,
    compact_revision: Gauge,
    version: Family<[(&'static str, &'static str); 1], Gauge>,
    id: Family<[(&'static str, String); 1], Gauge>,
}

impl ServerMetrics {
    pub(super) fn new(registry: &mut Registry) -> ServerMetrics {
        let server = ServerMetrics::default();
        let gauges = [
            ("server_has_leader", "Whether there is a leader", &server.has_leader),
            ("server_is_leader", "Whether this member leads", &server.is_leader),
            ("server_proposals_committed_total", "The revision that is durable", &server.proposals_committed),
            ("server_proposals_applied_total", "The revision that is visible", &server.proposals_applied),
            ("server_proposals_pending", "Changes that wait to become durable", &server.proposals_pending),
            ("debugging_mvcc_keys_total", "How many keys exist", &server.keys),
            ("debugging_mvcc_current_revision", "The newest revision", &server.current_revision),
            ("debugging_mvcc_compact_revision", "The compacted revision", &server.compact_revision),
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
        let help = "How often leadership changed";
        registry.register("etcd_server_leader_changes_seen", help, server.leader_changes.clone());
        let help = "Changes that failed or timed out";
        registry.register("etcd_server_proposals_failed", help, server.proposals_failed.clone());
        let help = "1 for the version of etcd's API that is served";
        registry.register("etcd_server_version", help, server.version.clone());
        registry.register("etcd_server_id", "1 for the id of this member", server.id.clone());
        server
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
        let revision = backend.store.partition.revision().get();
        self.proposals_committed.set(revision);
        self.proposals_applied.set(revision);
        self.current_revision.set(revision);
        // etcd starts at -1.
        self.compact_revision.set(backend.store.partition.compacted().map_or(-1, model::Revision::get));
        self.keys.set(i64::try_from(backend.store.partition.key_count()).unwrap_or(i64::MAX));
        self.quota_bytes.set(backend.config.quota_backend_bytes);
        let usage = backend.engine.usage();
        self.total_bytes.set(usage.total_bytes);
        self.live_bytes.set(usage.live_bytes);
        self.version.get_or_create(&[("server_version", version::SERVER)]).set(1);
        self.id.get_or_create(&[("server_id", format!("{:x}", backend.config.member_id))]).set(1);
    }
}
