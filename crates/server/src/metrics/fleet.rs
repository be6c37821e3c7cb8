use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::{Histogram, UnsignedGauge};

/// Of so many leaders the time that messages take is remembered, then it is begun anew: leaders come and go, and each
/// would leave a histogram behind.
const LEADERS_MAX: usize = 64;

type To = [(&'static str, String); 1];

/// What is counted of the servers of a store among one another.
#[derive(Debug)]
pub(crate) struct FleetMetrics {
    pub(super) term: UnsignedGauge,
    pub(super) members: Gauge,
    pub(super) followers: Gauge,
    pub(super) partitions_owned: Gauge,
    pub(super) lag_revisions: Gauge,
    /// Questions to the leader that it has not answered.
    pub(crate) questions_failed: Counter,
    /// Times that the log was read because the leader's stream did not have what was missing.
    pub(crate) log_reads: Counter,
    /// Heartbeats that the leader has not answered.
    pub(crate) heartbeats_failed: Counter,
    /// Calls that the leader has answered for a client of this server.
    pub(crate) forwarded: Counter,
    /// Calls that were not carried out, for certain.
    pub(crate) not_forwarded: Counter,
    /// Calls that may have been carried out.
    pub(crate) forwarded_perhaps: Counter,
    pub(super) forwarding_calls: Gauge,
    pub(super) forwarding_bytes: Gauge,
    /// How many leaders `round_trip_secs` has.
    leaders: AtomicUsize,
    round_trip_secs: Family<To, Histogram, fn() -> Histogram>,
}

impl FleetMetrics {
    pub(super) fn new(registry: &mut Registry) -> FleetMetrics {
        let calls = Family::<[(&'static str, &'static str); 1], Counter>::default();
        let help = "Calls of clients that were forwarded to the leader, by what became of them; undetermined: it may \
                    have happened";
        registry.register("orlop_forwarded_calls", help, calls.clone());
        let of_outcome = |outcome| calls.get_or_create_owned(&[("outcome", outcome)]);
        // etcd's buckets: 0.1 ms to 3 s.
        let round_trip: fn() -> Histogram = || Histogram::of_durations(Duration::from_micros(100), 16);
        let metrics = FleetMetrics {
            term: UnsignedGauge::default(),
            members: Gauge::default(),
            followers: Gauge::default(),
            partitions_owned: Gauge::default(),
            lag_revisions: Gauge::default(),
            questions_failed: Counter::default(),
            log_reads: Counter::default(),
            heartbeats_failed: Counter::default(),
            forwarded: of_outcome("answered"),
            not_forwarded: of_outcome("not_sent"),
            forwarded_perhaps: of_outcome("undetermined"),
            forwarding_calls: Gauge::default(),
            forwarding_bytes: Gauge::default(),
            leaders: AtomicUsize::new(0),
            round_trip_secs: Family::new_with_constructor(round_trip),
        };
        let help = "How long a heartbeat to the leader takes; To is the leader's id";
        let name = "etcd_network_peer_round_trip_time_seconds";
        registry.register(name, help, metrics.round_trip_secs.clone());
        let help = "The term of the leader that is known: it grows with each change of leaders";
        registry.register("orlop_leader_term", help, metrics.term.clone());
        for (name, help, gauge) in [
            (
                "members",
                "Servers of the store that the leader hears from; 0 where this one does not lead",
                &metrics.members,
            ),
            (
                "partitions_owned",
                "Partitions that this server writes to: its share of all, of which the leader has those that nobody else has",
                &metrics.partitions_owned,
            ),
            ("leader_followers", "Servers that follow what this one publishes", &metrics.followers),
            (
                "replica_lag_revisions",
                "Revisions that the leader has published and this server does not show yet, as far as it has heard",
                &metrics.lag_revisions,
            ),
            ("forwarding_calls", "Calls that are being forwarded to the leader", &metrics.forwarding_calls),
            (
                "forwarding_bytes",
                "About how many bytes the requests of forwarded calls take",
                &metrics.forwarding_bytes,
            ),
        ] {
            registry.register(format!("orlop_{name}"), help, gauge.clone());
        }
        for (name, help, counter) in [
            (
                "etcd_server_read_indexes_failed",
                "Questions to the leader for the newest revision that it did not answer; one serves all reads that wait",
                &metrics.questions_failed,
            ),
            (
                "orlop_replica_log_reads",
                "Times that this server read the log to catch up",
                &metrics.log_reads,
            ),
            (
                "orlop_heartbeats_failed",
                "Heartbeats that the leader did not answer",
                &metrics.heartbeats_failed,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        metrics
    }

    /// Shows what there is only with several servers, for the page of all metrics.
    pub(super) fn show_all(&self) {
        let _ = self.round_trip_secs.get_or_create(&[("To", String::new())]);
    }

    /// A heartbeat to the leader with this id came back after so long.
    pub(crate) fn round_trip(&self, to: u64, took: Duration) {
        let label = [("To", format!("{to:x}"))];
        let is_known = self.round_trip_secs.get(&label).is_some();
        if !is_known && self.leaders.fetch_add(1, Ordering::Relaxed) >= LEADERS_MAX {
            self.round_trip_secs.clear();
            self.leaders.store(1, Ordering::Relaxed);
        }
        self.round_trip_secs.get_or_create(&label).observe(took);
    }
}
