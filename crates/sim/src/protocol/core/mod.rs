//! The core: user partitions, their owners, the leader that assigns them and hands out revisions, clients.
//!
//! Covered: commit by inserting a slot, outcomes that are unclear, fillers, takeover, revisions below a ceiling, reads
//! at a confirmed revision, transactions over two partitions, trimmed logs; crashes of any frontend, another leader,
//! reassignments at any moment. A pause needs no step of its own: nobody ever has to take a step.
//!
//! Left to the other models: partition 0 is a variable here that changes at once, and the leader's lease is always
//! sound (`system`); partitions do not split (`split`); keys hang on no lease (`lease`). Not modelled at all: several
//! writes in a batch, values and the records of objects (a partition's state is what its log says), compaction's C*.

mod engine;
mod leader;
mod log;
mod owner;
mod reads;
mod state;
mod takeover;
mod transaction;

use self::log::{Kind, Partition, Record};
use self::owner::Seated;
pub(crate) use self::state::Budget;
use self::state::{Assignment, Owner, Seat, State, Tenure};
use super::checker::{Model, Steps};
use super::clients::Clients;
use super::rule::{Rule, Rules};
use super::script::Script;
use super::violation::{Promise, Violation};

/// How large a run is.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) partitions: usize,
    pub(crate) frontends: usize,
    pub(crate) script: Script,
    pub(crate) budget: Budget,
    pub(crate) has_replicas: bool,
}

/// The core with a configuration, and perhaps without a rule.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) rules: Rules,
}

impl Core {
    fn keeps(&self, rule: Rule) -> bool {
        self.rules.keeps(rule)
    }

    /// A transaction that compares saw exactly what is below its revision.
    fn skew(&self, state: &State) -> Option<Violation> {
        let writes = self.config.script.writes.iter().enumerate();
        for (number, op) in writes.filter(|(_, op)| !op.compares.is_empty()) {
            let write = state.clients.writes[number];
            if write.revision == 0 {
                continue;
            }
            for place in op.compares.iter() {
                let before = self.content(state, place, write.revision - 1);
                if before != write.compared {
                    let particulars = format!(
                        "w{number} at revision {} saw {} in P{}, and before it are {before}",
                        write.revision,
                        write.compared,
                        place + 1
                    );
                    return Some(Violation::new(Promise::TransactionsAreSerial, particulars));
                }
            }
        }
        None
    }
}

impl Model for Core {
    type State = State;

    fn start(&self) -> State {
        let mut state = State {
            partitions: Default::default(),
            flying: Vec::new(),
            seats: Default::default(),
            leader: Default::default(),
            coordinator: None,
            clients: Clients::default(),
            budget: self.config.budget,
        };
        for p in 0..self.config.partitions {
            let frontend = p % self.config.frontends;
            let by = takeover::name(frontend);
            let record = Record { kind: Kind::Takeover, by, epoch: 1, write: 0, revision: 0 };
            state.partitions[p] = Partition { log: vec![record], ..Partition::default() };
            let assignment = Assignment { epoch: 1, owner: by };
            state.leader.durable[p] = assignment;
            state.leader.believed[p] = assignment;
            let owner = Owner { epoch: 1, tail: 1, ..Owner::default() };
            state.seats[frontend][p] = Seat { told: 1, tenure: Tenure::Owner(owner) };
        }
        state
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        self.client_steps(state, steps);
        self.leader_steps(state, steps);
        self.engine_steps(state, steps);
        self.coordinator_steps(state, steps);
        self.double(state, steps);
        for frontend in 0..self.config.frontends {
            for p in 0..self.config.partitions {
                self.takeover_steps(state, frontend, p, steps);
                if let Some(owner) = state.seats[frontend][p].owner() {
                    self.owner_steps(&Seated { state, frontend, p, owner }, steps);
                }
            }
            self.crash(state, frontend, steps);
        }
    }

    fn normalize(&self, state: &mut State) {
        self.forget_dead(state);
    }

    fn violation(&self, state: &State) -> Option<Violation> {
        let copies = |write: usize, place: usize| {
            let log = state.partitions[place].log.iter();
            log.filter(|r| r.kind == Kind::Batch && usize::from(r.write) == write).count()
        };
        state.clients.contradiction(&self.config.script, copies).or_else(|| self.skew(state))
    }

    fn is_answered(&self, state: &State) -> bool {
        state.clients.are_answered(&self.config.script)
    }
}
