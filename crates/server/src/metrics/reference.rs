//! `docs/metrics.md`, from what is registered.

use std::collections::BTreeMap;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use super::{Metrics, classic};

const HEAD: &str = "\
# Metrics

<!-- Written by `cargo test -p server --test metrics_page` from crates/server/src/metrics: change that. -->

`GET /metrics` on the client port, and on those of `--listen-metrics-urls`: Prometheus text, or OpenMetrics for who asks
for it. Names are etcd's where the meaning is, so that its dashboards and alerts work. The numbers begin at 0 with each
start of the process. Counting is some atomic additions, without a lock; a call of the engine takes one small piece of
memory more.

[deploy/observability](../deploy/observability/README.md) has a dashboard and alert rules. `orlop_` series with a
`partition` are of the partition with that number: 0 has leases, alarms and who leads, 1 has all keys.
";

const TAIL: &str = "
## What is not there

- etcd's metrics of Raft, of snapshots between members, of bbolt's inner work and of the v2 store: there is nothing that
  they could mean. `etcd_server_proposals_committed_total` and `etcd_server_proposals_applied_total` are both the published
  revision.
- `etcd_network_peer_sent_bytes_total` and its kin, `etcd_debugging_mvcc_pending_events_total`,
  `etcd_server_request_duration_seconds`, `grpc_server_msg_received_total`, `grpc_server_msg_sent_total`,
  `etcd_server_health_success`, `etcd_server_health_failures`, and those of Go's runtime.
- With `--engine memory` or `tikv` the `etcd_disk_wal_` and `etcd_disk_backend_commit_` series stay empty: they are the
  embedded engine's. `orlop_engine_` is the same for each.
- A call that is forwarded is counted where the client made it, and not by the leader as well.
- There is no resolved lag: a partition is resolved as far as it is published, as long as one server owns all of them.
";

struct Entry {
    kind: String,
    help: String,
    labels: Vec<String>,
}

/// The text of `docs/metrics.md`: every metric with its type, its labels and what it says.
///
/// Must be called within a tokio runtime, of which some of them are.
pub fn metrics_page() -> String {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    metrics.server.show_all();
    metrics.fleet.show_all();
    let mut shown = String::new();
    text::encode(&mut shown, &registry).expect("writing to memory does not fail");
    let entries = entries(&classic(&shown));
    let mut page = HEAD.to_owned();
    for (title, is_in) in [
        ("As etcd and Go's gRPC have them", is_etcds as fn(&str) -> bool),
        ("Of the process, as all of Prometheus' clients have them", is_the_processs),
        ("Orlop's own", is_own),
    ] {
        page.push_str(&format!("\n## {title}\n\n| name | type | labels | what |\n|---|---|---|---|\n"));
        for (name, Entry { kind, help, labels }) in entries.iter().filter(|(name, _)| is_in(name)) {
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            page.push_str(&format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", ")));
        }
    }
    page.push_str(TAIL);
    page
}

fn is_own(name: &str) -> bool {
    name.starts_with("orlop_")
}

fn is_the_processs(name: &str) -> bool {
    name.starts_with("process_") || name.starts_with("os_")
}

fn is_etcds(name: &str) -> bool {
    !is_own(name) && !is_the_processs(name)
}

/// The metrics of a page of Prometheus' text, by their names.
fn entries(shown: &str) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    let mut name = "";
    for line in shown.lines() {
        if let Some((described, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            name = described;
            let help = help.trim_end_matches('.').to_owned();
            entries.insert(name.to_owned(), Entry { kind: String::new(), help, labels: Vec::new() });
        } else if let Some(entry) = entries.get_mut(name) {
            match line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
                Some((_, kind)) => entry.kind = kind.to_owned(),
                None if entry.labels.is_empty() => entry.labels = labels_of(line),
                None => {}
            }
        }
    }
    entries
}

/// The names of a sample's labels, but for the one of histograms' buckets.
fn labels_of(sample: &str) -> Vec<String> {
    let Some((_, labels)) = sample.split_once('{') else { return Vec::new() };
    let names = labels.split("=\"").filter_map(|piece| piece.rsplit([',', '{']).next());
    let names = names.filter(|name| !name.contains(['}', '"']) && *name != "le");
    names.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_told_by_their_names() {
        assert_eq!(labels_of("a{b=\"1\",c=\"x,y\"} 3"), ["b", "c"]);
        assert_eq!(labels_of("a_bucket{c=\"x\",le=\"0.1\"} 3"), ["c"]);
        assert!(labels_of("a 3").is_empty() && labels_of("a_bucket{le=\"0.1\"} 3").is_empty());
    }
}
