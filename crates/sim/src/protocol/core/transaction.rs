//! Transactions over several partitions: a coordinator, and the owners that hold their next slot for it.

use super::log::{Commit, Kind, Record};
use super::owner::Seated;
use super::state::{COORDINATOR, Coordinator, Owner, PARTITIONS, Phase, Stage, State, Tenure};
use super::takeover::{name, send};
use super::{Core, Steps};
use crate::protocol::clients::Fate;
use crate::protocol::rule::Rule;

impl Core {
    pub(crate) fn coordinator_steps(&self, state: &State, steps: &mut Steps<State>) {
        let Some(coordinator) = state.coordinator else {
            self.begin(state, steps);
            return;
        };
        let number = usize::from(coordinator.write);
        match coordinator.stage {
            Stage::Holding => {
                self.hold(state, coordinator, steps);
                self.ask_revision(state, coordinator, steps);
            }
            Stage::Ready => {
                let mut next = state.clone();
                next.coordinator = Some(Coordinator { stage: Stage::Committing, ..coordinator });
                next.flying.push(batch(coordinator));
                steps.add(next, || {
                    format!("the coordinator sends w{number} at revision {}", coordinator.revision)
                });
            }
            Stage::Committing => self.learn(state, coordinator, steps),
        }
        if coordinator.stage != Stage::Committing {
            let mut next = state.clone();
            next.coordinator = None;
            next.clients.writes[number].fate = Fate::Failed;
            steps.add(next, || format!("the coordinator gives w{number} up: nothing was sent"));
        }
    }

    fn begin(&self, state: &State, steps: &mut Steps<State>) {
        for (number, op) in self.config.script.writes.iter().enumerate() {
            if op.single().is_some() || state.clients.writes[number].fate != Fate::Invoked {
                continue;
            }
            for frontend in 0..self.config.frontends {
                let mut next = state.clone();
                next.clients.writes[number].fate = Fate::Taken;
                next.coordinator = Some(Coordinator {
                    by: name(frontend),
                    write: u8::try_from(number).expect("there are few writes"),
                    slots: [0; PARTITIONS],
                    asked: Default::default(),
                    revision: 0,
                    stage: Stage::Holding,
                });
                steps.add(next, || format!("F{frontend} coordinates w{number}"));
            }
        }
    }

    /// The owner of the next partition, in their order, holds its next slot.
    fn hold(&self, state: &State, coordinator: Coordinator, steps: &mut Steps<State>) {
        let op = self.config.script.writes[usize::from(coordinator.write)];
        let Some(p) = op.touches().without(coordinator.asked).iter().next() else { return };
        let only_compares = !op.writes.has(p);
        for frontend in 0..self.config.frontends {
            let Some(owner) = state.seats[frontend][p].owner().filter(|owner| owner.phase == Phase::Idle)
            else {
                continue;
            };
            let mut next = state.clone();
            let mut asked = Coordinator { asked: coordinator.asked.with(p), ..coordinator };
            if only_compares {
                next.clients.writes[usize::from(coordinator.write)].compared = owner.known;
            }
            if self.keeps(Rule::EveryPartitionGetsASlot) || !only_compares {
                asked.slots[p] = owner.tail + 1;
                let phase = Phase::Held { write: coordinator.write };
                next.seats[frontend][p].tenure = Tenure::Owner(Owner { phase, ..owner });
            }
            next.coordinator = Some(asked);
            steps.add(next, || {
                format!("F{frontend} holds slot {} of P{} for w{}", asked.slots[p], p + 1, coordinator.write)
            });
        }
    }

    fn ask_revision(&self, state: &State, coordinator: Coordinator, steps: &mut Steps<State>) {
        let op = self.config.script.writes[usize::from(coordinator.write)];
        let are_all_held = coordinator.asked == op.touches();
        let may_ask = are_all_held || !self.keeps(Rule::RevisionFollowsTheLastHold);
        let mut next = state.clone();
        if coordinator.revision == 0 && may_ask {
            let revision = next.leader.allocate();
            let stage = if are_all_held { Stage::Ready } else { Stage::Holding };
            next.coordinator = Some(Coordinator { revision, stage, ..coordinator });
            steps.add(next, || format!("the leader gives the coordinator revision {revision}"));
        } else if coordinator.revision > 0 && are_all_held {
            next.coordinator = Some(Coordinator { stage: Stage::Ready, ..coordinator });
            steps.add(next, || "the coordinator has all its holds".to_owned());
        }
    }

    /// The coordinator reads in its slots what became of its batch.
    fn learn(&self, state: &State, coordinator: Coordinator, steps: &mut Steps<State>) {
        let Coordinator { slots, revision, write, .. } = coordinator;
        let number = usize::from(write);
        let held = || (0..PARTITIONS).filter(|&p| slots[p] > 0);
        let occupant = |p: usize| state.partitions[p].occupant(slots[p]);
        let is_ours = |record: Record| (record.kind, record.write) == (Kind::Batch, write);
        let is_trimmed = |p: usize| slots[p] <= state.partitions[p].trimmed_through();
        let mut next = state.clone();
        next.coordinator = None;
        if held().all(|p| occupant(p).is_some_and(is_ours)) {
            let violation = next.clients.acknowledge(number, revision);
            let words = || format!("the coordinator acknowledges w{number} at revision {revision}");
            steps.add_checked(next, violation, words);
        } else if held().any(|p| occupant(p).is_some_and(|record| !is_ours(record))) {
            next.clients.writes[number].fate = Fate::Failed;
            steps.add(next, || format!("the coordinator finds a slot taken: w{number} failed"));
        } else if held().any(|p| occupant(p).is_none() && is_trimmed(p))
            && self.keeps(Rule::TrimmedSlotIsUnknown)
        {
            next.clients.writes[number].fate = Fate::Unknown;
            steps.add(next, || format!("the coordinator finds its slots trimmed: w{number} is unknown"));
        } else {
            let batch = batch(coordinator);
            if !state.flying.contains(&batch) {
                next.coordinator = Some(coordinator);
                next.flying.push(batch);
                steps.add(next, || format!("the coordinator finds its slots empty, sends w{number} again"));
            }
        }
    }

    /// A holder waits until its next slot is written: by the coordinator, by itself, or by its successor.
    pub(crate) fn holder_steps(
        &self,
        seated: &Seated<'_>,
        write: u8,
        is_breaking: bool,
        steps: &mut Steps<State>,
    ) {
        let (frontend, owner, slot, place) = (seated.frontend, seated.owner, seated.slot(), seated.p + 1);
        let moved = Owner { tail: slot, phase: Phase::Idle, ..owner };
        match seated.next_occupant() {
            Some(found) if (found.kind, found.write) == (Kind::Batch, write) => {
                let is_written = self.config.script.writes[usize::from(write)].writes.has(seated.p);
                let known = if is_written { owner.known.with(usize::from(write)) } else { owner.known };
                let next = seated.become_owner(Owner { known, published: found.revision, ..moved });
                steps
                    .add(next, || format!("F{frontend} finds w{write} in the slot of P{place} that it held"));
            }
            Some(found) if found == seated.record(Kind::Filler, 0, 0) => {
                steps.add(seated.become_owner(moved), || {
                    format!("F{frontend} has broken its hold of P{place}")
                });
            }
            Some(_) => {
                let next = seated.become_nobody();
                steps
                    .add(next, || format!("F{frontend} finds slot {slot} of P{place} another's, is deposed"));
            }
            None if seated.state.partitions[seated.p].is_gone(slot) => {
                steps.add(seated.become_nobody(), || {
                    format!("F{frontend} finds the slot of P{place} that it held trimmed, gives up")
                });
            }
            None if !is_breaking => {
                let mut next = seated.become_owner(Owner { phase: Phase::Breaking { write }, ..owner });
                send(&mut next, seated.p, slot, seated.record(Kind::Filler, 0, 0));
                steps.add(next, || format!("F{frontend} waits no longer, sends a filler to P{place}"));
            }
            None => {}
        }
    }
}

fn batch(coordinator: Coordinator) -> Commit {
    let Coordinator { slots, write, revision, .. } = coordinator;
    let record = Record { kind: Kind::Batch, by: COORDINATOR, epoch: 0, write, revision };
    Commit { slots, record }
}
