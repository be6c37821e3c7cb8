//! The engine refuses, runs full, or does not say: clients hear the truth, and nothing is lost or torn.

use bytes::Bytes;
use engine::fault::{CommitFault, FaultRates, ReadFault};
use layout::log::Body;
use model::{
    Compare, CompareOperator, CompareTarget, KeyRange, LeaseId, LeaseTtl, Op, PutLease, PutOp, PutValue,
    RangeOp, Revision, Txn,
};
use partition::{OpOutcome, ReadFailure, SystemFailure, TxnFailure};
use proptest::prelude::*;

use crate::common::{
    Machine, USER, delete, delete_op, deleted, forgetful, key, put, put_op, retentive, settle,
};
use crate::model::{History, Write};

async fn value_of(machine: &Machine, text: &str) -> Option<Bytes> {
    let view = machine.store.keys.view(model::ReadRevision::Latest).await.unwrap();
    let outcome = view.range(&RangeOp::of(KeyRange::single(&key(text)))).await.unwrap();
    outcome.versions.first().map(|version| crate::model::decode(version).value)
}

#[tokio::test]
async fn an_engine_that_refuses_five_times_is_hidden_from_clients() {
    let machine = Machine::start(retentive()).await;
    machine.engine.script_commits([CommitFault::Refused; 5]);
    assert_eq!(machine.put("a", "x").await.get(), 2);
    assert_eq!(value_of(&machine, "a").await.unwrap(), "x");
}

#[tokio::test]
async fn an_engine_that_keeps_refusing_is_told_and_nothing_was_changed() {
    let machine = Machine::start(retentive()).await;
    machine.engine.script_commits([CommitFault::Refused; 6]);
    assert!(matches!(machine.txn(put("a", "x")).await, Err(TxnFailure::Unavailable(_))));
    assert_eq!((machine.revision(), value_of(&machine, "a").await), (1, None));
    assert_eq!(machine.put("b", "y").await.get(), 2, "nobody has seen the number");
    assert_eq!(machine.slots(USER).await.len(), 3, "no slot was spent on it");
}

#[tokio::test]
async fn a_batch_whose_answer_was_lost_happened_once() {
    let machine = Machine::start(retentive()).await;
    machine.engine.script_commits([CommitFault::UndeterminedApplied]);
    assert_eq!(machine.put("a", "x").await.get(), 2);
    let machine = machine.restart().await;
    assert_eq!((machine.revision(), value_of(&machine, "a").await.unwrap()), (2, Bytes::from("x")));
    assert_eq!(machine.slots(USER).await.len(), 4, "founded, taken over, written, taken over");
}

#[tokio::test]
async fn a_batch_that_was_lost_is_refused_behind_a_filler() {
    let machine = Machine::start(retentive()).await;
    machine.engine.script_commits([CommitFault::UndeterminedNotApplied]);
    assert!(matches!(machine.txn(put("a", "x")).await, Err(TxnFailure::Unavailable(_))));
    assert_eq!(machine.slots(USER).await.last().unwrap().1.body, Body::Filler);
    assert_eq!((machine.revision(), value_of(&machine, "a").await), (1, None));
    assert_eq!(machine.put("b", "y").await.get(), 2);
}

#[tokio::test]
async fn a_batch_that_arrives_after_its_filler_changes_nothing() {
    let machine = Machine::start(retentive()).await;
    machine.engine.script_commits([CommitFault::UndeterminedAppliedLater { calls: None }]);
    assert!(matches!(machine.txn(put("a", "x")).await, Err(TxnFailure::Unavailable(_))));
    assert_eq!(machine.engine.apply_late().await, 1);
    assert_eq!(machine.put("b", "y").await.get(), 2);
    let machine = machine.restart().await;
    assert_eq!((machine.revision(), value_of(&machine, "a").await), (2, None));
}

#[tokio::test]
async fn a_batch_that_arrives_after_its_place_was_compacted_changes_nothing() {
    let machine = Machine::start(forgetful()).await;
    machine.engine.script_commits([CommitFault::UndeterminedAppliedLater { calls: None }]);
    assert!(matches!(machine.txn(put("a", "lost")).await, Err(TxnFailure::Unavailable(_))));
    for value in ["kept", "x", "y", "z"] {
        machine.put(if value == "kept" { "a" } else { "b" }, value).await;
    }
    machine.compact(5).await;
    assert_eq!(machine.engine.apply_late().await, 1);
    assert_eq!(value_of(&machine, "a").await.unwrap(), "kept", "the same key at the same revision");
}

#[tokio::test]
async fn a_filler_may_be_unclear_too_and_is_known_as_our_own() {
    let unclear = [
        CommitFault::UndeterminedApplied,
        CommitFault::UndeterminedNotApplied,
        CommitFault::UndeterminedAppliedLater { calls: Some(1) },
        CommitFault::UndeterminedAppliedLater { calls: Some(3) },
        CommitFault::Refused,
        CommitFault::NoSpace,
    ];
    for fault in unclear {
        let machine = Machine::start(retentive()).await;
        machine.engine.script_commits([CommitFault::UndeterminedNotApplied, fault]);
        assert!(matches!(machine.txn(put("a", "x")).await, Err(TxnFailure::Unavailable(_))), "{fault:?}");
        assert_eq!(machine.put("b", "y").await.get(), 2, "{fault:?}");
        assert_eq!(machine.supervisor.failure(), None, "{fault:?}: nobody else has taken the slot");
    }
}

#[tokio::test]
async fn an_outcome_that_cannot_be_read_is_waited_for() {
    let machine = Machine::start(retentive()).await;
    machine.engine.script_commits([CommitFault::UndeterminedApplied]);
    machine.engine.script_reads([ReadFault::Unavailable; 9]);
    assert_eq!(machine.put("a", "x").await.get(), 2);
}

#[tokio::test]
async fn an_engine_that_closes_before_the_outcome_is_known_stops_the_process() {
    let machine = Machine::start(retentive()).await;
    machine.engine.script_commits([CommitFault::UndeterminedApplied]);
    machine.engine.script_reads([ReadFault::Corrupt]);
    let hold = machine.engine.hold_next_answer();
    let (first, second) = tokio::join!(machine.txn(put("a", "x")), async {
        hold.reached().await;
        let mut second = std::pin::pin!(machine.txn(put("b", "x")));
        tokio::select! {
            biased;
            _ = &mut second => panic!("answered before the batch before it"),
            () = settle() => {}
        }
        hold.release();
        second.await
    });
    assert!(matches!(first, Err(TxnFailure::Undetermined(_))), "{first:?}");
    assert!(
        matches!(second, Err(TxnFailure::Unavailable(_))),
        "what was never begun certainly did not happen"
    );
    machine.supervisor.shutdown().begun().await;
    assert_eq!(machine.supervisor.failure().unwrap().task, "sequencer");
    let machine = machine.restart().await;
    assert_eq!(machine.revision(), 2, "it had happened");
}

/// As an engine does by itself when an fsync fails.
async fn close(machine: &Machine) {
    engine::Engine::close(machine.engine.as_ref()).await;
}

/// The task for whose sake the process stops.
async fn stopped_by(machine: &Machine) -> &'static str {
    machine.supervisor.shutdown().begun().await;
    let failure = machine.supervisor.failure().unwrap();
    assert!(failure.reason.contains("closed"), "{failure}");
    failure.task
}

#[tokio::test]
async fn an_engine_that_has_closed_itself_stops_the_process_at_the_next_put() {
    let machine = Machine::start(retentive()).await;
    machine.put("a", "x").await;
    close(&machine).await;
    let outcome = machine.txn(put("b", "x")).await;
    assert!(matches!(outcome, Err(TxnFailure::Unavailable(_))), "certainly not written: {outcome:?}");
    assert_eq!(stopped_by(&machine).await, "sequencer");
    let outcome = machine.txn(put("c", "x")).await;
    assert!(matches!(outcome, Err(TxnFailure::Unavailable(_))), "nor anything after it: {outcome:?}");
    assert_eq!((machine.revision(), machine.store.keys.key_count()), (2, 1));
}

#[tokio::test]
async fn an_engine_that_has_closed_itself_stops_the_process_at_the_next_grant() {
    let machine = Machine::start(retentive()).await;
    close(&machine).await;
    let ttl = LeaseTtl::clamped(60, 1).unwrap();
    let outcome = machine.store.system.grant(LeaseId(1), ttl).await;
    assert!(matches!(outcome, Err(SystemFailure::Unavailable(_))), "certainly not granted: {outcome:?}");
    assert_eq!(stopped_by(&machine).await, "system sequencer");
    assert!(machine.store.system.leases().is_empty());
}

#[tokio::test]
async fn an_engine_that_has_closed_itself_stops_the_process_while_it_reclaims() {
    let machine = Machine::start(retentive()).await;
    machine.put("a", "x").await;
    machine.put("a", "y").await;
    // The first commit is the compaction, the second what it frees.
    machine.engine.hold_next_commit().release();
    let hold = machine.engine.hold_next_commit();
    machine.store.system.compact(Revision::new(3)).await.unwrap();
    hold.reached().await;
    close(&machine).await;
    hold.release();
    assert_eq!(stopped_by(&machine).await, "reclaim");
}

#[tokio::test]
async fn a_full_disk_refuses_puts_and_lets_deletions_of_the_same_batch_pass() {
    let machine = Machine::start(retentive()).await;
    machine.put("a", "x").await;
    machine.put("b", "x").await;
    machine.engine.script_commits([CommitFault::NoSpace]);
    let (put_c, delete_a, observed) = tokio::join!(
        machine.txn(put("c", "y")),
        machine.txn(delete("a")),
        machine.txn(Txn::only(Op::Range(RangeOp::of(KeyRange::all())))),
    );
    assert!(matches!(put_c, Err(TxnFailure::NoSpace(_))));
    let delete_a = delete_a.unwrap();
    assert_eq!((delete_a.revision.get(), deleted(&delete_a)), (4, 1));
    let observed = observed.unwrap();
    let OpOutcome::Range { outcome, .. } = &observed.branch.ops[0] else { panic!("{observed:?}") };
    assert_eq!((observed.revision.get(), outcome.count), (4, 1), "neither the put nor the deleted key");
    assert_eq!(machine.delete("b").await.get(), 5);
    assert_eq!(machine.put("c", "y").await.get(), 6, "once there is space again");
}

#[tokio::test]
async fn what_becomes_a_put_without_the_put_before_it_is_refused_alone() {
    let machine = Machine::start(retentive()).await;
    machine.put("x", "").await;
    machine.engine.script_commits([CommitFault::NoSpace, CommitFault::NoSpace]);
    let exists = Compare {
        range: KeyRange::single(&key("a")),
        operator: CompareOperator::Greater,
        target: CompareTarget::Version(0),
    };
    let turning = Txn {
        compares: vec![exists],
        success: vec![delete_op("nothing")],
        failure: vec![put_op("b", "", LeaseId::NONE)],
    };
    let (first, turned, freed) =
        tokio::join!(machine.txn(put("a", "")), machine.txn(turning), machine.txn(delete("x")));
    assert!(matches!(first, Err(TxnFailure::NoSpace(_))));
    assert!(matches!(turned, Err(TxnFailure::NoSpace(_))), "{turned:?}");
    assert_eq!(freed.unwrap().revision.get(), 3);
    assert_eq!(machine.store.keys.key_count(), 0);
}

#[tokio::test]
async fn a_written_transaction_whose_answer_cannot_be_read_is_not_called_unchanged() {
    let machine = Machine::start(forgetful()).await;
    machine.put("a", "old").await;
    let put = PutOp {
        key: key("a"),
        value: PutValue::Set(Bytes::from("new")),
        lease: PutLease::Set(LeaseId::NONE),
        return_previous: true,
    };
    machine.engine.script_reads([ReadFault::Unavailable]);
    let failure = machine.txn(Txn::only(Op::Put(put))).await.unwrap_err();
    assert!(matches!(failure, TxnFailure::Undetermined(_)), "{failure}");
    assert_eq!(value_of(&machine, "a").await.unwrap(), "new");
    machine.engine.script_reads([ReadFault::Unavailable]);
    let read = Txn::only(Op::Range(RangeOp::of(KeyRange::all())));
    let failure = machine.txn(read).await.unwrap_err();
    assert!(matches!(failure, TxnFailure::Read(ReadFailure::Unavailable(_))), "{failure}");
}

#[tokio::test]
async fn a_value_that_the_index_names_and_the_engine_lost_is_damage_and_not_an_absent_key() {
    let machine = Machine::start(forgetful()).await;
    machine.put("a", "x").await;
    machine.put("b", "x").await;
    machine.compact(3).await;
    let object_key = crate::common::space().object_key(b"a", Revision::new(2));
    let mut batch = engine::Batch::new();
    batch.delete(object_key);
    engine::Engine::commit(machine.engine.as_ref(), batch).await.unwrap();
    let view = machine.store.keys.view(model::ReadRevision::Latest).await.unwrap();
    let failure = view.range(&RangeOp::of(KeyRange::all())).await.unwrap_err();
    assert!(matches!(failure, ReadFailure::Corrupt(_)), "{failure}");
}

/// What a client asks for while the engine fails at random.
#[derive(Clone, Debug)]
enum Step {
    Put(u8),
    Delete(u8),
    Compact,
    Restart,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..6u8).prop_map(Step::Put),
        4 => (0..6u8).prop_map(Step::Delete),
        1 => Just(Step::Compact),
        1 => Just(Step::Restart),
    ]
}

const RATES: FaultRates = FaultRates {
    refused: 150,
    no_space: 50,
    undetermined_applied: 120,
    undetermined_not_applied: 120,
    undetermined_applied_later: 120,
    read_unavailable: 100,
    delayed: 0,
    delay_max: std::time::Duration::ZERO,
};

async fn run(steps: Vec<Step>, seed: u64) {
    let mut machine = Machine::start(forgetful()).await;
    let mut history = History::default();
    machine.engine.inject(RATES, seed);
    for (round, step) in steps.into_iter().enumerate() {
        let outcome = match step {
            Step::Put(number) => {
                let (name, value) = (format!("k{number}"), round.to_string());
                let write = Write::Put(Bytes::from(name.clone()), Bytes::from(value.clone()), LeaseId::NONE);
                machine.txn(put(&name, &value)).await.map(|outcome| (outcome, Some(write)))
            }
            Step::Delete(number) => {
                let name = format!("k{number}");
                let write = Write::Delete(Bytes::from(name.clone()));
                let outcome = machine.txn(delete(&name)).await;
                outcome.map(|outcome| {
                    let hit = deleted(&outcome) > 0;
                    (outcome, hit.then_some(write))
                })
            }
            Step::Compact => {
                match machine.store.system.compact(Revision::new(history.revision())).await {
                    Ok(()) => history.compacted = history.revision(),
                    Err(SystemFailure::Compacted(compacted)) => {
                        assert_eq!(compacted.get(), history.compacted)
                    }
                    Err(SystemFailure::Unavailable(_) | SystemFailure::NoSpace(_)) => {}
                    Err(failure) => panic!("{failure}"),
                }
                continue;
            }
            Step::Restart => {
                let stopped = machine.stop().await;
                stopped.engine.heal();
                if round % 2 == 0 {
                    stopped.engine.apply_late().await;
                }
                machine = stopped.start().await.unwrap();
                machine.engine.inject(RATES, seed + round as u64);
                continue;
            }
        };
        match outcome {
            Ok((outcome, write)) => {
                write.into_iter().for_each(|write| history.write(&[write]));
                assert_eq!(outcome.revision.get(), history.revision());
            }
            Err(TxnFailure::Unavailable(_) | TxnFailure::NoSpace(_)) => {}
            Err(failure) => panic!("every outcome becomes known: {failure}"),
        }
        assert_eq!(machine.revision(), history.revision());
        assert_eq!(machine.supervisor.failure(), None);
    }
    machine.engine.heal();
    history.check(&machine.store.keys, &KeyRange::all()).await;
    let stopped = machine.stop().await;
    stopped.engine.apply_late().await;
    let machine = stopped.start().await.unwrap();
    history.check(&machine.store.keys, &KeyRange::all()).await;
    history.check_engine(&machine.engine_view()).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_engine_does_acknowledged_writes_stay_and_failed_ones_never_appear(
        steps in proptest::collection::vec(any_step(), 1..60),
        seed: u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps, seed >> 1));
    }
}
