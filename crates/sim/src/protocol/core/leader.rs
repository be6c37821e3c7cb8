//! The leader assigns partitions and hands out revisions. Processes fail.

use super::state::{Assignment, Leader, PARTITIONS, Proposal, Seat, State, Tenure};
use super::takeover::name;
use super::{Core, Steps};
use crate::protocol::clients::Fate;
use crate::protocol::rule::Rule;

/// How far the leader raises its ceiling at once.
const CEILING_STEP: u8 = 2;

impl Leader {
    /// The next revision, below a ceiling that is durable (the system model has the ceiling's own commit).
    pub(crate) fn allocate(&mut self) -> u8 {
        if self.current == self.ceiling {
            self.ceiling += CEILING_STEP;
        }
        self.current += 1;
        self.current
    }
}

impl Core {
    pub(crate) fn leader_steps(&self, state: &State, steps: &mut Steps<State>) {
        for p in 0..self.config.partitions {
            match state.leader.proposals[p] {
                Proposal::None => self.assign(state, p, steps),
                Proposal::Sent(assignment) => {
                    let mut next = state.clone();
                    next.leader.durable[p] = assignment;
                    next.leader.proposals[p] = Proposal::Durable;
                    steps.add(next, || format!("the assignment of P{} is durable", p + 1));
                }
                Proposal::Durable => {
                    let mut next = state.clone();
                    next.leader.believed[p] = next.leader.durable[p];
                    next.leader.proposals[p] = Proposal::None;
                    steps.add(next, || {
                        format!("the leader learns that the assignment of P{} is durable", p + 1)
                    });
                }
            }
        }
        self.change_leader(state, steps);
    }

    /// A partition that lost its owner gets another at any time; others as often as the run allows.
    fn assign(&self, state: &State, p: usize, steps: &mut Steps<State>) {
        let Assignment { epoch, owner } = state.leader.durable[p];
        let seat = state.seats[usize::from(owner)][p];
        let has = match seat.tenure {
            Tenure::Nothing => 0,
            Tenure::Assigned { epoch } | Tenure::Looked { epoch, .. } | Tenure::Entering { epoch, .. } => {
                epoch
            }
            Tenure::Owner(owner) => owner.epoch,
        };
        let is_orphan = seat.told >= epoch && has != epoch;
        for frontend in 0..self.config.frontends {
            let is_move = state.budget.reassignments > 0 && usize::from(owner) != frontend;
            if !is_orphan && !is_move {
                continue;
            }
            let mut next = state.clone();
            if !is_orphan {
                next.budget.reassignments -= 1;
            }
            let epoch = state.leader.believed[p].epoch + 1;
            next.leader.proposals[p] = Proposal::Sent(Assignment { epoch, owner: name(frontend) });
            steps.add(next, || format!("the leader sends: P{} at epoch {epoch} to F{frontend}", p + 1));
        }
    }

    /// A new leader fences its forerunner's proposals and loads what is durable.
    fn change_leader(&self, state: &State, steps: &mut Steps<State>) {
        if state.budget.leader_changes == 0 {
            return;
        }
        let mut next = state.clone();
        next.budget.leader_changes -= 1;
        let leader = &mut next.leader;
        leader.proposals = [Proposal::None; PARTITIONS];
        leader.believed = leader.durable;
        leader.current = leader.ceiling;
        if !self.keeps(Rule::NewLeaderStartsAboveTheCeiling) {
            let logs = state.partitions.iter().map(|partition| partition.last_revision());
            leader.current = logs.max().unwrap_or(0);
            leader.ceiling = leader.current;
        }
        let current = leader.current;
        steps.add(next, || format!("another leader takes over, its last revision is {current}"));
    }

    /// A frontend crashes and starts again: it owns nothing, and knows what partition 0 says.
    pub(crate) fn crash(&self, state: &State, frontend: usize, steps: &mut Steps<State>) {
        let coordinates = state.coordinator.filter(|c| usize::from(c.by) == frontend);
        let has_something = state.seats[frontend].iter().any(|seat| seat.tenure != Tenure::Nothing);
        if state.budget.crashes == 0 || !(has_something || coordinates.is_some()) {
            return;
        }
        let mut next = state.clone();
        next.budget.crashes -= 1;
        for p in 0..PARTITIONS {
            let seat = state.seats[frontend][p];
            if let Some(write) = seat.owner().and_then(|owner| owner.phase.taken()) {
                next.clients.writes[usize::from(write)].fate = Fate::Unknown;
            }
            let Assignment { epoch, owner } = state.leader.durable[p];
            let told = if usize::from(owner) == frontend { seat.told.max(epoch) } else { seat.told };
            next.seats[frontend][p] = Seat { told, tenure: Tenure::Nothing };
        }
        if let Some(coordinator) = coordinates {
            next.clients.writes[usize::from(coordinator.write)].fate = Fate::Unknown;
            next.coordinator = None;
        }
        steps.add(next, || format!("F{frontend} crashes and starts again"));
    }

    /// Without R5: a second process under the same name adopts the epoch that it finds in the map.
    pub(crate) fn double(&self, state: &State, steps: &mut Steps<State>) {
        if self.keeps(Rule::OneEpochHasOneProcess) || state.budget.crashes == 0 {
            return;
        }
        for p in 0..self.config.partitions {
            let Assignment { epoch, owner } = state.leader.durable[p];
            let is_served = state.seats[usize::from(owner)][p].owner().is_some_and(|o| o.epoch == epoch);
            for second in (0..self.config.frontends).filter(|&second| second != usize::from(owner)) {
                if !is_served || state.seats[second][p].tenure != Tenure::Nothing {
                    continue;
                }
                let mut next = state.clone();
                next.budget.crashes -= 1;
                let loaded = self.loaded(state, p, epoch, state.partitions[p].end());
                next.seats[second][p].tenure = Tenure::Owner(loaded);
                steps.add(next, || {
                    format!("F{second} starts under F{owner}'s name and adopts epoch {epoch} of P{}", p + 1)
                });
            }
        }
    }
}
