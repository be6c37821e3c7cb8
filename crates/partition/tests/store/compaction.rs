//! Compaction gives back exactly what nobody needs any more, whatever happens meanwhile.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::fault::CommitFault;
use layout::log::Slot;
use model::{KeyRange, LeaseId, Op, RangeOp, ReadRevision, Revision, Txn};
use partition::OpOutcome;
use proptest::prelude::*;

use crate::common::{Machine, USER, forgetful, put_op, settle};
use crate::model::{History, Write, decode};

/// Puts and deletes keys, each at a revision and in a slot of its own.
async fn write(machine: &Machine, history: &mut History, writes: &[(u8, bool)]) {
    for &(number, delete) in writes {
        let name = format!("k{number}");
        let key = Bytes::from(name.clone());
        if delete && history.newest().contains_key(&key) {
            machine.delete(&name).await;
            history.write(&[Write::Delete(key)]);
        } else {
            let value = history.revision().to_string();
            machine.put(&name, &value).await;
            history.write(&[Write::Put(key, Bytes::from(value), LeaseId::NONE)]);
        }
    }
}

/// The objects that a read or an event at or above `compacted` needs: everything from there on, and of each key the
/// version that it had before, be it as the previous value of the next event.
fn needed(history: &History, compacted: i64) -> Vec<(String, i64, bool)> {
    let mut before = BTreeMap::new();
    let mut needed = Vec::new();
    for (key, revision, new, _) in history.events(&KeyRange::all(), 0) {
        let key = String::from_utf8(key.to_vec()).unwrap();
        if revision >= compacted {
            needed.push((key, revision, new.is_none()));
        } else if new.is_some() {
            before.insert(key, revision);
        } else {
            before.remove(&key);
        }
    }
    needed.extend(before.into_iter().map(|(key, revision)| (key, revision, false)));
    needed.sort();
    needed
}

fn any_writes() -> impl Strategy<Value = Vec<(u8, bool)>> {
    proptest::collection::vec((0..5u8, any::<bool>()), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn what_remains_is_what_reads_and_events_from_there_on_need(
        rounds in proptest::collection::vec((any_writes(), 0..=100i64, any::<bool>()), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut machine = Machine::start(forgetful()).await;
            let mut history = History::default();
            for (writes, share, restart) in rounds {
                write(&machine, &mut history, &writes).await;
                let compacted = history.compacted + (history.revision() - history.compacted) * share / 100;
                if compacted > history.compacted {
                    machine.compact(compacted).await;
                    history.compacted = compacted;
                    assert_eq!(machine.objects().await, needed(&history, compacted));
                }
                if restart {
                    machine = machine.restart().await;
                }
                history.check(&machine.store.keys, &KeyRange::all()).await;
                history.check_engine(&machine.engine_view()).await;
            }
        });
    }

    /// The process ends somewhere within reclaiming, after batches that happened, did not, or happen too late.
    #[test]
    fn a_crash_within_reclaiming_raises_no_key_from_the_dead(
        writes in proptest::collection::vec((0..5u8, any::<bool>()), 600..1200),
        faults in proptest::collection::vec(0..4u8, 0..6),
        yields in 0..60usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let machine = Machine::start(forgetful()).await;
            let mut history = History::default();
            write(&machine, &mut history, &writes).await;
            let compacted = history.revision() - 3;
            machine.store.system.compact(Revision::new(compacted)).await.unwrap();
            history.compacted = compacted;
            machine.engine.script_commits(faults.into_iter().map(|fault| match fault {
                0 => CommitFault::Pass,
                1 => CommitFault::UndeterminedApplied,
                2 => CommitFault::UndeterminedNotApplied,
                _ => CommitFault::UndeterminedAppliedLater { calls: None },
            }));
            for _ in 0..yields {
                tokio::task::yield_now().await;
            }
            let stopped = machine.stop().await;
            stopped.engine.heal();
            let machine = stopped.start().await.unwrap();
            history.check(&machine.store.keys, &KeyRange::all()).await;
            machine.store.keys.reclaimed(Revision::new(compacted)).await;
            machine.engine.apply_late().await;
            history.check(&machine.store.keys, &KeyRange::all()).await;
            assert_eq!(machine.objects().await, needed(&history, compacted));
            history.check(&machine.restart().await.store.keys, &KeyRange::all()).await;
        });
    }
}

#[tokio::test]
async fn slots_go_with_their_changes_but_for_takeovers_and_the_slots_before_them() {
    let mut machine = Machine::start(forgetful()).await;
    let mut history = History::default();
    for _ in 0..3 {
        write(&machine, &mut history, &[(1, false); 10]).await;
        machine = machine.restart().await;
    }
    machine.compact(29).await;
    let slots: Vec<_> = machine.slots(USER).await.into_iter().map(|(slot, _)| slot.0).collect();
    // Founded and taken over; the last write before each restart and the takeover; revisions 29 to 31.
    assert_eq!(slots, [1, 2, 12, 13, 23, 24, 32, 33, 34, 35]);
    let reclaimed = machine.engine_view().reclaimed(USER).await;
    assert_eq!((reclaimed.changes_through, reclaimed.trimmed_through), (Slot(31), Slot(31)));
    machine.compact(31).await;
    let newest = machine.slots(USER).await.last().unwrap().0;
    assert_eq!(newest, Slot(35), "the newest slot stays whatever is compacted");
}

#[tokio::test]
async fn a_delete_at_the_compacted_revision_is_still_told_with_its_previous_value() {
    let machine = Machine::start(forgetful()).await;
    let mut history = History::default();
    write(&machine, &mut history, &[(1, false), (1, true), (2, false), (2, false)]).await;
    machine.compact(3).await;
    history.compacted = 3;
    let machine = machine.restart().await;
    let page = machine.store.keys.events(Revision::new(3), &KeyRange::all()).await.unwrap();
    let (key, revision, new, previous) = crate::model::happened(&machine.store.keys, &page.events[0]).await;
    assert_eq!((key.as_ref(), revision, new), (&b"k1"[..], 3, None));
    assert_eq!(previous.unwrap().value, "1");
    history.check(&machine.store.keys, &KeyRange::all()).await;
}

#[tokio::test]
async fn a_reader_keeps_what_it_needs_until_it_is_gone() {
    let machine = Machine::start(forgetful()).await;
    let mut history = History::default();
    write(&machine, &mut history, &[(1, false), (2, false), (1, false), (2, true), (1, true), (3, false)])
        .await;
    let view = machine.store.keys.view(ReadRevision::At(Revision::new(4))).await.unwrap();
    machine.compact(7).await;
    let read = view.range(&RangeOp::of(KeyRange::all())).await.unwrap();
    let read: Vec<_> = read.versions.iter().map(decode).collect();
    assert_eq!(read, history.in_range(&KeyRange::all(), 4), "it began before the compaction");
    assert_eq!(view.count(&KeyRange::all()).await.unwrap(), 2);
    assert!(machine.objects().await.contains(&("k2".to_owned(), 3, false)));
    drop(view);
    write(&machine, &mut history, &[(3, false)]).await;
    machine.compact(8).await;
    assert_eq!(machine.objects().await, needed(&history, 8));
}

#[tokio::test]
async fn a_transaction_that_reads_an_older_revision_is_answered_although_it_is_compacted_meanwhile() {
    let machine = Machine::start(forgetful()).await;
    let mut history = History::default();
    write(&machine, &mut history, &[(1, false), (1, false), (1, false), (1, false)]).await;
    let older = RangeOp { revision: ReadRevision::At(Revision::new(3)), ..RangeOp::of(KeyRange::all()) };
    let txn = Txn { success: vec![put_op("x", "", LeaseId::NONE), Op::Range(older)], ..Txn::default() };
    let hold = machine.engine.hold_next_answer();
    let (outcome, ()) = tokio::join!(machine.txn(txn), async {
        hold.reached().await;
        machine.store.system.compact(Revision::new(5)).await.unwrap();
        settle().await;
        hold.release();
    });
    let outcome = outcome.unwrap();
    let OpOutcome::Range { revision, outcome } = &outcome.branch.ops[1] else { panic!("{outcome:?}") };
    assert_eq!(revision.get(), 6);
    let read: Vec<_> = outcome.versions.iter().map(decode).collect();
    assert_eq!(read, history.in_range(&KeyRange::all(), 3));
}
