//! The loads. A scenario is played on an empty store and gives one row or more: what is written in one phase is what
//! the next one reads.

mod history;
mod objects;
mod pods;
mod sizes;
mod stage;
mod starts;
mod watches;

use std::fmt;
use std::time::Duration;

use crate::connection::Error;
pub(crate) use stage::Stage;

/// What is played on one store.
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) about: &'static str,
    /// The rows that it gives, in their order.
    pub(crate) rows: Vec<String>,
    /// How large its values are.
    pub(crate) value_bytes: usize,
    play: Play,
}

#[derive(Clone, Copy)]
enum Play {
    Objects { clients: usize },
    NodeLeases,
    Cold,
    KubeBrain,
    Pods,
    WatchFanOut,
    WatchStart,
    Expiry,
    Compaction,
    Start,
    Size { keys: u64 },
}

/// How large and how long everything is.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    pub(crate) rounds: usize,
    /// The time of one phase.
    pub(crate) phase: Duration,
    /// Pods of the list rows.
    pub(crate) pods: u64,
    /// Lease objects of nodes.
    pub(crate) node_leases: u64,
    /// Keys that expire.
    pub(crate) expiring: u64,
    /// The time from the grant of their leases to their expiry.
    pub(crate) expiry_after: Duration,
    /// How often history is compacted; it is quiet for twice that time before.
    pub(crate) compact_every: Duration,
    /// Keys of a store that is started.
    pub(crate) start_keys: u64,
    /// Keys of a store whose objects are read after a restart.
    pub(crate) cold_keys: u64,
    /// Keys of the stores whose sizes are compared.
    pub(crate) sizes: Vec<u64>,
    /// When a row of one system is given up.
    pub(crate) row_time_max: Duration,
    /// When a scenario on one system is given up.
    pub(crate) scenario_time_max: Duration,
}

impl Scale {
    pub(crate) fn full() -> Scale {
        Scale {
            rounds: 3,
            phase: Duration::from_secs(8),
            pods: 150_000,
            node_leases: 100_000,
            expiring: 100_000,
            expiry_after: Duration::from_secs(60),
            compact_every: Duration::from_secs(30),
            start_keys: 1_000_000,
            cold_keys: 200_000,
            sizes: vec![10_000, 100_000, 1_000_000],
            row_time_max: Duration::from_secs(600),
            scenario_time_max: Duration::from_secs(1800),
        }
    }

    pub(crate) fn quick() -> Scale {
        Scale {
            rounds: 2,
            phase: Duration::from_secs(2),
            pods: 15_000,
            node_leases: 10_000,
            expiring: 10_000,
            expiry_after: Duration::from_secs(15),
            compact_every: Duration::from_secs(5),
            start_keys: 100_000,
            cold_keys: 20_000,
            sizes: vec![10_000, 100_000],
            row_time_max: Duration::from_secs(30),
            scenario_time_max: Duration::from_secs(180),
        }
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "phases of {} s, {} pods, {} node leases, {} expiring keys, {} keys at a start",
            self.phase.as_secs_f64(),
            self.pods,
            self.node_leases,
            self.expiring,
            self.start_keys
        )
    }
}

/// Which rows are wanted.
pub(crate) struct Rows(Vec<String>);

/// What `--quick` measures unless rows are named.
const QUICK: [&str; 11] = [
    "create/512b-1c",
    "create/512b-300c",
    "update/512b-300c",
    "get/512b-300c",
    "delete/512b-300c",
    "node-lease",
    "list",
    "stream",
    "count",
    "probe",
    "watch/100",
];

impl Rows {
    pub(crate) fn new(named: &[String], quick: bool) -> Rows {
        match named.is_empty() && quick {
            true => Rows(QUICK.iter().map(|name| (*name).to_owned()).collect()),
            false => Rows(named.to_vec()),
        }
    }

    /// Whether this row is one of them: its name is there, or the beginning of its name up to a slash or a dash.
    pub(crate) fn want(&self, row: &str) -> bool {
        let begins = |name: &String| row.strip_prefix(name.as_str()).is_some_and(ends_a_part);
        self.0.is_empty() || self.0.iter().any(begins)
    }

    /// An error that names what is the name of no row.
    pub(crate) fn must_exist(&self, scenarios: &[Scenario]) -> Result<(), Error> {
        let mut rows = scenarios.iter().flat_map(|scenario| &scenario.rows);
        match self.0.iter().find(|name| !rows.clone().any(|row| Rows(vec![(*name).clone()]).want(row))) {
            Some(unknown) if rows.next().is_some() => {
                Err(format!("no row has the name {unknown}: --list prints them").into())
            }
            _ => Ok(()),
        }
    }
}

fn ends_a_part(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/') || rest.starts_with('-')
}

/// The sizes of values, with their names in rows.
const VALUES: [(&str, usize); 3] = [("512b", 512), ("2k", 2048), ("10k", 10 << 10)];
/// How many clients work at a time.
const CLIENTS: [usize; 4] = [1, 16, 300, 1000];

/// Every scenario, in the order in which they are played.
pub(crate) fn all(scale: &Scale) -> Vec<Scenario> {
    let mut all = Vec::new();
    for (name, value_bytes) in VALUES {
        for clients in CLIENTS {
            let name = format!("{name}-{clients}c");
            let rows = ["create", "update", "get", "delete"].map(|phase| format!("{phase}/{name}")).to_vec();
            let about = "kube-apiserver's create, update, read and delete of single objects";
            all.push(Scenario { name, about, rows, value_bytes, play: Play::Objects { clients } });
        }
    }
    let mut add = |name: &str, about, rows: &[&str], value_bytes, play| {
        let rows = rows.iter().map(|row| (*row).to_owned()).collect();
        all.push(Scenario { name: name.to_owned(), about, rows, value_bytes, play });
    };
    add("node leases", "lease objects of nodes updated in turn", &["node-lease/300c"], 400, Play::NodeLeases);
    add("cold reads", "single objects read after a restart", &["get-cold/300c"], 512, Play::Cold);
    let rows = ["kubebrain/insert", "kubebrain/insert-read", "kubebrain/delete"];
    add("kubebrain", "the runs of KubeBrain's published table", &rows, 512, Play::KubeBrain);
    let about = "lists of all pods, whole, counted, and under 2,000 updates a second";
    add("pods", about, &pods::ROWS, 2048, Play::Pods);
    let about = "from a write to the last watcher of its prefix";
    add("watchers", about, &["watch/1", "watch/10", "watch/100", "watch/1000"], 512, Play::WatchFanOut);
    let about = "watches that begin in the past";
    add("old watches", about, &["watch-start/1c"], 512, Play::WatchStart);
    let about = "updates while many keys expire";
    add("expiry", about, &["expiry/updates"], 512, Play::Expiry);
    let about = "updates while history is compacted again and again";
    add("compaction", about, &["compaction/updates"], 512, Play::Compaction);
    let rows = ["start/clean", "start/killed"];
    add("start", "the start of a server on many keys", &rows, 512, Play::Start);
    for &keys in &scale.sizes {
        let name = sizes::name(keys);
        let rows = sizes::PHASES.map(|phase| format!("size-{phase}/{name}")).to_vec();
        let about = "the same loads on stores of different sizes";
        all.push(Scenario {
            name: format!("size {name}"),
            about,
            rows,
            value_bytes: 512,
            play: Play::Size { keys },
        });
    }
    all
}

/// The scenarios and their rows, for people.
pub(crate) fn listed(scenarios: &[Scenario]) -> String {
    let lines = scenarios.iter().flat_map(|scenario| {
        let about = scenario.about;
        scenario.rows.iter().map(move |row| format!("{row:<24} {about}"))
    });
    lines.collect::<Vec<_>>().join("\n")
}

impl Scenario {
    /// Plays it. The first error ends it.
    pub(crate) async fn run(&self, stage: &mut Stage<'_>) -> Result<(), Error> {
        match self.play {
            Play::Objects { clients } => objects::phases(stage, self, clients).await,
            Play::NodeLeases => objects::node_leases(stage, self.value_bytes).await,
            Play::Cold => objects::cold(stage, self.value_bytes).await,
            Play::KubeBrain => objects::kubebrain(stage, self.value_bytes).await,
            Play::Pods => pods::play(stage, self.value_bytes).await,
            Play::WatchFanOut => watches::fan_out(stage, self.value_bytes).await,
            Play::WatchStart => watches::from_the_past(stage, self.value_bytes).await,
            Play::Expiry => history::expiry(stage, self.value_bytes).await,
            Play::Compaction => history::compaction(stage, self.value_bytes).await,
            Play::Start => starts::play(stage, self.value_bytes).await,
            Play::Size { keys } => sizes::play(stage, keys, self.value_bytes).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_named_once_and_found_by_its_parts() {
        let scenarios = all(&Scale::full());
        let rows: Vec<&String> = scenarios.iter().flat_map(|scenario| &scenario.rows).collect();
        assert_eq!(rows.len(), rows.iter().collect::<std::collections::BTreeSet<_>>().len());
        let named = |names: &[&str]| Rows::new(&names.iter().map(|&n| n.into()).collect::<Vec<_>>(), false);
        assert!(named(&["create"]).want("create/512b-1c"));
        assert!(named(&["create/512b-1c"]).want("create/512b-1c"));
        assert!(named(&["create/512b"]).want("create/512b-1c"));
        assert!(!named(&["create/512b-1"]).want("create/512b-16c"));
        assert!(!named(&["watch/1"]).want("watch/10"));
        assert!(named(&[]).want("anything"));
        assert!(named(&["create", "probe"]).must_exist(&scenarios).is_ok());
        let unknown = named(&["creation"]).must_exist(&scenarios).unwrap_err().to_string();
        assert!(unknown.contains("creation") && unknown.contains("--list"), "{unknown}");
    }

    #[test]
    fn what_a_quick_run_measures_exists() {
        assert!(Rows::new(&[], true).must_exist(&all(&Scale::quick())).is_ok());
    }
}
