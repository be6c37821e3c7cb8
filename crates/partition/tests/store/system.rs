//! The system partition: leases, compactions, alarms, and its own log.

use std::sync::Arc;

use engine::fault::CommitFault;
use futures_util::future::join_all;
use layout::log::{Body, PartitionId, Slot, SystemChange};
use layout::system::{Alarm, LeaseRecord};
use model::{LeaseId, LeaseTtl, Revision};
use parking_lot::Mutex;
use partition::{SystemFailure, SystemFollower};

use crate::common::{Machine, retentive};

fn ttl(secs: i64) -> LeaseTtl {
    LeaseTtl::clamped(secs, 1).unwrap()
}

#[derive(Default)]
struct Heard(Mutex<Vec<SystemChange>>);

impl SystemFollower for Heard {
    fn applied(&self, changes: &[SystemChange]) {
        self.0.lock().extend_from_slice(changes);
    }
}

#[tokio::test]
async fn a_lease_is_granted_revoked_and_gone_once() {
    let machine = Machine::start(retentive()).await;
    let heard = Arc::new(Heard::default());
    machine.store.system.follow(heard.clone());
    let lease = LeaseId(5);
    let system = &machine.store.system;
    system.grant(lease, ttl(30)).await.unwrap();
    assert_eq!(system.grant(lease, ttl(60)).await, Err(SystemFailure::LeaseExists));
    assert_eq!(system.begin_revoke(LeaseId(6)).await, Err(SystemFailure::LeaseNotFound));
    system.begin_revoke(lease).await.unwrap();
    system.begin_revoke(lease).await.unwrap();
    assert_eq!(system.grant(lease, ttl(60)).await, Err(SystemFailure::LeaseExists), "until it is gone");
    let machine = machine.restart().await;
    let system = &machine.store.system;
    assert_eq!(system.lease(lease), Some(LeaseRecord { ttl_secs: 30, revoking: true }));
    system.finish_revoke(lease).await.unwrap();
    assert_eq!(system.finish_revoke(lease).await, Err(SystemFailure::LeaseNotFound));
    system.grant(lease, ttl(60)).await.unwrap();
    let expected = [SystemChange::LeaseGranted(lease, 30), SystemChange::LeaseRevoking(lease)];
    assert_eq!(*heard.0.lock(), expected);
}

#[tokio::test]
async fn compactions_go_forward_only_and_not_into_the_future() {
    let machine = Machine::start(retentive()).await;
    machine.put("a", "x").await;
    machine.put("a", "y").await;
    let compact = async |revision| machine.store.system.compact(Revision::new(revision)).await;
    assert_eq!(compact(4).await, Err(SystemFailure::FutureRevision));
    assert_eq!(compact(3).await, Ok(()), "the newest revision may be compacted");
    for again in [3, 2, 0] {
        assert_eq!(compact(again).await, Err(SystemFailure::Compacted(Revision::new(3))));
    }
    let machine = machine.restart().await;
    assert_eq!(machine.store.keys.compacted(), Some(Revision::new(3)));
    assert_eq!(machine.store.system.compacted(), Some(Revision::new(3)));
}

#[tokio::test]
async fn changes_at_the_same_time_see_one_another() {
    let machine = Machine::start(retentive()).await;
    machine.put("a", "x").await;
    let system = &machine.store.system;
    let lease = LeaseId(1);
    let (granted, twice, revoked, raised, cleared, compacted, again) = tokio::join!(
        system.grant(lease, ttl(9)),
        system.grant(lease, ttl(9)),
        system.begin_revoke(lease),
        system.raise(Alarm::NoSpace),
        system.clear(Alarm::NoSpace),
        system.compact(Revision::new(2)),
        system.compact(Revision::new(2)),
    );
    assert_eq!((granted, twice, revoked), (Ok(()), Err(SystemFailure::LeaseExists), Ok(())));
    assert_eq!((raised, cleared, system.alarms()), (Ok(()), Ok(()), vec![]));
    assert_eq!((compacted, again), (Ok(()), Err(SystemFailure::Compacted(Revision::new(2)))));
    assert_eq!(machine.slots(PartitionId::SYSTEM).await.len(), 3, "all in one batch");
    system.raise(Alarm::Corrupt).await.unwrap();
    let machine = machine.restart().await;
    let system = &machine.store.system;
    assert_eq!(system.lease(lease), Some(LeaseRecord { ttl_secs: 9, revoking: true }));
    assert_eq!(system.alarms(), [Alarm::Corrupt]);
    system.clear(Alarm::Corrupt).await.unwrap();
    assert!(machine.restart().await.store.system.alarms().is_empty());
}

#[tokio::test]
async fn a_full_disk_refuses_grants_alone() {
    let machine = Machine::start(retentive()).await;
    let system = &machine.store.system;
    system.grant(LeaseId(1), ttl(9)).await.unwrap();
    machine.engine.script_commits([CommitFault::NoSpace]);
    let (granted, revoked, raised) = tokio::join!(
        system.grant(LeaseId(2), ttl(9)),
        system.begin_revoke(LeaseId(1)),
        system.raise(Alarm::NoSpace)
    );
    assert!(matches!(granted, Err(SystemFailure::NoSpace(_))));
    assert_eq!((revoked, raised), (Ok(()), Ok(())));
    assert!(system.is_raised(Alarm::NoSpace) && system.lease(LeaseId(2)).is_none());
}

#[tokio::test]
async fn a_change_that_is_not_durable_is_seen_by_nobody() {
    let machine = Machine::start(retentive()).await;
    let system = &machine.store.system;
    let hold = machine.engine.hold_next_answer();
    let (granted, ()) = tokio::join!(system.grant(LeaseId(1), ttl(9)), async {
        hold.reached().await;
        assert!(system.leases().is_empty());
        hold.release();
    });
    assert_eq!((granted, system.leases().len()), (Ok(()), 1));
}

#[tokio::test]
async fn old_slots_go_but_takeovers_and_the_slots_before_them_stay() {
    let mut machine = Machine::start(retentive()).await;
    for round in 0..3 {
        let system = &machine.store.system;
        for number in 0..700 {
            if number % 300 == 7 {
                machine.engine.script_commits([CommitFault::UndeterminedNotApplied]);
                assert!(system.grant(LeaseId(round * 1000 + number), ttl(9)).await.is_err());
                continue;
            }
            system.grant(LeaseId(round * 1000 + number), ttl(9)).await.unwrap();
        }
        machine = machine.restart().await;
    }
    let slots = machine.slots(PartitionId::SYSTEM).await;
    let trimmed = machine.engine_view().reclaimed(PartitionId::SYSTEM).await.trimmed_through;
    assert!(trimmed > Slot(600) && slots.len() < 1400, "{trimmed:?}, {} slots", slots.len());
    let followed = slots.iter().zip(slots.iter().skip(1)).filter(|((slot, _), _)| *slot <= trimmed);
    for ((slot, record), (_, next)) in followed {
        let stays = matches!(record.body, Body::Takeover | Body::Filler) || next.body == Body::Takeover;
        assert!(stays, "{slot:?} should have gone");
    }
    let old = slots.iter().filter(|(slot, _)| *slot <= trimmed).map(|(slot, _)| slot.0);
    assert_eq!(old.collect::<Vec<_>>(), [1, 2, 10, 310, 610, 702, 703, 711, 1011]);
    let above = slots.iter().filter(|(slot, _)| *slot > trimmed).map(|(slot, _)| slot.0);
    assert!(above.eq(trimmed.0 + 1..=slots.last().unwrap().0.0), "no holes above");
    assert_eq!(machine.store.system.leases().len(), 3 * 697);
}

#[tokio::test]
async fn trimming_that_the_engine_refused_is_done_later() {
    let machine = Machine::start(retentive()).await;
    let system = &machine.store.system;
    join_all((1..1200).map(|number| system.grant(LeaseId(number), ttl(9)))).await;
    for number in 2000..3500 {
        if number % 5 == 0 {
            machine.engine.script_commits([CommitFault::Pass, CommitFault::Refused]);
        }
        system.grant(LeaseId(number), ttl(9)).await.unwrap();
    }
    let slots = machine.slots(PartitionId::SYSTEM).await;
    assert!(slots.len() < 1300, "{} slots", slots.len());
}
