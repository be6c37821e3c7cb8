//! Spreading the partitions over the members, while this process leads.
//!
//! Every member gets about as many as any other one, and the leader, which does more than that, not more than others. One
//! partition moves at a time. One that was fetched back, because a transaction needed it together with others, stays with
//! the leader for a while, longer each time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Shutdown};
use fleet::Member;
use layout::log::Incarnation;
use partition::{Assignments, Store};
use proto::spliced::FollowResponse;
use tracing::info;

use super::Peers;
use super::owners::Table;

/// How often it is looked whether something should move.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a partition that was fetched back stays with the leader: doubled each time, up to the maximum.
const STAYS_MIN: Duration = Duration::from_secs(10);
const STAYS_MAX: Duration = Duration::from_secs(1280);

/// See the module.
pub(crate) struct Balance {
    pub(crate) peers: Arc<Peers>,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
}

/// A partition that was fetched back.
#[derive(Clone, Copy, Debug, Default)]
struct Fetched {
    times: u32,
    stays: Duration,
    until: Duration,
}

impl Balance {
    /// Until `shutdown`.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let _ = shutdown.or(self.balance()).await;
    }

    async fn balance(&self) {
        let mut leading = self.store.leading();
        // The sender lives as long as the store does.
        let _ = leading.wait_for(|leads| *leads).await;
        let assignments = self.store.assignments();
        let mut owners = assignments.owners();
        let mut fetched = BTreeMap::new();
        // What it knew while it followed is over.
        self.tell(&owners.borrow_and_update().clone());
        loop {
            tokio::select! {
                biased;
                changed = owners.changed() => if changed.is_err() { return },
                () = self.clock.sleep_until(self.clock.now() + LOOK_EVERY) => {
                    if self.peers.spreads {
                        self.move_one(assignments, &fetched);
                    }
                    continue;
                }
            }
            let now = owners.borrow_and_update().clone();
            self.note_fetched(&mut fetched);
            self.tell(&now);
        }
    }

    /// Tells everybody who owns what.
    fn tell(&self, owners: &[Option<Incarnation>]) {
        let members = self.members();
        let member_of =
            |owner: &Incarnation| members.iter().find(|member| member.incarnation == owner.0).cloned();
        let table: Table = owners.iter().map(|owner| owner.as_ref().and_then(member_of)).collect();
        let owners = &self.peers.owners;
        owners.set(table);
        self.peers
            .feeds
            .hand(|| FollowResponse { owners: Some(owners.to_wire()), ..FollowResponse::default() });
    }

    /// Notes what was fetched back since the last time.
    fn note_fetched(&self, fetched: &mut BTreeMap<usize, Fetched>) {
        let now = self.clock.now();
        let assignments = self.store.assignments();
        for place in 0..self.store.keys.partition_count() {
            let times = assignments.fetched(place);
            let known = fetched.entry(place).or_default();
            if times > known.times {
                let stays = (known.stays * 2).clamp(STAYS_MIN, STAYS_MAX);
                *known = Fetched { times, stays, until: now + stays };
            }
        }
    }

    fn move_one(&self, assignments: &Assignments, fetched: &BTreeMap<usize, Fetched>) {
        let now = self.clock.now();
        let listed: Vec<u128> = self.members().iter().map(|member| member.incarnation).collect();
        // Those who have said that they can own something, and are still heard of.
        let members: Vec<Incarnation> =
            assignments.members().into_iter().filter(|member| listed.contains(&member.0)).collect();
        let owners = assignments.owners().borrow().clone();
        let may_go = |place: usize| fetched.get(&place).is_none_or(|fetched| fetched.until <= now);
        let Some((place, owner)) = next_move(&owners, &members, may_go) else { return };
        info!(place, "a partition is moved, to spread the load");
        assignments.assign(place, owner);
    }

    fn members(&self) -> Vec<Member> {
        self.peers.members.lock().live(self.clock.now())
    }
}

/// What should move next, and to whom; `None` for the owner is the leader. Nothing when no move makes it more even.
fn next_move(
    owners: &[Option<Incarnation>],
    members: &[Incarnation],
    may_go: impl Fn(usize) -> bool,
) -> Option<(usize, Option<Incarnation>)> {
    // The leader counts as half a partition more.
    let load = |who: Option<Incarnation>| {
        2 * owners.iter().filter(|owner| **owner == who).count() + usize::from(who.is_none())
    };
    let everybody = || members.iter().copied().map(Some).chain([None]);
    let emptiest = everybody().min_by_key(|who| (load(*who), who.map(|who| who.0)))?;
    let of = |who: Option<Incarnation>| {
        owners.iter().enumerate().filter(move |(_, owner)| **owner == who).map(|(place, _)| place)
    };
    let goes = |who: Option<Incarnation>| of(who).find(|place| emptiest.is_none() || may_go(*place));
    let fullest = everybody().filter(|who| goes(*who).is_some()).max_by_key(|who| load(*who))?;
    // As even as before, or less, if there is not more between the two than what moves.
    if load(fullest) <= load(emptiest) + 2 {
        return None;
    }
    Some((goes(fullest)?, emptiest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settled(count: usize, members: &[Incarnation], may_go: impl Fn(usize) -> bool + Copy) -> Vec<usize> {
        let mut owners = vec![None; count];
        for _ in 0..=count {
            match next_move(&owners, members, may_go) {
                Some((place, owner)) => owners[place] = owner,
                None => {
                    let of = |who| owners.iter().filter(|owner| **owner == who).count();
                    return members.iter().map(|&member| of(Some(member))).chain([of(None)]).collect();
                }
            }
        }
        panic!("partitions move for ever: {owners:?}");
    }

    proptest! {
        #[test]
        fn everybody_gets_about_as_many_and_the_leader_not_more(count in 0..40_usize, others in 0..6_u128) {
            let members: Vec<_> = (1..=others).map(Incarnation).collect();
            let owned = settled(count, &members, |_| true);
            let (least, most) = (owned.iter().min().unwrap(), owned.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", owned);
            prop_assert_eq!(owned.last(), Some(least));
        }
    }

    #[test]
    fn what_has_to_stay_stays_with_the_leader() {
        let members = [Incarnation(1)];
        assert_eq!(settled(4, &members, |place| place > 2), [1, 3]);
        assert_eq!(next_move(&[None; 3], &members, |_| false), None);
    }

    #[test]
    fn a_member_that_comes_gets_its_share_from_the_fullest() {
        let (a, b) = (Incarnation(1), Incarnation(2));
        let owners = [Some(a), Some(a), Some(a), None, None];
        assert_eq!(next_move(&owners, &[a, b], |_| true), Some((0, Some(b))));
    }
}
