//! Histories beyond what one step of anything takes.

use bytes::Bytes;
use futures_util::future::join_all;
use model::{KeyRange, LeaseId, Txn};

use crate::common::{Machine, forgetful, put, put_op, retentive};
use crate::model::{History, Write};

/// Writes single keys, each at a revision of its own, many in a batch.
async fn write_each(machine: &Machine, history: &mut History, writes: &[(&str, String)]) {
    for some in writes.chunks(500) {
        let outcomes = join_all(some.iter().map(|(key, value)| machine.txn(put(key, value)))).await;
        let mut done: Vec<_> =
            outcomes.into_iter().map(|outcome| outcome.unwrap().revision).zip(some).collect();
        done.sort_by_key(|(revision, _)| *revision);
        for (revision, (key, value)) in done {
            let key = Bytes::copy_from_slice(key.as_bytes());
            history.write(&[Write::Put(key, Bytes::from(value.clone()), LeaseId::NONE)]);
            assert_eq!(revision.get(), history.revision());
        }
    }
}

fn versions_of(key: &str, count: usize) -> impl Iterator<Item = (&str, String)> {
    (0..count).map(move |number| (key, number.to_string()))
}

#[tokio::test]
async fn keys_with_more_versions_than_a_step_takes_are_listed_at_any_revision() {
    let machine = Machine::start(forgetful()).await;
    let mut history = History::default();
    let mut writes: Vec<_> = versions_of("b", 4500).chain(versions_of("a", 3)).collect();
    writes.extend(versions_of("c", 1));
    writes.extend(versions_of("d", 4100));
    writes.extend(versions_of("e", 2));
    write_each(&machine, &mut history, &writes).await;
    let newest = history.revision();
    for revision in [2, 4097, 4501, 4502, 4506, newest - 1] {
        history.check_state(&machine.store.keys, &KeyRange::all(), revision).await;
    }
    machine.compact(4400).await;
    history.check_state(&machine.store.keys, &KeyRange::all(), 4400).await;
    history.check_state(&machine.store.keys, &KeyRange::all(), newest).await;
}

#[tokio::test]
async fn a_log_longer_than_a_step_is_told_from_any_revision() {
    let machine = Machine::start(forgetful()).await;
    let mut history = History::default();
    for number in 0..700 {
        write_each(&machine, &mut history, &[("k", number.to_string())]).await;
    }
    let newest = history.revision();
    for from in [1, 2, 63, 64, 65, 66, 129, newest - 1, newest, newest + 1] {
        history.check_events(&machine.store.keys, &KeyRange::all(), from).await;
    }
    // More slots than reclaiming takes at once.
    machine.compact(650).await;
    history.compacted = 650;
    let machine = machine.restart().await;
    history.check(&machine.store.keys, &KeyRange::all()).await;
    history.check_engine(&machine.engine_view()).await;
    assert!(machine.slots(crate::common::USER).await.len() < 60);
}

#[tokio::test]
async fn large_values_come_in_several_pages_that_split_no_revision() {
    let machine = Machine::start(forgetful()).await;
    let mut history = History::default();
    let large = "x".repeat(1 << 20);
    for _ in 0..6 {
        let ops = ["a", "b", "c", "d"].map(|key| put_op(key, &large, LeaseId::NONE));
        machine.txn(Txn { success: ops.into(), ..Txn::default() }).await.unwrap();
        let write =
            |key: &'static str| Write::Put(Bytes::from(key), Bytes::from(large.clone()), LeaseId::NONE);
        history.write(&["a", "b", "c", "d"].map(write));
    }
    write_each(&machine, &mut history, &[("e", String::new())]).await;
    let page = machine.store.keys.events(model::Revision::new(2), &KeyRange::all()).await.unwrap();
    assert_eq!((page.events.len(), page.through.get()), (8, 3), "two revisions of 4 MiB");
    history.check_events(&machine.store.keys, &KeyRange::all(), 2).await;
}

#[tokio::test]
async fn a_transaction_larger_than_all_that_may_wait_passes() {
    let machine = Machine::start(retentive()).await;
    let huge = "x".repeat(33 << 20);
    let ops: Vec<_> = ["a", "b", "c", "d"].map(|key| put_op(key, &huge, LeaseId::NONE)).into();
    let (first, second, third) = tokio::join!(
        machine.txn(put("e", "small")),
        machine.txn(Txn { success: ops, ..Txn::default() }),
        machine.txn(put("f", "small")),
    );
    assert_eq!([first, second, third].map(|outcome| outcome.unwrap().revision.get()), [2, 3, 4]);
}
