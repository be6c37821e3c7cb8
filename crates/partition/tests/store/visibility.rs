//! Nothing of a batch is shown to anyone before it is durable.

use std::sync::Arc;

use engine::fault::CommitFault;
use model::{
    EventBatch, KeyRange, LeaseId, LeaseTtl, Op, PutLease, PutOp, PutValue, RangeOp, ReadRevision, Revision,
    Txn,
};
use parking_lot::Mutex;
use partition::{Follower, ReadFailure, TxnFailure};

use crate::common::{Machine, delete, forgetful, key, put, put_op, retentive, settle};

const LEASE: LeaseId = LeaseId(9);

async fn assert_shows(machine: &Machine, revision: i64, keys: usize) {
    let partition = &machine.store.keys;
    assert_eq!((machine.revision(), partition.key_count()), (revision, keys));
    let view = partition.view(ReadRevision::Latest).await.unwrap();
    assert_eq!((view.revision().get(), view.newest().get()), (revision, revision));
    let outcome = view.range(&RangeOp::of(KeyRange::all())).await.unwrap();
    assert_eq!((outcome.count, outcome.versions.len()), (keys, keys));
    let future = partition.view(ReadRevision::At(Revision::new(revision + 1))).await;
    assert_eq!(future.map(drop), Err(ReadFailure::FutureRevision));
    for from in 2..=revision + 1 {
        let page = partition.events(Revision::new(from), &KeyRange::all()).await.unwrap();
        assert!(page.through.get() <= revision);
        assert!(page.events.iter().all(|event| event.change.revision.get() <= revision));
    }
}

#[tokio::test]
async fn a_batch_on_its_way_to_the_engine_or_back_is_seen_by_nobody() {
    for (settings, applied) in
        [(retentive(), false), (retentive(), true), (forgetful(), false), (forgetful(), true)]
    {
        let machine = Machine::start(settings).await;
        machine.store.system.grant(LEASE, LeaseTtl::clamped(60, 1).unwrap()).await.unwrap();
        machine.put("a", "1").await;
        machine.put("a", "2").await;
        machine.put("b", "1").await;
        let hold =
            if applied { machine.engine.hold_next_answer() } else { machine.engine.hold_next_commit() };
        let attaching = Txn::only(put_op("c", "1", LEASE));
        let (written, _) = tokio::join!(machine.txn(attaching), async {
            hold.reached().await;
            assert_shows(&machine, 4, 2).await;
            assert!(machine.store.keys.attached(LEASE).is_empty());
            // Who observes waits for what it would observe.
            let mut observer =
                std::pin::pin!(machine.txn(Txn::only(Op::Range(RangeOp::of(KeyRange::all())))));
            tokio::select! {
                biased;
                _ = &mut observer => panic!("answered before the batch before it is durable"),
                () = settle() => {}
            }
            hold.release();
            assert_eq!(observer.await.unwrap().revision.get(), 5);
        });
        assert_eq!(written.unwrap().revision.get(), 5);
        assert_shows(&machine, 5, 3).await;
        assert_eq!(machine.store.keys.attached(LEASE), ["c"]);
    }
}

#[tokio::test]
async fn a_failure_that_was_seen_on_a_batch_that_fails_is_not_told() {
    let machine = Machine::start(retentive()).await;
    machine.put("a", "x").await;
    let keeps = |text: &str| {
        Txn::only(Op::Put(PutOp {
            key: key(text),
            value: PutValue::Keep,
            lease: PutLease::Keep,
            return_previous: false,
        }))
    };
    machine.engine.script_commits([CommitFault::Refused; 6]);
    let (deleted, kept) = tokio::join!(machine.txn(delete("a")), machine.txn(keeps("a")));
    assert!(matches!(deleted, Err(TxnFailure::Unavailable(_))));
    assert!(matches!(kept, Err(TxnFailure::Unavailable(_))), "the key was there all the time: {kept:?}");
    let (deleted, kept) = tokio::join!(machine.txn(delete("a")), machine.txn(keeps("a")));
    assert_eq!(deleted.unwrap().revision.get(), 3);
    assert_eq!(kept, Err(TxnFailure::KeyNotFound));
}

#[tokio::test]
async fn an_observer_has_the_revision_of_the_state_between_its_neighbours_in_the_batch() {
    let machine = Machine::start(retentive()).await;
    let look = || machine.txn(Txn::only(Op::Range(RangeOp::of(KeyRange::all()))));
    let (before, first, between, second, after) =
        tokio::join!(look(), machine.txn(put("a", "")), look(), machine.txn(put("b", "")), look());
    let revisions = [before, first, between, second, after].map(|outcome| outcome.unwrap().revision.get());
    assert_eq!(revisions, [1, 2, 2, 3, 3]);
    assert_eq!(machine.slots(crate::common::USER).await.len(), 3, "all in one batch");
}

#[derive(Default)]
struct Log(Mutex<Vec<(i64, i64, usize)>>);

impl Follower for Log {
    fn published(&self, batch: &Arc<EventBatch>) {
        self.0.lock().push((batch.after.get(), batch.revision.get(), batch.events.len()));
    }
}

#[tokio::test]
async fn a_follower_hears_of_every_batch_after_the_revision_that_it_was_given() {
    let machine = Machine::start(retentive()).await;
    machine.put("a", "").await;
    let log = Arc::new(Log::default());
    let from = machine.store.keys.follow(log.clone());
    assert_eq!(from.get(), 2);
    machine.put("a", "").await;
    let outcomes = tokio::join!(machine.txn(put("a", "")), machine.txn(put("b", "")));
    assert!(outcomes.0.is_ok() && outcomes.1.is_ok());
    assert_eq!(*log.0.lock(), [(2, 3, 1), (3, 5, 2)]);
}

#[tokio::test]
async fn a_view_opened_beside_a_batch_that_fails_shows_what_was_there_before() {
    for settings in [retentive(), forgetful()] {
        let machine = Machine::start(settings).await;
        machine.put("a", "1").await;
        machine.put("b", "1").await;
        let hold = machine.engine.hold_next_commit();
        // Once held and then as often as a batch is offered.
        machine.engine.script_commits(std::iter::repeat_n(CommitFault::Refused, 20));
        let both = Txn {
            success: vec![put_op("a", "2", LeaseId::NONE), put_op("c", "2", LeaseId::NONE)],
            ..Txn::default()
        };
        let (written, view) = tokio::join!(machine.txn(both), async {
            hold.reached().await;
            let view = machine.store.keys.view(ReadRevision::Latest).await.unwrap();
            hold.release();
            view
        });
        assert!(matches!(written, Err(TxnFailure::Unavailable(_))), "{written:?}");
        machine.engine.heal();
        // The same numbers again, with other contents: what the view fetches must not be mistaken for them.
        machine.put("a", "other").await;
        let read = view.range(&RangeOp::of(KeyRange::all())).await.unwrap();
        let read: Vec<_> = read.versions.iter().map(crate::model::decode).collect();
        let read: Vec<_> = read.iter().map(|kv| (kv.key.as_ref(), kv.modified, kv.value.as_ref())).collect();
        assert_eq!(read, [(&b"a"[..], 2, &b"1"[..]), (b"b", 3, b"1")]);
        assert_eq!(view.count(&KeyRange::all()).await.unwrap(), 2);
    }
}
