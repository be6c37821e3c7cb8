//! Several partitions, each with a log of its own that is written while others are: one order of revisions all the same.

use std::sync::Arc;

use engine::fault::{CommitFault, ReadFault};
use layout::log::{Body, PartitionId};
use layout::map::PartitionMap;
use model::{EventBatch, KeyRange, LeaseId, LeaseTtl, Op, RangeOp, ReadRevision, Revision, Txn};
use parking_lot::Mutex;
use partition::{Follower, NotConfirmed, ReadFailure, Settings, Through, TxnFailure, UserKeys};

use crate::common::{Machine, delete_op, deleted, forgetful, key, put, put_op, retentive};

const LEASE: LeaseId = LeaseId(9);
const LOWER: PartitionId = PartitionId(1);
const UPPER: PartitionId = PartitionId(2);

/// Split before "m": "a" lies in one partition, "z" in the other.
fn halves(settings: Settings) -> Settings {
    Settings { partitions: PartitionMap::split_at(&[key("m")]).unwrap(), ..settings }
}

/// What a follower hears of, as (after, revision, revisions of the events).
#[derive(Default)]
struct Heard(Mutex<Vec<(i64, i64, Vec<i64>)>>);

impl Follower for Heard {
    fn published(&self, batch: &Arc<EventBatch>) {
        let events = batch.events.iter().map(|event| event.change.revision.get()).collect();
        self.0.lock().push((batch.after.get(), batch.revision.get(), events));
    }
}

async fn keys_at(partition: &UserKeys, revision: ReadRevision) -> (i64, usize) {
    let view = partition.view(revision).await.unwrap();
    (view.revision().get(), view.range(&RangeOp::of(KeyRange::all())).await.unwrap().count)
}

#[tokio::test]
async fn a_write_is_answered_before_an_earlier_one_elsewhere_and_a_read_waits_for_both() {
    for applied in [false, true] {
        let machine = Machine::start(halves(retentive())).await;
        let partition = machine.store.keys.clone();
        let heard = Arc::new(Heard::default());
        partition.follow(heard.clone());
        let hold =
            if applied { machine.engine.hold_next_answer() } else { machine.engine.hold_next_commit() };
        let (first, ()) = tokio::join!(machine.put("a", "1"), async {
            hold.reached().await;
            assert_eq!(machine.put("z", "1").await.get(), 3, "2 is on its way");
            assert_eq!((partition.revision().get(), partition.published().get()), (3, 1));
            assert!(heard.0.lock().is_empty(), "nobody is told of 3 who would miss 2");
            for revision in [ReadRevision::Latest, ReadRevision::At(Revision::new(3))] {
                // This clock does not wait: the time for waiting is over at once.
                let refused = partition.view(revision).await.map(drop).unwrap_err();
                assert_eq!(refused, ReadFailure::Unavailable(NotConfirmed::Behind.to_string()));
            }
            hold.release();
            assert_eq!(keys_at(&partition, ReadRevision::Latest).await, (3, 2));
        });
        assert_eq!(first.get(), 2);
        assert_eq!(keys_at(&partition, ReadRevision::At(first)).await, (2, 1));
        assert_eq!(*heard.0.lock(), [(1, 2, vec![2]), (2, 3, vec![3])]);
    }
}

#[tokio::test]
async fn what_fails_leaves_a_gap_where_others_went_on_and_none_where_nobody_did() {
    let machine = Machine::start(halves(retentive())).await;
    let partition = machine.store.keys.clone();
    let hold = machine.engine.hold_next_commit();
    let (failed, ()) = tokio::join!(machine.txn(put("a", "1")), async {
        hold.reached().await;
        assert_eq!(machine.put("z", "1").await.get(), 3);
        machine.engine.script_commits([CommitFault::Refused; 6]);
        hold.release();
    });
    assert!(matches!(failed, Err(TxnFailure::Unavailable(_)) | Ok(_)), "{failed:?}");
    let revision = match failed {
        // The hold let the first offer pass; the script struck the next one.
        Ok(outcome) => outcome.revision.get(),
        Err(_) => 2,
    };
    assert_eq!(revision, 2);
    machine.engine.heal();
    let before = partition.revision();
    machine.engine.script_commits([CommitFault::Refused; 6]);
    assert!(machine.txn(put("z", "2")).await.is_err());
    assert_eq!(machine.put("z", "3").await, before.next(), "the number was shown to nobody");
}

#[tokio::test]
async fn who_only_looks_is_not_told_a_number_that_may_come_to_nothing() {
    let machine = Machine::start(halves(retentive())).await;
    let partition = machine.store.keys.clone();
    machine.engine.script_commits([CommitFault::Refused; 6]);
    let hold = machine.engine.hold_next_commit();
    let (failed, ()) = tokio::join!(machine.txn(put("a", "1")), async {
        hold.reached().await;
        let outcome = machine.txn(Txn::only(delete_op("z"))).await.unwrap();
        assert_eq!((deleted(&outcome), outcome.revision.get()), (0, 1), "2 is on its way");
        hold.release();
    });
    assert!(failed.is_err(), "{failed:?}");
    assert_eq!(keys_at(&partition, ReadRevision::Latest).await, (1, 0));
    assert_eq!(machine.put("a", "2").await.get(), 2, "nobody was told of it");
}

#[tokio::test]
async fn a_transaction_over_partitions_writes_a_slot_of_each_and_stands_or_falls_as_one() {
    let both = || Txn {
        success: vec![put_op("z", "1", LeaseId::NONE), put_op("a", "1", LeaseId::NONE)],
        ..Txn::default()
    };
    for fault in [CommitFault::UndeterminedApplied, CommitFault::UndeterminedNotApplied] {
        let machine = Machine::start(halves(forgetful())).await;
        assert_eq!(machine.txn(both()).await.unwrap().revision.get(), 2);
        let bodies = async |partition| {
            let slots = machine.slots(partition).await;
            slots.into_iter().map(|(_, record)| (record.revision.get(), record.body)).collect::<Vec<_>>()
        };
        for partition in [LOWER, UPPER] {
            let Some((2, Body::Changes(changes))) = bodies(partition).await.pop() else {
                panic!("a slot of partition {}", partition.0)
            };
            assert_eq!(changes.len(), 1);
        }
        machine.engine.script_commits([fault]);
        let outcome = machine.txn(both()).await;
        let applied = fault == CommitFault::UndeterminedApplied;
        assert_eq!(outcome.is_ok(), applied, "{outcome:?}");
        let newest = if applied { 3 } else { 2 };
        let versions = |machine: &Machine| {
            let partition = machine.store.keys.clone();
            async move {
                let view = partition.view(ReadRevision::Latest).await.unwrap();
                let found = view.range(&RangeOp::of(KeyRange::all())).await.unwrap();
                let revision = |kv| layout::object::meta_of(kv).unwrap().mod_revision.get();
                found.versions.iter().map(revision).collect::<Vec<_>>()
            }
        };
        assert_eq!(versions(&machine).await, [newest, newest]);
        let page = machine.store.keys.events(Revision::new(2), &KeyRange::all()).await.unwrap();
        let told: Vec<_> = page.events.iter().map(|event| event.change.key.to_string()).collect();
        assert_eq!(told[..2], ["a", "z"], "of one revision, partition by partition");
        let machine = machine.restart().await;
        assert_eq!(versions(&machine).await, [newest, newest]);
        // Both logs go on.
        assert_eq!(machine.txn(both()).await.unwrap().revision.get(), newest + 1);
        assert_eq!(
            (machine.put("a", "2").await.get(), machine.put("z", "2").await.get()),
            (newest + 2, newest + 3)
        );
    }
}

#[tokio::test]
async fn a_partition_that_was_only_looked_at_gets_a_slot_when_another_one_changes() {
    let machine = Machine::start(halves(retentive())).await;
    let read_and_write = Txn {
        success: vec![Op::Range(RangeOp::of(KeyRange::single(&key("z")))), put_op("a", "1", LeaseId::NONE)],
        ..Txn::default()
    };
    assert_eq!(machine.txn(read_and_write).await.unwrap().revision.get(), 2);
    assert_eq!(machine.slots(UPPER).await.last().unwrap().1.body, Body::Changes(vec![]));
    let looked = Txn::only(Op::Range(RangeOp::of(KeyRange::all())));
    let slots = machine.slots(UPPER).await.len();
    assert_eq!(machine.txn(looked).await.unwrap().revision.get(), 2);
    assert_eq!(machine.slots(UPPER).await.len(), slots, "who only looks writes nothing");
}

#[tokio::test]
async fn a_range_over_partitions_is_deleted_at_one_revision() {
    let machine = Machine::start(halves(forgetful())).await;
    machine.put("a", "1").await;
    machine.put("z", "1").await;
    let delete = model::DeleteOp { range: KeyRange::all(), return_previous: true };
    let outcome = machine.txn(Txn::only(Op::Delete(delete))).await.unwrap();
    assert_eq!((deleted(&outcome), outcome.revision.get()), (2, 4));
    assert_eq!(machine.store.keys.key_count(), 0);
    let page = machine.store.keys.events(Revision::new(4), &KeyRange::all()).await.unwrap();
    assert_eq!(page.events.len(), 2);
}

#[tokio::test]
async fn the_keys_of_a_lease_go_from_every_partition() {
    let machine = Machine::start(halves(retentive())).await;
    machine.store.system.grant(LEASE, LeaseTtl::clamped(60, 1).unwrap()).await.unwrap();
    for name in ["a", "b", "y", "z"] {
        machine.txn(Txn::only(put_op(name, "1", LEASE))).await.unwrap();
    }
    machine.put("keep", "1").await;
    let partition = &machine.store.keys;
    let step = partition.delete_attached(LEASE, 3).await.unwrap();
    assert_eq!((step.deleted, step.left), (3, 1));
    assert_eq!(partition.attached(LEASE), ["z"]);
    let step = partition.delete_attached(LEASE, 3).await.unwrap();
    assert_eq!((step.deleted, step.left, partition.key_count()), (1, 0, 1));
}

#[tokio::test]
async fn the_partitions_are_those_that_the_store_was_founded_with() {
    let machine = Machine::start(halves(retentive())).await;
    machine.put("z", "1").await;
    let mut stopped = machine.stop().await;
    stopped.settings.partitions = PartitionMap::default();
    let machine = stopped.start().await.unwrap();
    assert_eq!(machine.store.keys.partition_count(), 2);
    assert_eq!(machine.put("z", "2").await.get(), 3);
    let whole = Machine::start(retentive()).await;
    assert_eq!(whole.store.keys.partition_count(), 1);
    let snapshot = engine::Engine::snapshot(whole.engine.as_ref()).await.unwrap();
    let record = snapshot.get(&crate::common::space().partitions_key()).await.unwrap();
    assert_eq!(record, None, "as before there were partitions");
}

#[tokio::test]
async fn who_joins_while_a_write_is_on_its_way_misses_nothing() {
    for applied in [false, true] {
        let owner = Machine::start(halves(retentive())).await;
        let hold = if applied { owner.engine.hold_next_answer() } else { owner.engine.hold_next_commit() };
        let (_, (follower, candidate)) = tokio::join!(owner.put("a", "1"), async {
            hold.reached().await;
            assert_eq!(owner.put("z", "1").await.get(), 3);
            let joined = owner.follower(7).await;
            hold.release();
            joined
        });
        let replica = follower.store.replica();
        assert_eq!(replica.position().get(), 3);
        assert_eq!(replica.catch_up(Through::Published(Revision::new(3))).await.unwrap().get(), 3);
        assert_eq!(follower.store.keys.key_count(), 2);
        owner.put("a", "2").await;
        candidate.lead().await.unwrap();
        assert_eq!(keys_at(&follower.store.keys, ReadRevision::Latest).await, (4, 2));
        assert_eq!(follower.put("z", "2").await.get(), 5);
        assert!(owner.txn(put("a", "3")).await.is_err(), "it was taken over");
    }
}

#[tokio::test]
async fn what_may_have_happened_is_not_passed_over_by_what_comes_after() {
    let machine = Machine::start(halves(retentive())).await;
    let partition = machine.store.keys.clone();
    machine.engine.script_commits([CommitFault::UndeterminedApplied]);
    machine.engine.script_reads([ReadFault::Corrupt]);
    let (unclear, later) = tokio::join!(machine.txn(put("a", "1")), machine.txn(put("z", "1")));
    assert!(matches!(unclear, Err(TxnFailure::Undetermined(_))), "{unclear:?}");
    assert_eq!(later.unwrap().revision.get(), 3, "it was on its way, and is there");
    // 2 is durable, and this process does not know it: it ends, and until then shows no state with 3 and without 2.
    let refused = partition.view(ReadRevision::Latest).await.map(drop).unwrap_err();
    assert_eq!(refused, ReadFailure::Unavailable(NotConfirmed::Behind.to_string()));
    machine.supervisor.shutdown().begun().await;
    drop(partition);
    let machine = machine.restart().await;
    assert_eq!(keys_at(&machine.store.keys, ReadRevision::Latest).await, (3, 2));
}
