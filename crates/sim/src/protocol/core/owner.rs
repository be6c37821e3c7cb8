//! An owner commits one write after the other, and finds out what became of each.

use super::log::{Kind, Record};
use super::state::{Owner, Phase, State, Tenure};
use super::takeover::{name, send};
use super::{Core, Steps};
use crate::protocol::clients::Fate;
use crate::protocol::rule::Rule;

/// One owner of one partition, and the state that it is in.
pub(crate) struct Seated<'a> {
    pub(crate) state: &'a State,
    pub(crate) frontend: usize,
    pub(crate) p: usize,
    pub(crate) owner: Owner,
}

impl Seated<'_> {
    /// The state in which this owner has become another, or none at all.
    pub(crate) fn become_owner(&self, owner: Owner) -> State {
        let mut next = self.state.clone();
        next.seats[self.frontend][self.p].tenure = Tenure::Owner(owner);
        next
    }

    pub(crate) fn become_nobody(&self) -> State {
        let mut next = self.state.clone();
        next.seats[self.frontend][self.p].tenure = Tenure::Nothing;
        next
    }

    pub(crate) fn record(&self, kind: Kind, write: u8, revision: u8) -> Record {
        Record { kind, by: name(self.frontend), epoch: self.owner.epoch, write, revision }
    }

    /// The slot that it writes next.
    pub(crate) fn slot(&self) -> u8 {
        self.owner.tail + 1
    }

    pub(crate) fn next_occupant(&self) -> Option<Record> {
        self.state.partitions[self.p].occupant(self.slot())
    }
}

impl Core {
    pub(crate) fn owner_steps(&self, seated: &Seated<'_>, steps: &mut Steps<State>) {
        match seated.owner.phase {
            Phase::Idle => {
                self.take_write(seated, steps);
                self.fetch_ahead(seated, steps);
            }
            Phase::Asked { write } => {
                let mut next = seated.state.clone();
                let revision = next.leader.allocate();
                let phase = Phase::Allocated { write, revision };
                let frontend = seated.frontend;
                next.seats[frontend][seated.p].tenure = Tenure::Owner(Owner { phase, ..seated.owner });
                steps.add(next, || format!("the leader gives F{frontend} revision {revision}"));
            }
            Phase::Allocated { write, revision } => commit(seated, write, revision, steps),
            Phase::Committing { write, revision } => self.settle(seated, write, revision, steps),
            Phase::Filling { write, revision } => self.settle(seated, write, revision, steps),
            Phase::Held { write } => self.holder_steps(seated, write, false, steps),
            Phase::Breaking { write } => self.holder_steps(seated, write, true, steps),
        }
    }

    /// The owner takes a write of its partition and asks for a revision.
    fn take_write(&self, seated: &Seated<'_>, steps: &mut Steps<State>) {
        let (frontend, p, owner) = (seated.frontend, seated.p, seated.owner);
        for (number, op) in self.config.script.writes.iter().enumerate() {
            if op.single() != Some(p) || seated.state.clients.writes[number].fate != Fate::Invoked {
                continue;
            }
            let write = u8::try_from(number).expect("there are few writes");
            let phase = match owner.stock {
                0 => Phase::Asked { write },
                revision => Phase::Allocated { write, revision },
            };
            let mut next = seated.become_owner(Owner { phase, stock: 0, ..owner });
            next.clients.writes[number].fate = Fate::Taken;
            steps.add(next, || {
                let how = if owner.stock == 0 { "asks for a revision" } else { "has a revision already" };
                format!("F{frontend} takes w{number} to P{}, {how}", p + 1)
            });
        }
    }

    fn fetch_ahead(&self, seated: &Seated<'_>, steps: &mut Steps<State>) {
        if self.keeps(Rule::NoRevisionIsFetchedAhead) || seated.owner.stock > 0 {
            return;
        }
        let mut next = seated.state.clone();
        let stock = next.leader.allocate();
        next.seats[seated.frontend][seated.p].tenure = Tenure::Owner(Owner { stock, ..seated.owner });
        steps.add(next, || format!("F{} fetches revision {stock} ahead", seated.frontend));
    }

    /// What became of the batch is read in its slot.
    fn settle(&self, seated: &Seated<'_>, write: u8, revision: u8, steps: &mut Steps<State>) {
        let (owner, frontend, slot) = (seated.owner, seated.frontend, seated.slot());
        let number = usize::from(write);
        let is_filling = matches!(owner.phase, Phase::Filling { .. });
        let moved = Owner { tail: slot, phase: Phase::Idle, ..owner };
        let batch = seated.record(Kind::Batch, write, revision);
        let is_overwriting = !self.keeps(Rule::SlotIsInserted);
        if is_overwriting && seated.state.flying.iter().any(|commit| commit.record == batch) {
            return; // A put says nothing but that it was applied.
        }
        match seated.next_occupant() {
            Some(found) if found == batch || is_overwriting => {
                let known = owner.known.with(number);
                let mut next = seated.become_owner(Owner { known, published: revision, ..moved });
                let violation = next.clients.acknowledge(number, revision);
                steps.add_checked(next, violation, || {
                    format!("F{frontend} finds its batch committed, acknowledges w{number} at {revision}")
                });
            }
            Some(found) => {
                let is_filled = found == seated.record(Kind::Filler, 0, 0);
                let mut next = if is_filled { seated.become_owner(moved) } else { seated.become_nobody() };
                next.clients.writes[number].fate = Fate::Failed;
                let end = if is_filled { "its filler" } else { "another's record, and is deposed" };
                steps.add(next, || {
                    format!("F{frontend} finds {end} in slot {slot} of P{}: w{number} failed", seated.p + 1)
                });
            }
            None => self.fill(seated, (write, revision), is_filling, steps),
        }
    }

    /// The slot is empty: it was never written, or it was trimmed.
    fn fill(
        &self,
        seated: &Seated<'_>,
        (write, revision): (u8, u8),
        is_filling: bool,
        steps: &mut Steps<State>,
    ) {
        let (frontend, p, slot) = (seated.frontend, seated.p, seated.slot());
        let partition = &seated.state.partitions[p];
        let number = usize::from(write);
        if slot <= partition.trimmed_through() && self.keeps(Rule::TrimmedSlotIsUnknown) {
            let mut next = seated.become_nobody();
            next.clients.writes[number].fate = Fate::Unknown;
            steps.add(next, || format!("F{frontend} finds slot {slot} of P{} trimmed, gives up", p + 1));
        } else if !self.keeps(Rule::AbsentSlotIsFilled) {
            let mut next = seated.become_owner(Owner { phase: Phase::Idle, ..seated.owner });
            next.clients.writes[number].fate = Fate::Failed;
            steps.add(next, || format!("F{frontend} finds slot {slot} empty and calls w{number} failed"));
        } else if !is_filling {
            let phase = Phase::Filling { write, revision };
            let mut next = seated.become_owner(Owner { phase, ..seated.owner });
            send(&mut next, p, slot, seated.record(Kind::Filler, 0, 0));
            steps.add(next, || format!("F{frontend} finds slot {slot} of P{} empty, sends a filler", p + 1));
        }
    }
}

/// The revision arrives, and the batch leaves.
fn commit(seated: &Seated<'_>, write: u8, revision: u8, steps: &mut Steps<State>) {
    let phase = Phase::Committing { write, revision };
    let mut next = seated.become_owner(Owner { phase, ..seated.owner });
    send(&mut next, seated.p, seated.slot(), seated.record(Kind::Batch, write, revision));
    steps.add(next, || {
        let (frontend, slot, p) = (seated.frontend, seated.slot(), seated.p + 1);
        format!("F{frontend} sends the batch of w{write} at revision {revision} to slot {slot} of P{p}")
    });
}
