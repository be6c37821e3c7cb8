#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{LeaseId, LeaseTtl};
use thiserror::Error;

/// What of a lease is durable besides its TTL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// Keys can be attached.
    Live,
    /// Its keys are being deleted; nothing can be attached, and the id cannot be granted again.
    Revoking,
}

/// The answer to a keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease has its full TTL again.
    Renewed(LeaseTtl),
    /// There is no such lease.
    Unknown,
    /// The lease expired or is being revoked, and nothing can save it. As in etcd the caller answers "not
    /// found", but only once the lease has vanished, so that a client that knows of the end sees no key of
    /// it.
    Revoking,
}

/// What a lease was granted and what is left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLeft {
    /// The TTL as granted.
    pub granted: LeaseTtl,
    /// The time until the lease expires; zero when it is expired or being revoked.
    pub left: Duration,
}

/// A record of the system partition does not fit what came before it. The table is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// A lease was granted under an id that another lease still has.
    #[error("lease {0} is granted although it exists already")]
    Exists(LeaseId),
    /// A lease is revoked or vanishes that does not exist.
    #[error("lease {0} is revoked or vanishes although it does not exist")]
    Unknown(LeaseId),
}

/// All leases, with the times at which they are due.
///
/// Everything but [`list`](LeaseTable::list), loading and promoting takes at most logarithmic time, and a
/// lease takes about 130 bytes. The number of leases is not bounded here: whoever grants them decides.
///
/// Deadlines matter only to the leader. A follower applies the same records and ignores them; when it becomes
/// the leader it calls [`promote`](LeaseTable::promote) first.
#[derive(Debug, Default)]
pub struct LeaseTable {
    leases: BTreeMap<LeaseId, Lease>,
    /// The leases that can still be renewed, by deadline.
    deadlines: BTreeSet<(Duration, LeaseId)>,
    /// The leases that cannot: handed out for revocation, or waiting for it in `again`.
    ending: BTreeSet<LeaseId>,
    /// The ending leases that nobody works on, by the time at which somebody should.
    again: BTreeSet<(Duration, LeaseId)>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl: LeaseTtl,
    state: LeaseState,
    due: Due,
}

/// When a lease is handed out next.
#[derive(Clone, Copy, Debug)]
enum Due {
    /// At its deadline, in `deadlines`; until then it can be renewed.
    Deadline(Duration),
    /// At this time, in `again`.
    Again(Duration),
    /// Not before it is requeued.
    InHand,
}

impl LeaseTable {
    /// A table without leases.
    pub fn new() -> LeaseTable {
        LeaseTable::default()
    }

    /// The table of a leader that starts at `now` with these durable leases: see
    /// [`promote`](LeaseTable::promote). No id occurs twice.
    pub fn load(entries: impl Iterator<Item = (LeaseId, LeaseTtl, LeaseState)>, now: Duration) -> LeaseTable {
        let leases = entries.map(|(id, ttl, state)| (id, Lease { ttl, state, due: Due::InHand })).collect();
        let mut table = LeaseTable { leases, ..LeaseTable::default() };
        table.promote(now);
        table
    }

    /// Makes this the table of a leader that takes over at `now`: every live lease gets its full TTL again,
    /// because nobody knows which keepalives the leader before had acknowledged, and every revocation that
    /// was begun is due at once, so that it is finished.
    ///
    /// etcd also spreads deadlines that fall together; here the pace of expiry does that.
    pub fn promote(&mut self, now: Duration) {
        self.deadlines.clear();
        self.ending.clear();
        self.again.clear();
        for (&id, lease) in &mut self.leases {
            match lease.state {
                LeaseState::Live => {
                    let deadline = deadline(lease.ttl, now);
                    lease.due = Due::Deadline(deadline);
                    self.deadlines.insert((deadline, id));
                }
                LeaseState::Revoking => {
                    lease.due = Due::Again(now);
                    self.ending.insert(id);
                    self.again.insert((now, id));
                }
            }
        }
    }

    /// Applies the record that a lease was granted: it is live and has its full TTL from `now`.
    pub fn granted(&mut self, id: LeaseId, ttl: LeaseTtl, now: Duration) -> Result<(), ApplyError> {
        if self.leases.contains_key(&id) {
            return Err(ApplyError::Exists(id));
        }
        let deadline = deadline(ttl, now);
        self.leases.insert(id, Lease { ttl, state: LeaseState::Live, due: Due::Deadline(deadline) });
        self.deadlines.insert((deadline, id));
        Ok(())
    }

    /// Applies the record that a lease is being revoked. Whoever wrote the record deletes the keys, or
    /// requeues the lease: it is not handed out by itself.
    pub fn revoking(&mut self, id: LeaseId) -> Result<(), ApplyError> {
        let lease = self.leases.get_mut(&id).ok_or(ApplyError::Unknown(id))?;
        if lease.state == LeaseState::Live {
            lease.state = LeaseState::Revoking;
            self.take_in_hand(id);
        }
        Ok(())
    }

    /// Applies the record that a lease vanished: its id is free again.
    pub fn vanished(&mut self, id: LeaseId) -> Result<(), ApplyError> {
        let lease = self.leases.remove(&id).ok_or(ApplyError::Unknown(id))?;
        self.unqueue(id, lease.due);
        self.ending.remove(&id);
        Ok(())
    }

    /// Gives a lease its full TTL again, unless its deadline has passed.
    pub fn renew(&mut self, id: LeaseId, now: Duration) -> Renewal {
        let Some(lease) = self.leases.get_mut(&id) else { return Renewal::Unknown };
        match lease.due {
            Due::Deadline(old) if now < old => {
                // Never backwards: a keepalive that was stamped late, or by a slower clock, takes nothing
                // away.
                let new = deadline(lease.ttl, now).max(old);
                lease.due = Due::Deadline(new);
                self.deadlines.remove(&(old, id));
                self.deadlines.insert((new, id));
                Renewal::Renewed(lease.ttl)
            }
            Due::Deadline(_) | Due::Again(_) | Due::InHand => Renewal::Revoking,
        }
    }

    /// What is left of a lease, if it exists.
    pub fn remaining(&self, id: LeaseId, now: Duration) -> Option<TimeLeft> {
        let lease = self.leases.get(&id)?;
        let left = match lease.due {
            Due::Deadline(deadline) => deadline.saturating_sub(now),
            Due::Again(_) | Due::InHand => Duration::ZERO,
        };
        Some(TimeLeft { granted: lease.ttl, left })
    }

    /// The durable state of a lease, if it exists.
    pub fn state(&self, id: LeaseId) -> Option<LeaseState> {
        self.leases.get(&id).map(|lease| lease.state)
    }

    /// Whether a lease exists, be it that it is being revoked: its id cannot be granted.
    pub fn exists(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// Whether keys may be attached to a lease. So they may, as in etcd, while it is expired but not yet
    /// marked as revoking: the deletion of its keys begins after the mark.
    pub fn attachable(&self, id: LeaseId) -> bool {
        self.state(id) == Some(LeaseState::Live)
    }

    /// All leases, those with the least time left first, as etcd lists them; equal ones by id.
    pub fn list(&self) -> Vec<LeaseId> {
        self.ending.iter().copied().chain(self.deadlines.iter().map(|(_, id)| *id)).collect()
    }

    /// How many leases there are.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there is no lease.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Hands out up to `max` leases that are due at `now`, the longest due first: those that expired, and
    /// those whose revocation was requeued. Each is the taker's to revoke: it is not handed out again unless
    /// it is requeued. [`state`](LeaseTable::state) tells whether it is marked as revoking already.
    pub fn expire_due(&mut self, now: Duration, max: usize) -> Vec<LeaseId> {
        let mut handed_out = Vec::new();
        while handed_out.len() < max {
            match self.next_due() {
                Some((at, id)) if at <= now => {
                    self.take_in_hand(id);
                    handed_out.push(id);
                }
                _ => break,
            }
        }
        handed_out
    }

    /// Makes a lease whose revocation failed due again at `at`. A lease that vanished meanwhile stays gone,
    /// and one that was never handed out keeps its deadline.
    pub fn requeue(&mut self, id: LeaseId, at: Duration) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        match lease.due {
            Due::Deadline(_) => return,
            Due::Again(old) => {
                self.again.remove(&(old, id));
            }
            Due::InHand => {}
        }
        lease.due = Due::Again(at);
        self.again.insert((at, id));
    }

    /// The time at which the next lease is due, if any is; possibly past.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.next_due().map(|(at, _)| at)
    }

    fn next_due(&self) -> Option<(Duration, LeaseId)> {
        self.deadlines.first().into_iter().chain(self.again.first()).min().copied()
    }

    fn take_in_hand(&mut self, id: LeaseId) {
        let lease =
            self.leases.get_mut(&id).expect("the queues and the callers name leases of the table only");
        let due = std::mem::replace(&mut lease.due, Due::InHand);
        self.unqueue(id, due);
        self.ending.insert(id);
    }

    fn unqueue(&mut self, id: LeaseId, due: Due) {
        match due {
            Due::Deadline(at) => self.deadlines.remove(&(at, id)),
            Due::Again(at) => self.again.remove(&(at, id)),
            Due::InHand => false,
        };
    }
}

fn deadline(ttl: LeaseTtl, now: Duration) -> Duration {
    now.saturating_add(Duration::from_secs(u64::try_from(ttl.secs()).unwrap_or(0)))
}
