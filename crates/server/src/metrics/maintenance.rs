use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Histogram;

/// How long what operators ask for takes.
#[derive(Debug)]
pub(crate) struct MaintenanceMetrics {
    pub(crate) defragment_secs: Histogram,
    pub(crate) defragmenting: Gauge,
    pub(crate) hash_secs: Histogram,
    pub(crate) hash_keys_secs: Histogram,
}

impl MaintenanceMetrics {
    pub(super) fn new(registry: &mut Registry) -> MaintenanceMetrics {
        // etcd's buckets: 0.1 s to 7 min, and 10 ms to 5 min.
        let hashes = || Histogram::of_durations(Duration::from_millis(10), 15);
        let metrics = MaintenanceMetrics {
            defragment_secs: Histogram::of_durations(Duration::from_millis(100), 13),
            defragmenting: Gauge::default(),
            hash_secs: hashes(),
            hash_keys_secs: hashes(),
        };
        for (name, help, histogram) in [
            (
                "disk_backend_defrag_duration_seconds",
                "How long giving space back takes (Defragment)",
                &metrics.defragment_secs,
            ),
            ("mvcc_hash_duration_seconds", "How long a hash of everything takes (Hash)", &metrics.hash_secs),
            (
                "mvcc_hash_rev_duration_seconds",
                "How long a hash of the keys at a revision takes (HashKV)",
                &metrics.hash_keys_secs,
            ),
        ] {
            registry.register(format!("etcd_{name}"), help, histogram.clone());
        }
        let help = "Calls of Defragment that are under way";
        registry.register("etcd_disk_defrag_inflight", help, metrics.defragmenting.clone());
        metrics
    }
}
