//! A split: one batch ends the parent's log, begins each child's, and changes the map.
//!
//! The parent has two keys and one owner, each child one of the keys. Covered: the hold, the hold that is broken, the
//! split that comes late or never, another leader in between, writes, reads of both keys and a watch that resumes, on
//! both sides of the split. Not here: the parent's or a child's owner changing (the core has that), and reclaiming the
//! parent's log.

mod leader;
mod owner;
mod state;

use self::state::{CHILDREN, Commit, Leader, Owner, PARENT, PARTITIONS, Record, State};
use super::checker::{Model, Steps};
use super::clients::Clients;
use super::rule::{Rule, Rules};
use super::script::Script;
use super::set::Set;
use super::violation::{Promise, Violation};

/// How large a run is. The script's places are the two keys.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) script: Script,
    pub(crate) watches: u8,
    pub(crate) splits: u8,
    pub(crate) leader_changes: u8,
}

/// A split with a configuration, and perhaps without a rule.
pub(crate) struct Split {
    pub(crate) config: Config,
    pub(crate) rules: Rules,
}

impl Split {
    fn keeps(&self, rule: Rule) -> bool {
        self.rules.keeps(rule)
    }

    /// The writes that a key has at or below a revision, wherever they are.
    fn content(&self, state: &State, key: usize, revision: u8) -> Set {
        (0..PARTITIONS)
            .flat_map(|partition| state.batches(partition))
            .filter(|batch| batch.1 <= revision && self.config.script.writes[batch.0].writes.has(key))
            .map(|batch| batch.0)
            .collect()
    }

    fn engine_steps(&self, state: &State, steps: &mut Steps<State>) {
        for (index, commit) in state.flying.iter().enumerate() {
            let mut next = state.clone();
            next.flying.remove(index);
            let mut violation = None;
            for partition in (0..PARTITIONS).filter(|&partition| commit.slots[partition] > 0) {
                violation = violation.or_else(|| self.check(state, partition, commit));
                next.logs[partition].push(commit.record);
            }
            if commit.system > 0 {
                next.system = commit.system;
                next.map_is_split = true;
            }
            if let Record::Batch { write, revision } = commit.record {
                next.clients.writes[usize::from(write)].revision = revision;
            }
            steps.add_checked(next, violation, || format!("the engine applies {}", told(commit)));
        }
    }

    fn check(&self, state: &State, partition: usize, commit: &Commit) -> Option<Violation> {
        let breach = |promise, particulars| Some(Violation::new(promise, particulars));
        if commit.slots[partition] != state.end(partition) + 1 {
            return breach(Promise::SlotsAreDense, format!("slot {} leaves a hole", commit.slots[partition]));
        }
        let Record::Batch { write, revision } = commit.record else { return None };
        let mut lineage = state.batches(PARENT).chain(state.batches(partition));
        if lineage.any(|batch| batch.1 >= revision) {
            return breach(Promise::RevisionsIncrease, format!("revision {revision} is not the highest"));
        }
        let keys = self.config.script.writes[usize::from(write)].writes;
        let key = keys.iter().find(|&key| revision <= state.resolved[key])?;
        let particulars = format!("revision {revision} of key {key}, resolved to {}", state.resolved[key]);
        breach(Promise::ResolvedStaysResolved, particulars)
    }
}

fn told(commit: &Commit) -> String {
    match commit.record {
        Record::Takeover => "a takeover".to_owned(),
        Record::Filler => "the filler".to_owned(),
        Record::Split => "the split".to_owned(),
        Record::Batch { write, revision } => format!("the batch of w{write} at revision {revision}"),
    }
}

impl Model for Split {
    type State = State;

    fn start(&self) -> State {
        let owner = Owner { tail: 1, ..Owner::default() };
        State {
            logs: [vec![Record::Takeover], Vec::new(), Vec::new()],
            flying: Vec::new(),
            system: 0,
            map_is_split: false,
            leader: Leader::default(),
            owners: [Some(owner), None, None],
            preloaded: None,
            resolved: [0; CHILDREN.len()],
            clients: Clients::default(),
            watches: self.config.watches,
            splits: self.config.splits,
            leader_changes: self.config.leader_changes,
        }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        let script = &self.config.script;
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
        self.engine_steps(state, steps);
        self.leader_steps(state, steps);
        for partition in 0..PARTITIONS {
            self.owner_steps(state, partition, steps);
        }
    }

    /// A batch with a taken slot, also of partition 0, can never be applied.
    fn normalize(&self, state: &mut State) {
        let State { flying, logs, system, .. } = state;
        flying.retain(|commit| {
            let is_free = |partition: usize| {
                commit.slots[partition] == 0 || usize::from(commit.slots[partition]) > logs[partition].len()
            };
            (commit.system == 0 || commit.system > *system) && (0..PARTITIONS).all(is_free)
        });
        flying.sort_unstable();
        flying.dedup();
    }

    fn violation(&self, state: &State) -> Option<Violation> {
        let copies = |write: usize, _| {
            let everywhere = (0..PARTITIONS).flat_map(|partition| state.batches(partition));
            everywhere.filter(|batch| batch.0 == write).count()
        };
        state.clients.contradiction(&self.config.script, copies)
    }

    fn is_answered(&self, state: &State) -> bool {
        state.clients.are_answered(&self.config.script)
    }
}
