//! Partition 0: its log, who leads, and what it says.
//!
//! The leader is the owner of partition 0. Here that log is explicit: takeovers, heartbeats, ceilings and assignments
//! are slots of it, batches of it are late or lost like others, and a lease is a span of a clock that ticks. Two
//! processes may lead; one user partition with two frontends shows whether what they say can be relied on.
//!
//! The clock ends, so nothing is said here about whether clients can always be answered.

mod candidate;
mod leader;
mod owner;
mod state;

use self::state::{Assignment, Entry, Lead, Owner, PROCESSES, Phase, Process, Seat, Slot, State, UserSlot};
use super::checker::{Model, Steps};
use super::clients::Clients;
use super::rule::{Rule, Rules};
use super::script::Script;
use super::violation::{Promise, Violation};

/// How large a run is.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) script: Script,
    /// How long a lease lasts, and how long the clock runs.
    pub(crate) lease: u8,
    pub(crate) time: u8,
    /// How many heartbeats and assignments there may be, beside takeovers and ceilings.
    pub(crate) heartbeats: u8,
    pub(crate) moves: u8,
    /// How often a leader may stop of its own will.
    pub(crate) releases: u8,
}

/// Partition 0 with a configuration, and perhaps without a rule.
pub(crate) struct System {
    pub(crate) config: Config,
    pub(crate) rules: Rules,
}

impl System {
    fn keeps(&self, rule: Rule) -> bool {
        self.rules.keeps(rule)
    }

    fn engine_steps(&self, state: &State, steps: &mut Steps<State>) {
        for (index, commit) in state.flying.iter().enumerate() {
            if commit.slot != state.end() + 1 {
                continue; // It waits for the slot before it, which its sender saw durable.
            }
            let mut next = state.clone();
            next.flying.remove(index);
            next.log.push(commit.record);
            steps.add(next, || {
                let (by, what) = (commit.record.by, leader::told(commit.record.entry));
                format!("the engine applies {what} of L{by} to slot {}", commit.slot)
            });
        }
    }
}

impl Model for System {
    type State = State;

    fn start(&self) -> State {
        let assignment = Assignment { epoch: 1, owner: 0 };
        let slot = |entry| Slot { by: 0, entry };
        let lead =
            Lead { until: self.config.lease, tail: 2, current: 0, ceiling: 0, assignment, flight: None };
        let owner = Owner { epoch: 1, tail: 1, known: Default::default(), phase: Phase::Idle };
        State {
            now: 0,
            log: vec![slot(Entry::Assign(assignment)), slot(Entry::Takeover)],
            flying: Vec::new(),
            processes: [Process::Leading(lead), Process::Following],
            user_log: vec![UserSlot::Takeover { epoch: 1 }],
            resolved: 0,
            seats: [Seat { told: 1, owner: Some(owner) }, Seat::default()],
            clients: Clients::default(),
            heartbeats: self.config.heartbeats,
            moves: self.config.moves,
            releases: self.config.releases,
        }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        let script = &self.config.script;
        self.tick(state, steps);
        for write in state.clients.next_writes(script) {
            let mut next = state.clone();
            next.clients.invoke_write(write);
            steps.add(next, || format!("a client sends w{write}"));
        }
        for read in state.clients.next_reads(script) {
            let mut next = state.clone();
            next.clients.invoke_read(read);
            steps.add(next, || format!("a client sends r{read}"));
        }
        self.ask_again(state, steps);
        self.engine_steps(state, steps);
        for process in 0..PROCESSES {
            self.candidate_steps(state, process, steps);
            self.leader_steps(state, process, steps);
            self.owner_steps(state, process, steps);
        }
    }

    /// A batch whose slot is taken can never be applied.
    fn normalize(&self, state: &mut State) {
        let end = state.end();
        state.flying.retain(|commit| commit.slot > end);
        state.flying.sort_unstable();
    }

    fn violation(&self, state: &State) -> Option<Violation> {
        let leaders: Vec<_> = (0..PROCESSES)
            .filter(|&process| state.lead(process).is_some_and(|lead| state.now < lead.until))
            .collect();
        if leaders.len() > 1 {
            let particulars = format!("at {} L0 and L1 both have a lease", state.now);
            return Some(Violation::new(Promise::OneLeader, particulars));
        }
        state.clients.contradiction(&self.config.script, |write, _| state.copies(write))
    }

    fn is_answered(&self, state: &State) -> bool {
        state.clients.are_answered(&self.config.script)
    }

    fn must_stay_answerable(&self) -> bool {
        false
    }
}

/// A process's name in a record.
fn name(process: usize) -> u8 {
    u8::try_from(process).expect("there are few processes")
}
