//! Leases and the keys that hang on them: grant, attach, revoke, the walk over the owners, and the end.
//!
//! One lease, two keys, two frontends that follow the system partition each at its own pace. Meanwhile partitions are
//! moved and split, the leader changes, and puts attach or detach keys. A partition's log is abstract: a batch of a
//! deposed owner fails. When a lease runs out is the `expiry` model's matter; that the system partition has one writer
//! is the `system` model's.

mod leader;
mod owner;
mod state;

use self::state::{Entry, FRONTENDS, Fate, KEYS, Key, Lease, Owner, State};
use super::checker::{Model, Steps};
use super::rule::{Rule, Rules};
use super::violation::{Promise, Violation};

/// A put of a key, with the lease or without one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Put {
    pub(crate) key: usize,
    pub(crate) attaches: bool,
}

/// How large a run is.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) puts: [Put; 2],
    pub(crate) grants: u8,
    pub(crate) moves: u8,
    pub(crate) splits: u8,
    pub(crate) leader_changes: u8,
}

/// Leases with a configuration, and perhaps without a rule.
pub(crate) struct Leases {
    pub(crate) config: Config,
    pub(crate) rules: Rules,
}

impl Leases {
    fn keeps(&self, rule: Rule) -> bool {
        self.rules.keeps(rule)
    }
}

impl Model for Leases {
    type State = State;

    fn start(&self) -> State {
        let owner = Owner { epoch: 1, put: None, listed: None };
        State {
            system: vec![Entry::Assign { partition: 0, owner: 0, epoch: 1 }],
            followed: [1; FRONTENDS],
            epochs: [1, 0],
            keys: [Key::Absent; KEYS],
            owners: [[Some(owner), None], [None, None]],
            walk: None,
            puts: Default::default(),
            grants: self.config.grants,
            revokes: 1,
            moves: self.config.moves,
            splits: self.config.splits,
            leader_changes: self.config.leader_changes,
        }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        self.leader_steps(state, steps);
        let was_granted = state.grants < self.config.grants;
        for put in 0..self.config.puts.len() {
            if state.puts[put] == Fate::NotSent && was_granted {
                let mut next = state.clone();
                next.puts[put] = Fate::Sent;
                steps.add(next, || format!("a client sends put {put}"));
            }
        }
        for frontend in 0..FRONTENDS {
            self.frontend_steps(state, frontend, steps);
        }
    }

    fn violation(&self, state: &State) -> Option<Violation> {
        let key = state.keys.iter().position(|key| *key == Key::Leased)?;
        (state.lease() == Lease::Unknown).then(|| {
            Violation::new(
                Promise::NoKeyOutlivesItsLease,
                format!("key {key} hangs on a lease that is not there"),
            )
        })
    }

    fn is_answered(&self, state: &State) -> bool {
        let is_done = |put: &Fate| matches!(put, Fate::Acknowledged | Fate::Failed);
        state.puts.iter().all(is_done) && state.revokes == 0 && state.walk.is_none()
    }
}
