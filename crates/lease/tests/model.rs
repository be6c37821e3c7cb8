//! Any sequence of calls gives what the plainest possible table gives: a list that is searched and sorted
//! anew for each answer.

use std::time::Duration;

use lease::{ApplyError, LeaseState, LeaseTable, Renewal, TimeLeft};
use model::{LeaseId, LeaseTtl};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Call {
    Granted(LeaseId, i64),
    Revoking(LeaseId),
    Vanished(LeaseId),
    Renew(LeaseId),
    Expire(usize),
    Requeue(LeaseId, u64),
    Pass(u64),
    Promote,
    Reload,
}

fn call() -> impl Strategy<Value = Call> {
    let id = || (0..12_i64).prop_map(|id| LeaseId(id - 2));
    prop_oneof![
        6 => (id(), 1..40_i64).prop_map(|(id, secs)| Call::Granted(id, secs)),
        2 => id().prop_map(Call::Revoking),
        2 => id().prop_map(Call::Vanished),
        6 => id().prop_map(Call::Renew),
        4 => (0..5_usize).prop_map(Call::Expire),
        3 => (id(), 0..20_u64).prop_map(|(id, secs)| Call::Requeue(id, secs)),
        6 => (0..15_u64).prop_map(Call::Pass),
        1 => Just(Call::Promote),
        1 => Just(Call::Reload),
    ]
}

#[derive(Clone, Debug)]
struct Plain {
    id: LeaseId,
    ttl: LeaseTtl,
    state: LeaseState,
    /// When it expires; `None` once it was handed out or marked.
    deadline: Option<Duration>,
    /// When it is handed out next; `None` while somebody has it.
    due: Option<Duration>,
}

#[derive(Debug, Default)]
struct PlainTable {
    leases: Vec<Plain>,
    now: Duration,
}

impl PlainTable {
    fn find(&mut self, id: LeaseId) -> Option<&mut Plain> {
        self.leases.iter_mut().find(|lease| lease.id == id)
    }

    fn granted(&mut self, id: LeaseId, ttl: LeaseTtl) -> Result<(), ApplyError> {
        if self.find(id).is_some() {
            return Err(ApplyError::Exists(id));
        }
        let deadline = Some(self.now + secs(ttl));
        self.leases.push(Plain { id, ttl, state: LeaseState::Live, deadline, due: deadline });
        Ok(())
    }

    fn revoking(&mut self, id: LeaseId) -> Result<(), ApplyError> {
        let lease = self.find(id).ok_or(ApplyError::Unknown(id))?;
        if lease.state == LeaseState::Live {
            (lease.state, lease.deadline, lease.due) = (LeaseState::Revoking, None, None);
        }
        Ok(())
    }

    fn vanished(&mut self, id: LeaseId) -> Result<(), ApplyError> {
        self.find(id).ok_or(ApplyError::Unknown(id))?;
        self.leases.retain(|lease| lease.id != id);
        Ok(())
    }

    fn renew(&mut self, id: LeaseId) -> Renewal {
        let now = self.now;
        match self.find(id) {
            None => Renewal::Unknown,
            Some(lease) if lease.deadline.is_some_and(|deadline| deadline > now) => {
                lease.deadline = Some(now + secs(lease.ttl));
                lease.due = lease.deadline;
                Renewal::Renewed(lease.ttl)
            }
            Some(_) => Renewal::Revoking,
        }
    }

    fn expire(&mut self, max: usize) -> Vec<LeaseId> {
        let mut due: Vec<(Duration, LeaseId)> = self
            .leases
            .iter()
            .filter_map(|lease| lease.due.filter(|due| *due <= self.now).map(|due| (due, lease.id)))
            .collect();
        due.sort();
        due.truncate(max);
        for (_, id) in &due {
            let lease = self.find(*id).expect("it was just found");
            (lease.deadline, lease.due) = (None, None);
        }
        due.into_iter().map(|(_, id)| id).collect()
    }

    fn requeue(&mut self, id: LeaseId, at: Duration) {
        if let Some(lease) = self.find(id)
            && lease.deadline.is_none()
        {
            lease.due = Some(at);
        }
    }

    fn promote(&mut self) {
        for lease in &mut self.leases {
            (lease.deadline, lease.due) = match lease.state {
                LeaseState::Live => (Some(self.now + secs(lease.ttl)), Some(self.now + secs(lease.ttl))),
                LeaseState::Revoking => (None, Some(self.now)),
            };
        }
    }

    fn list(&self) -> Vec<LeaseId> {
        let mut leases: Vec<_> =
            self.leases.iter().map(|lease| (lease.deadline.unwrap_or_default(), lease.id)).collect();
        leases.sort();
        leases.into_iter().map(|(_, id)| id).collect()
    }

    fn remaining(&self, id: LeaseId) -> Option<TimeLeft> {
        let lease = self.leases.iter().find(|lease| lease.id == id)?;
        let left = lease.deadline.unwrap_or_default().saturating_sub(self.now);
        Some(TimeLeft { granted: lease.ttl, left })
    }
}

fn secs(ttl: LeaseTtl) -> Duration {
    Duration::from_secs(ttl.secs() as u64)
}

fn run(calls: Vec<Call>) -> Result<(), TestCaseError> {
    let (mut table, mut plain) = (LeaseTable::new(), PlainTable::default());
    for call in calls {
        let now = plain.now;
        match call {
            Call::Granted(id, secs) => {
                let ttl = LeaseTtl::clamped(secs, 1).expect("far below the limit");
                prop_assert_eq!(table.granted(id, ttl, now), plain.granted(id, ttl));
            }
            Call::Revoking(id) => prop_assert_eq!(table.revoking(id), plain.revoking(id)),
            Call::Vanished(id) => prop_assert_eq!(table.vanished(id), plain.vanished(id)),
            Call::Renew(id) => prop_assert_eq!(table.renew(id, now), plain.renew(id)),
            Call::Expire(max) => prop_assert_eq!(table.expire_due(now, max), plain.expire(max)),
            Call::Requeue(id, secs) => {
                table.requeue(id, now + Duration::from_secs(secs));
                plain.requeue(id, now + Duration::from_secs(secs));
            }
            Call::Pass(secs) => plain.now += Duration::from_secs(secs),
            Call::Promote => {
                table.promote(now);
                plain.promote();
            }
            Call::Reload => {
                let durable = plain.leases.iter().map(|lease| (lease.id, lease.ttl, lease.state));
                table = LeaseTable::load(durable, now);
                plain.promote();
            }
        }
        same(&table, &plain)?;
    }
    Ok(())
}

fn same(table: &LeaseTable, plain: &PlainTable) -> Result<(), TestCaseError> {
    prop_assert_eq!(table.list(), plain.list());
    prop_assert_eq!(table.len(), plain.leases.len());
    prop_assert_eq!(table.next_deadline(), plain.leases.iter().filter_map(|lease| lease.due).min());
    for id in (-3..11).map(LeaseId) {
        let state = plain.leases.iter().find(|lease| lease.id == id).map(|lease| lease.state);
        prop_assert_eq!(table.state(id), state);
        prop_assert_eq!(table.exists(id), state.is_some());
        prop_assert_eq!(table.attachable(id), state == Some(LeaseState::Live));
        prop_assert_eq!(table.remaining(id, plain.now), plain.remaining(id));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_calls_give_what_a_plain_list_gives(calls in prop::collection::vec(call(), 1..120)) {
        run(calls)?;
    }
}
