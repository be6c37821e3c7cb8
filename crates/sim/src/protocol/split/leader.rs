//! The leader splits the parent: hold, one batch, and the map with it.

use super::state::{Belief, CHILDREN, Commit, Leader, Owner, PARENT, PARTITIONS, Phase, Record, State};
use super::{Split, Steps};
use crate::protocol::clients::Progress;
use crate::protocol::rule::Rule;

/// How far the leader raises its ceiling at once.
const CEILING_STEP: u8 = 2;

impl Leader {
    pub(crate) fn allocate(&mut self) -> u8 {
        if self.current == self.ceiling {
            self.ceiling += CEILING_STEP;
        }
        self.current += 1;
        self.current
    }
}

impl Split {
    pub(crate) fn leader_steps(&self, state: &State, steps: &mut Steps<State>) {
        let believe = |belief| {
            let mut next = state.clone();
            next.leader.belief = belief;
            next
        };
        match state.leader.belief {
            Belief::Whole if state.splits > 0 => {
                let mut next = believe(Belief::Asking);
                next.splits -= 1;
                steps.add(next, || "the leader confirms the parent no more, asks it to hold".to_owned());
            }
            Belief::Asking => {
                if let Some(owner) = state.owners[PARENT].filter(|owner| owner.phase == Phase::Idle) {
                    let slot = owner.tail + 1;
                    let mut next = believe(Belief::Holding { slot });
                    next.owners[PARENT] = Some(Owner { phase: Phase::Held, ..owner });
                    steps.add(next, || format!("the parent's owner holds slot {slot} for the split"));
                }
                steps.add(believe(Belief::Whole), || "the leader gives the split up".to_owned());
            }
            Belief::Holding { slot } => {
                let mut next = believe(Belief::Splitting { slot });
                next.flying.push(self.split(state, slot));
                steps.add(next, || "the leader sends the split".to_owned());
            }
            Belief::Splitting { slot } => self.learn_split(state, slot, steps),
            Belief::Mapping => {
                let mut next = believe(Belief::Split);
                next.system += 1;
                next.leader.tail += 1;
                next.map_is_split = true;
                steps.add(next, || "the leader writes the map".to_owned());
            }
            Belief::Whole | Belief::Split => {}
        }
        self.grant_reads(state, steps);
        self.change_leader(state, steps);
    }

    /// One batch: the parent's last slot, each child's first, and partition 0's next.
    fn split(&self, state: &State, slot: u8) -> Commit {
        let mut slots = [0; PARTITIONS];
        slots[PARENT] = if self.keeps(Rule::ChildrenAreFencedFromTheParent) { slot } else { 0 };
        for child in CHILDREN {
            slots[child] = 1;
        }
        let system = if self.keeps(Rule::MapChangesWithTheSplit) { state.leader.tail + 1 } else { 0 };
        Commit { slots, system, record: Record::Split }
    }

    fn learn_split(&self, state: &State, slot: u8, steps: &mut Steps<State>) {
        let mut next = state.clone();
        if state.end(CHILDREN[0]) > 0 {
            let in_one = self.keeps(Rule::MapChangesWithTheSplit);
            next.leader.belief = if in_one { Belief::Split } else { Belief::Mapping };
            next.leader.tail = state.system;
            steps.add(next, || "the leader learns that the parent is split".to_owned());
        } else if state.occupant(PARENT, slot).is_some() && self.keeps(Rule::ChildrenAreFencedFromTheParent) {
            next.leader.belief = Belief::Whole;
            steps.add(next, || "the leader finds the held slot taken: the split failed".to_owned());
        }
    }

    /// A granted read names for each key what is confirmed: 1 the parent, 2 the child.
    fn grant_reads(&self, state: &State, steps: &mut Steps<State>) {
        let epoch = match state.leader.belief {
            Belief::Whole => 1,
            Belief::Split => 2,
            _ => return,
        };
        for read in 0..self.config.script.reads.len() {
            let granted = state.clients.reads[read];
            let mut next = state.clone();
            match granted.progress {
                Progress::Invoked => {
                    let revision = state.leader.current;
                    next.clients.grant(read, revision, [epoch; 2]);
                    let of = if epoch == 1 { "the parent" } else { "the children" };
                    steps.add(next, || format!("the leader answers r{read}: R={revision}, confirms {of}"));
                }
                Progress::Granted if granted.epochs[0] != epoch => {
                    next.clients.ask_again(read);
                    steps.add(next, || format!("the ask of r{read} is made again"));
                }
                _ => {}
            }
        }
    }

    fn change_leader(&self, state: &State, steps: &mut Steps<State>) {
        if state.leader_changes == 0 {
            return;
        }
        let mut next = state.clone();
        next.leader_changes -= 1;
        next.system += 1;
        let belief = if state.map_is_split { Belief::Split } else { Belief::Whole };
        let ceiling = state.leader.ceiling;
        next.leader = Leader { tail: next.system, current: ceiling, ceiling, belief };
        steps.add(next, || {
            let map = if state.map_is_split { "split" } else { "whole" };
            format!("another leader takes slot {} of partition 0, its map is {map}", state.system + 1)
        });
    }
}
