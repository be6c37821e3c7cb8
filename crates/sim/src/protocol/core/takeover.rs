//! How a frontend becomes the owner of a partition: look, insert the takeover, look again, load.

use super::log::{Commit, Kind, Record};
use super::state::{Owner, PARTITIONS, Phase, Proposal, State, Tenure};
use super::{Core, Steps};
use crate::protocol::rule::Rule;

impl Core {
    pub(crate) fn takeover_steps(&self, state: &State, frontend: usize, p: usize, steps: &mut Steps<State>) {
        self.hear_assignment(state, frontend, p, steps);
        match state.seats[frontend][p].tenure {
            Tenure::Assigned { epoch } => self.look(state, (frontend, p), epoch, steps),
            Tenure::Looked { epoch, tail } => {
                let mut next = state.clone();
                send_takeover(&mut next, (frontend, p), epoch, tail);
                let slot = tail + 1;
                steps.add(next, || format!("F{frontend} sends its takeover of P{} to slot {slot}", p + 1));
            }
            Tenure::Entering { epoch, tail, early } => {
                self.enter(state, (frontend, p), (epoch, tail, early), steps);
            }
            Tenure::Nothing | Tenure::Owner(_) => {}
        }
    }

    /// A frontend hears of an assignment by following partition 0.
    fn hear_assignment(&self, state: &State, frontend: usize, p: usize, steps: &mut Steps<State>) {
        let seat = state.seats[frontend][p];
        let leader = &state.leader;
        let sent = match leader.proposals[p] {
            Proposal::Sent(assignment) if !self.keeps(Rule::AssignmentIsToldWhenDurable) => Some(assignment),
            _ => None,
        };
        let heard = [Some(leader.durable[p]), sent]
            .into_iter()
            .flatten()
            .filter(|assignment| usize::from(assignment.owner) == frontend && assignment.epoch > seat.told)
            .map(|assignment| assignment.epoch)
            .min();
        let Some(epoch) = heard else { return };
        if seat.owner().is_some_and(|owner| owner.phase != Phase::Idle) {
            return;
        }
        let mut next = state.clone();
        let heir = &mut next.seats[frontend][p];
        heir.told = epoch;
        heir.tenure = match seat.tenure {
            Tenure::Owner(owner) if !self.keeps(Rule::ReassignedOwnerReloads) => {
                Tenure::Owner(Owner { epoch, ..owner })
            }
            _ => Tenure::Assigned { epoch },
        };
        steps.add(next, || format!("F{frontend} hears that it owns P{} at epoch {epoch}", p + 1));
    }

    fn look(&self, state: &State, seat: (usize, usize), epoch: u8, steps: &mut Steps<State>) {
        let (frontend, p) = seat;
        let partition = &state.partitions[p];
        let (found, tail) = (partition.last_epoch(), partition.end());
        let mut next = state.clone();
        if found >= epoch && self.keeps(Rule::TakeoverComparesEpochs) {
            next.seats[frontend][p].tenure = Tenure::Nothing;
            steps.add(next, || format!("F{frontend} gives P{} up: its log has epoch {found}", p + 1));
        } else if self.config.budget.trims > 0 {
            // Where slots are trimmed it matters how long it sleeps between the two.
            next.seats[frontend][p].tenure = Tenure::Looked { epoch, tail };
            steps.add(next, || format!("F{frontend} looks: P{} ends at slot {tail}", p + 1));
        } else {
            send_takeover(&mut next, seat, epoch, tail);
            steps.add(next, || {
                format!("F{frontend} looks, and sends its takeover of P{} to slot {}", p + 1, tail + 1)
            });
        }
    }

    /// The takeover's slot is taken: by this takeover, or by something else.
    fn enter(
        &self,
        state: &State,
        seat: (usize, usize),
        (epoch, tail, early): (u8, u8, u8),
        steps: &mut Steps<State>,
    ) {
        let (frontend, p) = seat;
        let partition = &state.partitions[p];
        if early == 0 && !self.keeps(Rule::RevisionIsAskedByTheOwner) {
            let mut next = state.clone();
            let revision = next.leader.allocate();
            next.seats[frontend][p].tenure = Tenure::Entering { epoch, tail, early: revision };
            steps.add(next, || format!("F{frontend} fetches revision {revision} before it owns P{}", p + 1));
        }
        let mut next = state.clone();
        let slot = tail + 1;
        let Some(found) = partition.occupant(slot) else {
            if partition.is_gone(slot) {
                next.seats[frontend][p].tenure = Tenure::Assigned { epoch };
                steps.add(next, || format!("F{frontend} finds slot {slot} of P{} trimmed", p + 1));
            }
            return;
        };
        let is_ours = (found.kind, found.by, found.epoch) == (Kind::Takeover, name(frontend), epoch);
        let is_last = partition.end() == slot && !partition.is_gone(slot);
        if !is_ours {
            next.seats[frontend][p].tenure = Tenure::Assigned { epoch };
            steps.add(next, || format!("F{frontend} finds slot {slot} of P{} taken", p + 1));
        } else if !is_last && self.keeps(Rule::TakeoverLooksAgain) {
            next.seats[frontend][p].tenure = Tenure::Nothing;
            steps.add(next, || format!("F{frontend} gives P{} up: its takeover is not the last slot", p + 1));
        } else {
            let mut owner = self.loaded(state, p, epoch, slot);
            owner.stock = early;
            next.seats[frontend][p].tenure = Tenure::Owner(owner);
            steps.add(next, || format!("F{frontend} owns P{} at epoch {epoch}, and loads it", p + 1));
        }
    }

    /// An owner that has read a log up to a slot.
    pub(crate) fn loaded(&self, state: &State, p: usize, epoch: u8, tail: u8) -> Owner {
        let read = &state.partitions[p].log[..usize::from(tail)];
        let batches = || read.iter().filter(|record| record.kind == Kind::Batch);
        let known = batches()
            .map(|record| usize::from(record.write))
            .filter(|&write| self.config.script.writes[write].writes.has(p))
            .collect();
        let published = batches().map(|record| record.revision).max().unwrap_or(0);
        Owner { epoch, tail, known, published, ..Owner::default() }
    }
}

/// A frontend's name in a record.
pub(crate) fn name(frontend: usize) -> u8 {
    u8::try_from(frontend).expect("there are few frontends")
}

/// Sends a record to one slot of one partition.
pub(crate) fn send(state: &mut State, p: usize, slot: u8, record: Record) {
    let mut slots = [0; PARTITIONS];
    slots[p] = slot;
    state.flying.push(Commit { slots, record });
}

fn send_takeover(state: &mut State, (frontend, p): (usize, usize), epoch: u8, tail: u8) {
    state.seats[frontend][p].tenure = Tenure::Entering { epoch, tail, early: 0 };
    let record = Record { kind: Kind::Takeover, by: name(frontend), epoch, write: 0, revision: 0 };
    send(state, p, tail + 1, record);
}
