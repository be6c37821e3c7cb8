//! Two processes on one engine: the second owns the store, the first finds out at its next write.

use std::sync::Arc;

use engine::MemoryEngine;
use engine::fault::FaultEngine;
use model::{KeyRange, LeaseId, LeaseTtl};
use partition::{OpenFailure, SystemFailure, TxnFailure};

use crate::common::{Machine, put, retentive};
use crate::model::{History, Write};

fn wrote(history: &mut History, key: &'static str) {
    history.write(&[Write::Put(key.into(), "x".into(), LeaseId::NONE)]);
}

#[tokio::test]
async fn a_deposed_owner_fails_at_its_next_write_for_certain_and_stops() {
    let first = Machine::start(retentive()).await;
    let mut history = History::default();
    first.put("a", "x").await;
    wrote(&mut history, "a");
    let second = first.rival().await.unwrap();
    let (failure, waiting) = tokio::join!(first.txn(put("b", "x")), first.txn(put("c", "x")));
    assert!(matches!(failure, Err(TxnFailure::Unavailable(_))), "{failure:?}");
    assert!(matches!(waiting, Err(TxnFailure::Unavailable(_))), "{waiting:?}");
    first.supervisor.shutdown().begun().await;
    let reason = first.supervisor.failure().unwrap();
    assert!(reason.task == "sequencer" && reason.reason.contains("slot 4 of partition 1"), "{reason}");
    assert!(matches!(first.txn(put("d", "x")).await, Err(TxnFailure::Unavailable(_))), "and from then on");
    second.put("e", "x").await;
    wrote(&mut history, "e");
    history.check(&second.store.keys, &KeyRange::all()).await;
    let second = second.restart().await;
    history.check(&second.store.keys, &KeyRange::all()).await;
    history.check_engine(&second.engine_view()).await;
}

#[tokio::test]
async fn a_batch_under_way_at_the_takeover_is_before_it_or_never() {
    for applied in [true, false] {
        let first = Machine::start(retentive()).await;
        let mut history = History::default();
        let hold = if applied { first.engine.hold_next_answer() } else { first.engine.hold_next_commit() };
        let (outcome, second) = tokio::join!(first.txn(put("a", "x")), async {
            hold.reached().await;
            let second = first.rival().await.unwrap();
            hold.release();
            second
        });
        assert_eq!(outcome.is_ok(), applied, "{outcome:?}");
        if applied {
            wrote(&mut history, "a");
        }
        second.put("b", "x").await;
        wrote(&mut history, "b");
        history.check(&second.store.keys, &KeyRange::all()).await;
        history.check_engine(&second.engine_view()).await;
    }
}

#[tokio::test]
async fn the_system_partition_changes_hands_too() {
    let first = Machine::start(retentive()).await;
    let second = first.rival().await.unwrap();
    assert_eq!(second.store.term(), first.store.term() + 1);
    assert_eq!(second.store.cluster_id, first.store.cluster_id);
    let ttl = LeaseTtl::clamped(60, 1).unwrap();
    let failure = first.store.system.grant(LeaseId(1), ttl).await;
    assert!(matches!(failure, Err(SystemFailure::Unavailable(_))), "{failure:?}");
    first.supervisor.shutdown().begun().await;
    assert_eq!(first.supervisor.failure().unwrap().task, "system sequencer");
    second.store.system.grant(LeaseId(2), ttl).await.unwrap();
    let second = second.restart().await;
    let leases: Vec<_> = second.store.system.leases().into_iter().map(|(lease, _)| lease).collect();
    assert_eq!(leases, [LeaseId(2)]);
}

#[tokio::test]
async fn who_is_overtaken_while_it_opens_does_not_serve() {
    let stopped = Machine::start(retentive()).await.stop().await;
    // Stops between the takeover of the system partition and that of the other.
    stopped.engine.hold_next_commit().release();
    let hold = stopped.engine.hold_next_commit();
    let (first, second) = tokio::join!(stopped.start(), async {
        hold.reached().await;
        let second = stopped.start().await.unwrap();
        hold.release();
        second
    });
    assert_eq!(first.map(drop).unwrap_err(), OpenFailure::Contended(1), "a later term has been there");
    second.put("a", "x").await;
    assert_eq!(second.restart().await.put("a", "y").await.get(), 3);
}

#[tokio::test]
async fn of_two_founders_one_finds_what_the_other_founded() {
    let memory = Arc::new(MemoryEngine::new());
    let (slow, quick) = (Arc::new(FaultEngine::new(memory.clone())), Arc::new(FaultEngine::new(memory)));
    let hold = slow.hold_next_commit();
    let (late, first) = tokio::join!(Machine::with(slow, 1), async {
        hold.reached().await;
        let first = Machine::with(quick, 2).await;
        first.put("a", "x").await;
        hold.release();
        first
    });
    let mut history = History::default();
    wrote(&mut history, "a");
    assert_eq!(late.store.cluster_id, first.store.cluster_id, "the store was founded once");
    assert_eq!(late.store.term(), first.store.term() + 1, "and then taken over");
    history.check(&late.store.keys, &KeyRange::all()).await;
    late.put("b", "x").await;
    wrote(&mut history, "b");
    history.check(&late.store.keys, &KeyRange::all()).await;
}
