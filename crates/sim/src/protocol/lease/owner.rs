//! Owners accept puts by what they have followed of the system partition, and answer the walk.

use super::state::{Fate, KEYS, Key, Lease, Owner, State};
use super::{Leases, Steps};
use crate::protocol::rule::Rule;
use crate::protocol::set::Set;
use crate::protocol::violation::{Promise, Violation};

/// An owner and where it is.
#[derive(Clone, Copy)]
struct Seated {
    frontend: usize,
    partition: usize,
    owner: Owner,
}

impl Seated {
    fn replaced(self, state: &State, owner: Option<Owner>) -> State {
        let mut next = state.clone();
        next.owners[self.frontend][self.partition] = owner;
        next
    }
}

impl Leases {
    pub(crate) fn frontend_steps(&self, state: &State, frontend: usize, steps: &mut Steps<State>) {
        if usize::from(state.followed[frontend]) < state.system.len() {
            let mut next = state.clone();
            next.followed[frontend] += 1;
            let slot = next.followed[frontend];
            steps.add(next, || format!("F{frontend} follows the system partition to slot {slot}"));
        }
        for partition in 0..KEYS {
            self.take_over(state, frontend, partition, steps);
            let Some(owner) = state.owners[frontend][partition] else { continue };
            let seated = Seated { frontend, partition, owner };
            match owner.put {
                None => self.take_put(state, seated, steps),
                Some(put) => self.commit(state, seated, put, steps),
            }
            self.answer_walk(state, seated, steps);
        }
    }

    fn take_over(&self, state: &State, frontend: usize, partition: usize, steps: &mut Steps<State>) {
        let Some((owner, epoch, slot)) = state.assignment(partition) else { return };
        let has_followed = usize::from(state.followed[frontend]) >= slot;
        let may = has_followed || !self.keeps(Rule::OwnerReachesItsAssignment);
        // Whoever is assigned its partition again first learns what became of its put.
        let is_busy = state.owners[frontend][partition].is_some_and(|owner| owner.put.is_some());
        if owner != frontend || epoch <= state.epochs[partition] || is_busy || !may {
            return;
        }
        let mut next = state.clone();
        next.epochs[partition] = epoch;
        next.owners[frontend][partition] = Some(Owner { epoch, put: None, listed: None });
        steps.add(next, || format!("F{frontend} takes partition {partition} over at epoch {epoch}"));
    }

    fn take_put(&self, state: &State, seated: Seated, steps: &mut Steps<State>) {
        let Seated { frontend, partition, owner } = seated;
        for (number, put) in self.config.puts.iter().enumerate() {
            if state.puts[number] != Fate::Sent || state.home(put.key) != partition {
                continue;
            }
            let own = state.lease_for(frontend);
            if !put.attaches || own == Lease::Live {
                let taken = Owner { put: u8::try_from(number).ok(), ..owner };
                let mut next = seated.replaced(state, Some(taken));
                next.puts[number] = Fate::Taken;
                steps.add(next, || format!("F{frontend} takes put {number} of key {}", put.key));
                continue;
            }
            // It is behind, perhaps. Then it waits, unless the leader knows no such lease either.
            let is_there = state.lease() == Lease::Live;
            if is_there && self.keeps(Rule::UnknownLeaseIsAskedOfTheLeader) {
                continue;
            }
            let mut next = state.clone();
            next.puts[number] = Fate::Failed;
            let violation = is_there.then(|| {
                let particulars = format!("F{frontend} refuses put {number}: it knows no such lease");
                Violation::new(Promise::GrantedLeasesAreThere, particulars)
            });
            steps.add_checked(next, violation, || format!("F{frontend} refuses put {number}: no such lease"));
        }
    }

    fn commit(&self, state: &State, seated: Seated, put: u8, steps: &mut Steps<State>) {
        let Seated { frontend, partition, owner } = seated;
        let number = usize::from(put);
        if owner.epoch != state.epochs[partition] {
            let mut next = seated.replaced(state, None);
            next.puts[number] = Fate::Failed;
            steps.add(next, || format!("F{frontend} is deposed, put {number} failed"));
            return;
        }
        let op = self.config.puts[number];
        let mut next = seated.replaced(state, Some(Owner { put: None, ..owner }));
        next.puts[number] = Fate::Acknowledged;
        next.keys[op.key] = if op.attaches { Key::Leased } else { Key::Free };
        steps.add(next, || format!("F{frontend} commits put {number} of key {}", op.key));
    }

    /// The owner lists the keys on the lease, deletes those that still hang on it, and answers when there are none.
    fn answer_walk(&self, state: &State, seated: Seated, steps: &mut Steps<State>) {
        let Seated { frontend, partition, owner } = seated;
        let Some(walk) = state.walk else { return };
        let is_current = state.assignment(partition).map(|(_, epoch, _)| epoch) == Some(owner.epoch);
        let knows = usize::from(state.followed[frontend]) >= state.revoked_in();
        let may = knows || !self.keeps(Rule::OwnerAttachesNothingAfterItsAnswer);
        if !is_current || owner.epoch != state.epochs[partition] || walk.answered.has(partition) || !may {
            return;
        }
        let keys = || (0..KEYS).filter(|&key| state.home(key) == partition);
        let hanging: Set = keys().filter(|&key| state.keys[key] == Key::Leased).collect();
        let Some(listed) = owner.listed else {
            let next = seated.replaced(state, Some(Owner { listed: Some(hanging), ..owner }));
            steps.add(next, || format!("F{frontend} lists the keys {hanging} of partition {partition}"));
            return;
        };
        let is_checked = self.keeps(Rule::OnlyWhatStillHangsIsDeleted);
        let doomed = if is_checked { listed.and(hanging) } else { listed };
        let wronged = doomed.iter().find(|&key| state.keys[key] == Key::Free);
        let violation = wronged.map(|key| {
            let particulars = format!("key {key} was put without a lease since");
            Violation::new(Promise::OnlyLeasedKeysExpire, particulars)
        });
        let is_clean = hanging.without(doomed).is_empty();
        let is_quiet = owner.put.is_none() || !self.keeps(Rule::AnswerFollowsPutsOnTheirWay);
        let mut next = seated.replaced(state, Some(Owner { listed: None, ..owner }));
        for key in doomed.iter() {
            next.keys[key] = Key::Absent;
        }
        let answers = is_clean && is_quiet;
        if answers {
            next.walk = Some(super::state::Walk { answered: walk.answered.with(partition), ..walk });
        }
        steps.add_checked(next, violation, || {
            let end = if answers { "and answers the walk" } else { "and has to look again" };
            format!("F{frontend} deletes the keys {doomed} of partition {partition}, {end}")
        });
    }
}
