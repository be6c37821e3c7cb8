//! The leader grants, revokes, walks, and lets a lease vanish; it also moves and splits partitions meanwhile.

use super::state::{Entry, FRONTENDS, Lease, State, Walk};
use super::{Leases, Steps};
use crate::protocol::rule::Rule;
use crate::protocol::set::Set;
use crate::protocol::violation::{Promise, Violation};

impl Leases {
    pub(crate) fn leader_steps(&self, state: &State, steps: &mut Steps<State>) {
        self.grant_and_revoke(state, steps);
        self.vanish(state, steps);
        self.assign(state, steps);
        if state.leader_changes > 0 {
            let mut next = state.clone();
            next.leader_changes -= 1;
            next.walk = (state.lease() == Lease::Revoking).then(|| begin(state));
            steps.add(next, || "another leader begins the walk anew".to_owned());
        }
    }

    fn grant_and_revoke(&self, state: &State, steps: &mut Steps<State>) {
        let lease = state.lease();
        let is_free = lease == Lease::Unknown
            || (lease == Lease::Revoking && !self.keeps(Rule::RevokingIsNotGrantedAgain));
        if state.grants > 0 && is_free {
            let mut next = state.clone();
            next.grants -= 1;
            next.system.push(Entry::Grant);
            steps.add(next, || "the lease is granted, and its client knows it".to_owned());
        }
        if state.revokes > 0 && lease == Lease::Live {
            let mut next = state.clone();
            next.revokes -= 1;
            next.system.push(Entry::Revoke);
            next.walk = Some(begin(state));
            steps.add(next, || "the revocation is durable, the walk begins".to_owned());
        }
    }

    fn vanish(&self, state: &State, steps: &mut Steps<State>) {
        let Some(walk) = state.walk else { return };
        let is_current = self.keeps(Rule::WalkCoversTheCurrentMap);
        let to_answer = if is_current { state.map() } else { walk.first_map };
        let is_over = to_answer.without(walk.answered).is_empty();
        if !is_over && self.keeps(Rule::LeaseVanishesAfterTheWalk) {
            return;
        }
        let mut next = state.clone();
        next.system.push(Entry::Vanish);
        next.walk = None;
        let violation = (state.lease() == Lease::Live).then(|| {
            let particulars = "it was granted again and nobody revoked it".to_owned();
            Violation::new(Promise::GrantedLeasesAreThere, particulars)
        });
        steps.add_checked(next, violation, || "the lease vanishes".to_owned());
    }

    fn assign(&self, state: &State, steps: &mut Steps<State>) {
        for partition in state.map().iter().filter(|_| state.moves > 0) {
            let Some((owner, epoch, _)) = state.assignment(partition) else { continue };
            let (owner, epoch) = ((owner + 1) % FRONTENDS, epoch + 1);
            let mut next = state.clone();
            next.moves -= 1;
            next.system.push(entry(partition, owner, epoch));
            steps.add(next, || format!("partition {partition} is assigned to F{owner} at epoch {epoch}"));
        }
        // The parent holds: nothing of it is on its way when the split is applied.
        let holds = |frontend: usize| {
            state.owners[frontend][0]
                .is_some_and(|owner| owner.epoch == state.epochs[0] && owner.put.is_none())
        };
        if state.splits > 0 && (0..FRONTENDS).any(holds) {
            let mut next = state.clone();
            next.splits -= 1;
            next.system.push(entry(1, 1, 1));
            for owner in next.owners.iter_mut().filter_map(|owners| owners[0].as_mut()) {
                owner.listed = None; // It lists again what is left to it.
            }
            steps.add(next, || "partition 1 is split from partition 0, and assigned to F1".to_owned());
        }
    }
}

fn begin(state: &State) -> Walk {
    Walk { answered: Set::default(), first_map: state.map() }
}

fn entry(partition: usize, owner: usize, epoch: u8) -> Entry {
    let small = |number| u8::try_from(number).expect("there are few of them");
    Entry::Assign { partition: small(partition), owner: small(owner), epoch }
}
