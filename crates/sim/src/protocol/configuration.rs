//! The configurations that are searched, by name.

use super::checker;
use super::core::{Budget, Config, Core};
use super::expiry::{self, Expiry};
use super::lease::{self, Leases, Put};
use super::report::Report;
use super::rule::{Rule, Rules};
use super::script::{Script, WriteOp};
use super::set::Set;
use super::split::{self, Split};
use super::system::{self, System};
use Size::{Large, Medium, Small};

/// A model with a size.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is there for.
    pub about: &'static str,
    /// How long a complete search takes.
    pub size: Size,
    setup: Setup,
}

/// How long a complete search takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// Short in a debug build too.
    Small,
    /// Some seconds in a release build.
    Medium,
    /// Minutes in a release build, and gigabytes of memory.
    Large,
}

#[derive(Clone, Debug)]
enum Setup {
    Core(Config),
    System(system::Config),
    Split(split::Config),
    Leases(lease::Config),
    Expiry(expiry::Config),
}

impl Configuration {
    /// Searches every state, or until more than `states_limit` were found.
    pub fn search(&self, without: Option<Rule>, states_limit: usize) -> Report {
        let rules = Rules { without };
        match &self.setup {
            Setup::Core(config) => checker::search(&Core { config: config.clone(), rules }, states_limit),
            Setup::System(config) => checker::search(&System { config: config.clone(), rules }, states_limit),
            Setup::Leases(config) => checker::search(&Leases { config: config.clone(), rules }, states_limit),
            Setup::Expiry(config) => checker::search(&Expiry { config: config.clone(), rules }, states_limit),
            Setup::Split(config) => checker::search(&Split { config: config.clone(), rules }, states_limit),
        }
    }
}

/// The configuration with this name.
pub fn named(name: &str) -> Option<Configuration> {
    all().into_iter().find(|configuration| configuration.name == name)
}

/// Every configuration, the small ones first.
pub fn all() -> Vec<Configuration> {
    let mut list = core();
    list.extend(system());
    list.extend(split());
    list.extend(leases());
    list.sort_by_key(|configuration| configuration.size);
    list
}

const P1: WriteOp = WriteOp::to(&[0]);
const P2: WriteOp = WriteOp::to(&[1]);
const BOTH: WriteOp = WriteOp::to(&[0, 1]);
const COMPARES_P2: WriteOp = WriteOp { writes: Set::of(&[0]), compares: Set::of(&[1]) };

fn core() -> Vec<Configuration> {
    let one = |writes, reads| Script { writes: vec![P1; writes], reads: vec![Set::of(&[0]); reads] };
    let two = |writes: &[WriteOp], reads: &[&[u8]]| {
        let reads = reads.iter().map(|places| Set::of(places)).collect();
        Script { writes: writes.to_vec(), reads }
    };
    let of = |name, about, size, (partitions, frontends, has_replicas), script, budget: [u8; 4]| {
        let [reassignments, crashes, leader_changes, trims] = budget;
        let budget = Budget { reassignments, crashes, leader_changes, trims };
        let config = Config { partitions, frontends, script, budget, has_replicas };
        Configuration { name, about, size, setup: Setup::Core(config) }
    };
    let (p1, p2) = ((1, 2, false), (2, 2, false));
    let both: &[u8] = &[0, 1];
    vec![
        of("one-partition", "a move, another leader", Small, p1, one(2, 1), [1, 0, 1, 0]),
        of("moves", "two moves", Small, p1, one(1, 1), [2, 0, 0, 0]),
        of("crashes", "a move, a crash", Small, p1, one(1, 1), [1, 1, 0, 0]),
        of("trims", "a move, a trimmed log", Small, p1, one(2, 1), [1, 0, 0, 1]),
        of("two-writes", "a write to each of two partitions", Small, p2, two(&[P1, P2], &[]), [0, 0, 1, 0]),
        of("two-partitions", "and a read of both", Small, p2, two(&[P1, P2], &[both]), [0, 0, 1, 0]),
        of("compare", "a transaction that compares", Small, p2, two(&[COMPARES_P2, P2], &[]), [0, 0, 0, 0]),
        of("transaction", "over two partitions", Small, p2, two(&[BOTH, P1], &[both]), [0, 0, 0, 0]),
        of("two-transactions", "of which one fails", Small, p2, two(&[BOTH, P2], &[]), [1, 0, 0, 0]),
        of("trims-transaction", "and trimmed logs", Small, p2, two(&[BOTH, P1, P2], &[]), [0, 0, 0, 2]),
        of("two-reads", "a move, another leader", Medium, p1, one(2, 2), [1, 0, 1, 0]),
        of("moves-leader", "two moves, another leader", Medium, p1, one(2, 1), [2, 0, 1, 0]),
        of("moves-crash", "two moves, a crash", Medium, p1, one(2, 1), [2, 1, 0, 0]),
        of("three-frontends", "two moves", Medium, (1, 3, false), one(2, 1), [2, 0, 0, 0]),
        of("replicas", "replicas that ask nobody, a move", Medium, (1, 2, true), one(2, 2), [1, 0, 0, 0]),
        of("trims-moves", "two moves, trimmed logs", Medium, p1, one(2, 1), [2, 0, 0, 2]),
        of("partitions-move", "two partitions, a move", Medium, p2, two(&[P1, P2], &[both]), [1, 0, 1, 0]),
        of(
            "transaction-moves",
            "a move, another leader",
            Medium,
            p2,
            two(&[BOTH, P1], &[both]),
            [1, 0, 1, 0],
        ),
        of("transaction-crash", "a crash", Medium, p2, two(&[BOTH, P1], &[both]), [0, 1, 0, 0]),
        of("compare-moves", "a move", Medium, p2, two(&[COMPARES_P2, P2], &[both]), [1, 0, 0, 0]),
        of("all-faults", "two moves, a crash, another leader", Large, p1, one(2, 2), [2, 1, 1, 0]),
        of("three-writes", "a move, a crash, another leader", Large, p1, one(3, 2), [1, 1, 1, 0]),
        of("three-frontends-faults", "all of it", Large, (1, 3, false), one(2, 1), [2, 1, 1, 0]),
        of("transaction-faults", "all of it", Large, p2, two(&[BOTH, P1], &[both]), [1, 1, 1, 0]),
    ]
}

fn system() -> Vec<Configuration> {
    let of = |name, about, size, (writes, reads), (lease, time, heartbeats, moves, releases)| {
        let script = Script { writes: vec![P1; writes], reads: vec![Set::of(&[0]); reads] };
        let config = system::Config { script, lease, time, heartbeats, moves, releases };
        Configuration { name, about, size, setup: Setup::System(config) }
    };
    vec![
        of("lease-clock", "who leads when", Small, (0, 0), (2, 5, 1, 0, 1)),
        of("ceiling", "revisions of one leader after another", Small, (2, 0), (2, 4, 0, 0, 0)),
        of("leaders", "what one leader says after another", Small, (1, 1), (2, 4, 0, 0, 0)),
        of("lease-clock-long", "who leads when, for longer", Medium, (0, 0), (3, 9, 2, 0, 1)),
        of("leaders-release", "and a leader that stops", Medium, (1, 1), (2, 4, 0, 0, 1)),
        of("leaders-move", "and a move", Medium, (1, 1), (2, 4, 0, 1, 0)),
        of("leaders-heartbeat", "and a heartbeat, and more time", Medium, (1, 1), (2, 5, 1, 1, 0)),
    ]
}

fn split() -> Vec<Configuration> {
    let of = |name, about, size, script: (&[WriteOp], &[&[u8]]), (watches, splits, leader_changes)| {
        let reads = script.1.iter().map(|keys| Set::of(keys)).collect();
        let script = Script { writes: script.0.to_vec(), reads };
        let config = split::Config { script, watches, splits, leader_changes };
        Configuration { name, about, size, setup: Setup::Split(config) }
    };
    let both: &[u8] = &[0, 1];
    vec![
        of("split", "a write, a read, another leader", Small, (&[P1], &[&[0]]), (0, 1, 1)),
        of("split-watch", "a watch that resumes", Small, (&[P1], &[]), (1, 1, 0)),
        of("split-both-keys", "with all of it", Medium, (&[P1, P2], &[both]), (1, 1, 1)),
        of("split-again", "a split that is tried twice", Medium, (&[P1], &[both]), (0, 2, 1)),
        of("split-again-both-keys", "the same with all of it", Medium, (&[P1, P2], &[both]), (0, 2, 1)),
    ]
}

fn leases() -> Vec<Configuration> {
    let of = |name, about, size, puts: [(usize, bool); 2], (grants, moves, splits, leader_changes)| {
        let puts = puts.map(|(key, attaches)| Put { key, attaches });
        let config = lease::Config { puts, grants, moves, splits, leader_changes };
        Configuration { name, about, size, setup: Setup::Leases(config) }
    };
    let attach_same = [(0, true), (0, true)];
    let attach_both = [(0, true), (1, true)];
    let expiry = |name, keep_alives, time, size| {
        let config = expiry::Config { ttl: 3, lead: 2, time, keep_alives };
        Configuration { name, about: "when a lease runs out", size, setup: Setup::Expiry(config) }
    };
    vec![
        of("lease", "keys that hang on a lease, a move", Small, attach_same, (1, 1, 0, 1)),
        of("lease-detach", "a put without the lease", Small, [(0, true), (0, false)], (1, 0, 0, 1)),
        of("lease-split", "a split during the walk", Small, attach_both, (1, 0, 1, 0)),
        of("lease-again", "a lease that is granted again", Small, attach_same, (2, 1, 0, 0)),
        expiry("expiry", 2, 6, Small),
        of("lease-split-moves", "a split, moves, another leader", Medium, attach_both, (1, 2, 1, 1)),
        of("lease-detach-split", "and a split", Medium, [(0, true), (1, false)], (2, 1, 1, 1)),
        expiry("expiry-long", 3, 9, Medium),
    ]
}
