use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use thiserror::Error;

use crate::member::Member;

/// The most names that are kept: far more than there are frontends, so that nobody can fill the memory with names.
const MEMBERS_MAX: usize = 1024;
/// For how many leases a name is remembered after its last sign of life: until then an older process with the name is
/// known as such.
const REMEMBERED_LEASES_MAX: u32 = 1024;
/// How many older processes with a name are told apart from newer ones.
const REPLACED_MAX: usize = 16;

/// Why a member was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// A process that came later has the name.
    #[error("a process that was started later has the same name")]
    Replaced,
    /// There are too many members.
    #[error("there are {MEMBERS_MAX} members already")]
    Full,
}

/// Who lives, as the leader knows it. It begins empty with each leader, and is told again within a fraction of a lease.
///
/// No input or output: the time is an argument, and must not go back.
#[derive(Debug)]
pub struct Members {
    lease: Duration,
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    member: Member,
    joined_at: Duration,
    heard_at: Duration,
    /// It said that it stops.
    left: bool,
    /// Older processes with this name, the newest last.
    replaced: VecDeque<u128>,
}

impl Members {
    /// An empty table, for members that speak several times in a `lease`.
    pub fn new(lease: Duration) -> Members {
        Members { lease, entries: BTreeMap::new() }
    }

    /// The member has said that it lives. A process that was not known under this name replaces the one that was; from
    /// then on the older one is refused.
    pub fn heard(&mut self, member: Member, now: Duration) -> Result<(), Refused> {
        self.forget(now);
        let is_full = self.entries.len() >= MEMBERS_MAX;
        match self.entries.get_mut(&member.name) {
            None if is_full => Err(Refused::Full),
            None => {
                let entry = Entry {
                    joined_at: now,
                    heard_at: now,
                    left: false,
                    replaced: VecDeque::new(),
                    member: member.clone(),
                };
                self.entries.insert(member.name, entry);
                Ok(())
            }
            Some(entry) => entry.heard(member, now),
        }
    }

    /// The member has said that it stops: it is not waited for. Nothing happens if another process has the name.
    pub fn left(&mut self, name: &str, incarnation: u128) {
        if let Some(entry) = self.entries.get_mut(name)
            && entry.member.incarnation == incarnation
        {
            entry.left = true;
        }
    }

    /// Who was heard from within the last lease, by name.
    pub fn live(&self, now: Duration) -> Vec<Member> {
        let live = self.entries.values().filter(|entry| entry.is_heard(now, self.lease));
        live.map(|entry| entry.member.clone()).collect()
    }

    /// Whether fewer than half of those who lived a lease ago were heard from since: then it is rather this process that
    /// is cut off, and another one should lead.
    pub fn is_cut_off(&self, now: Duration) -> bool {
        let Some(lease_ago) = now.checked_sub(self.lease) else { return false };
        let lived = |entry: &&Entry| entry.joined_at < lease_ago && entry.is_heard(lease_ago, self.lease);
        let lived: Vec<_> = self.entries.values().filter(lived).collect();
        let heard = lived.iter().filter(|entry| entry.is_heard(now, self.lease)).count();
        2 * heard < lived.len()
    }

    fn forget(&mut self, now: Duration) {
        let kept = self.lease * REMEMBERED_LEASES_MAX;
        self.entries.retain(|_, entry| now.saturating_sub(entry.heard_at) <= kept);
    }
}

impl Entry {
    fn heard(&mut self, member: Member, now: Duration) -> Result<(), Refused> {
        if self.replaced.contains(&member.incarnation) {
            return Err(Refused::Replaced);
        }
        let older = self.member.incarnation;
        if older != member.incarnation {
            if self.replaced.len() == REPLACED_MAX {
                self.replaced.pop_front();
            }
            self.replaced.push_back(older);
            self.joined_at = now;
            self.left = false;
        }
        self.member = member;
        // One that has left says nothing more; what still comes was on its way.
        if !self.left {
            self.heard_at = now;
        }
        Ok(())
    }

    /// Whether, seen from `now`, it spoke within a lease before, or after.
    fn is_heard(&self, now: Duration, lease: Duration) -> bool {
        !self.left && self.heard_at + lease >= now
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const LEASE: Duration = Duration::from_secs(2);

    fn member(name: &str, incarnation: u128) -> Member {
        Member {
            name: name.to_owned(),
            incarnation,
            client_urls: Vec::new(),
            peer_urls: Vec::new(),
            version: String::new(),
        }
    }

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    fn names(members: &Members, now: f64) -> Vec<String> {
        members.live(secs(now)).into_iter().map(|member| member.name).collect()
    }

    #[test]
    fn who_is_silent_for_a_lease_or_says_goodbye_is_not_listed() {
        let mut members = Members::new(LEASE);
        for (name, at) in [("b", 1.0), ("a", 2.0), ("c", 2.5)] {
            members.heard(member(name, 1), secs(at)).unwrap();
        }
        assert_eq!(names(&members, 2.5), ["a", "b", "c"]);
        members.left("c", 2);
        assert_eq!(names(&members, 3.5), ["a", "c"], "another process with the name does not count");
        members.left("c", 1);
        members.heard(member("c", 1), secs(3.5)).unwrap();
        assert_eq!(names(&members, 3.5), ["a"], "what was on its way brings it not back");
        members.heard(member("c", 2), secs(3.6)).unwrap();
        assert_eq!(names(&members, 3.6), ["a", "c"], "one that is started again does");
    }

    #[test]
    fn of_two_with_one_name_the_later_one_stays() {
        let mut members = Members::new(LEASE);
        members.heard(member("a", 1), secs(0.0)).unwrap();
        members.heard(member("a", 2), secs(0.1)).unwrap();
        assert_eq!(members.heard(member("a", 1), secs(0.2)), Err(Refused::Replaced));
        members.heard(member("a", 2), secs(0.3)).unwrap();
        members.heard(member("a", 3), secs(0.4)).unwrap();
        assert_eq!(members.heard(member("a", 1), secs(0.5)), Err(Refused::Replaced));
        assert_eq!(members.heard(member("a", 2), secs(0.5)), Err(Refused::Replaced));
        assert_eq!(members.live(secs(0.5)), [member("a", 3)]);
    }

    #[test]
    fn names_are_bounded_and_forgotten() {
        let mut members = Members::new(LEASE);
        for number in 0..MEMBERS_MAX {
            members.heard(member(&number.to_string(), 1), secs(0.0)).unwrap();
        }
        assert_eq!(members.heard(member("one more", 1), secs(1.0)), Err(Refused::Full));
        members.heard(member("0", 1), secs(1.0)).unwrap();
        let later = LEASE * REMEMBERED_LEASES_MAX + secs(0.5);
        members.heard(member("one more", 1), later).unwrap();
        assert_eq!(members.entries.keys().collect::<Vec<_>>(), ["0", "one more"]);
    }

    #[test]
    fn a_leader_that_hears_from_fewer_than_half_for_a_lease_is_cut_off() {
        let mut members = Members::new(LEASE);
        let hear = |members: &mut Members, names: &[&str], at: f64| {
            names.iter().for_each(|name| members.heard(member(name, 1), secs(at)).unwrap());
        };
        for at in 0..20 {
            hear(&mut members, &["self", "a", "b"], f64::from(at) / 2.0);
            assert!(!members.is_cut_off(secs(f64::from(at) / 2.0)));
        }
        // From 9.5 on only the leader is heard.
        for at in [10.0, 10.5, 11.0, 11.5] {
            hear(&mut members, &["self"], at);
            assert!(!members.is_cut_off(secs(at)), "{at}: no lease of silence yet");
        }
        hear(&mut members, &["self"], 12.0);
        assert!(members.is_cut_off(secs(12.0)));
        // One of two others is half of them with the leader itself.
        hear(&mut members, &["a"], 12.0);
        assert!(!members.is_cut_off(secs(12.0)));
    }

    #[test]
    fn members_that_said_goodbye_or_just_came_are_not_missed() {
        let mut members = Members::new(LEASE);
        for at in 0..10 {
            for name in ["self", "a", "b"] {
                members.heard(member(name, 1), secs(f64::from(at) / 2.0)).unwrap();
            }
        }
        members.left("a", 1);
        members.left("b", 1);
        members.heard(member("c", 1), secs(4.9)).unwrap();
        for at in [5.0, 6.0, 6.8, 7.0] {
            members.heard(member("self", 1), secs(at)).unwrap();
            assert!(!members.is_cut_off(secs(at)), "{at}");
        }
    }

    proptest! {
        #[test]
        fn a_live_name_has_one_process_and_it_never_goes_back(
            steps in vec((0..3_u8, 0..5_u128, 0..800_u64), 1..100)
        ) {
            let mut members = Members::new(LEASE);
            let mut now = Duration::ZERO;
            let mut successions = std::collections::HashMap::<u8, Vec<u128>>::new();
            for (name, incarnation, millis) in steps {
                now += Duration::from_millis(millis);
                let seen = successions.entry(name).or_default();
                let is_old = seen.contains(&incarnation) && seen.last() != Some(&incarnation);
                let heard = members.heard(member(&name.to_string(), incarnation), now);
                prop_assert_eq!(heard, if is_old { Err(Refused::Replaced) } else { Ok(()) });
                if !seen.contains(&incarnation) {
                    seen.push(incarnation);
                }
                for live in members.live(now) {
                    let seen = &successions[&live.name.parse::<u8>().unwrap()];
                    prop_assert_eq!(seen.last(), Some(&live.incarnation));
                }
            }
        }
    }
}
