//! Whatever is done to a store, and however often it is restarted: it tells every state and every event.

use bytes::Bytes;
use futures_util::future::join_all;
use layout::map::PartitionMap;
use model::{DeleteOp, KeyRange, LeaseId, Op, Txn};
use partition::{OpOutcome, Settings};
use proptest::prelude::*;

use crate::common::{Machine, delete_op, deleted, forgetful, key, put_op, retentive, space};
use crate::model::{History, Write};

/// Neighbours whose encoded forms begin one another, and Kubernetes-like ones.
pub const KEYS: [&str; 7] =
    ["/r/pods/a", "/r/pods/a\0", "/r/pods/ab", "/r/pods/b", "/r/podtemplates/a", "/r/x", "\u{7f}"];

#[derive(Clone, Debug)]
enum Step {
    /// Transactions at the same time, so that some share a batch: each puts and deletes some keys.
    Writes(Vec<Vec<(usize, Option<String>)>>),
    DeleteRange(usize, usize),
    /// A compaction at this many hundredths of the way from the compacted revision to the newest.
    Compact(i64),
    Restart,
    Check(usize, usize),
}

pub fn any_write() -> impl Strategy<Value = Vec<(usize, Option<String>)>> {
    let value = prop_oneof![1 => Just(None), 3 => "[a-z]{0,30}".prop_map(Some)];
    proptest::collection::btree_map(0..KEYS.len(), value, 1..4)
        .prop_map(|writes| writes.into_iter().collect())
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => proptest::collection::vec(any_write(), 1..5).prop_map(Step::Writes),
        1 => (0..KEYS.len(), 0..KEYS.len()).prop_map(|(start, end)| Step::DeleteRange(start, end)),
        1 => (0..=100i64).prop_map(Step::Compact),
        1 => Just(Step::Restart),
        1 => (0..KEYS.len(), 0..KEYS.len()).prop_map(|(start, end)| Step::Check(start, end)),
    ]
}

pub fn any_settings() -> impl Strategy<Value = Settings> {
    let memory = prop_oneof![
        Just(forgetful()),
        Just(retentive()),
        Just(Settings { history_bytes_max: 1500, cache_bytes_max: 500, ..Settings::new(space()) }),
    ];
    // Also within the versions of neighbours, and where there is no key.
    let splits = proptest::sample::subsequence(vec!["/r/pods/a\0", "/r/pods/b", "/r/q", "/r/x"], 0..=4);
    (memory, splits).prop_map(|(settings, splits)| {
        let splits: Vec<_> = splits.into_iter().map(key).collect();
        Settings { partitions: PartitionMap::split_at(&splits).unwrap(), ..settings }
    })
}

/// Transactions sent at once; in the order in which they happened, with what they changed.
pub async fn write(machine: &Machine, history: &mut History, transactions: &[Vec<(usize, Option<String>)>]) {
    let op = |(at, value): &(usize, Option<String>)| match value {
        Some(value) => put_op(KEYS[*at], value, LeaseId::NONE),
        None => delete_op(KEYS[*at]),
    };
    let txn = |writes: &Vec<_>| Txn { success: writes.iter().map(op).collect(), ..Txn::default() };
    let before = machine.revision();
    let outcomes = join_all(transactions.iter().map(|writes| machine.txn(txn(writes)))).await;
    let outcomes = outcomes.into_iter().map(|outcome| outcome.unwrap());
    let (mut done, looked): (Vec<_>, Vec<_>) =
        outcomes.zip(transactions).partition(|(outcome, _)| outcome.branch.ops.iter().any(changes));
    for (outcome, _) in looked {
        let told = outcome.revision.get();
        assert!(
            before <= told && told <= machine.revision(),
            "one that changed nothing is told a newest revision"
        );
    }
    done.sort_by_key(|(outcome, _)| outcome.revision);
    for (outcome, writes) in done {
        let revision = outcome.revision.get();
        assert!(revision > history.revision(), "each has a revision of its own");
        if machine.store.keys.partition_count() == 1 {
            assert_eq!(revision, history.revision() + 1, "revisions are dense");
        }
        history.skip_to(revision - 1);
        let write = |(at, value): &(usize, Option<String>)| {
            let key = Bytes::from(KEYS[*at]);
            match value {
                Some(value) => Some(Write::Put(key, Bytes::from(value.clone()), LeaseId::NONE)),
                None => history.newest().contains_key(&key).then_some(Write::Delete(key)),
            }
        };
        let writes: Vec<_> = writes.iter().filter_map(write).collect();
        history.write(&writes);
    }
    history.skip_to(machine.revision());
}

fn changes(op: &OpOutcome) -> bool {
    match op {
        OpOutcome::Put { .. } => true,
        OpOutcome::Delete { deleted, .. } => *deleted > 0,
        other => panic!("{other:?} was not asked for"),
    }
}

pub async fn delete_range(machine: &Machine, history: &mut History, range: KeyRange) {
    let doomed = history.in_range(&range, history.revision());
    let outcome =
        machine.txn(Txn::only(Op::Delete(DeleteOp { range, return_previous: false }))).await.unwrap();
    assert_eq!(deleted(&outcome), doomed.len());
    if !doomed.is_empty() {
        history.skip_to(outcome.revision.get() - 1);
        history.write(&doomed.into_iter().map(|kv| Write::Delete(kv.key)).collect::<Vec<_>>());
    }
    assert_eq!(outcome.revision.get(), history.revision());
}

pub fn range_of(start: usize, end: usize) -> KeyRange {
    match end {
        _ if start == end => KeyRange::single(&key(KEYS[start])),
        0 => KeyRange::from(&key(KEYS[start])),
        _ => KeyRange::between(&key(KEYS[start]), KEYS[end]),
    }
}

async fn run(settings: Settings, steps: Vec<Step>) {
    let mut machine = Machine::start(settings).await;
    let mut history = History::default();
    history.check(&machine.store.keys, &KeyRange::all()).await;
    for step in steps {
        match step {
            Step::Writes(transactions) => write(&machine, &mut history, &transactions).await,
            Step::DeleteRange(start, end) => {
                delete_range(&machine, &mut history, range_of(start, end)).await;
            }
            Step::Compact(share) => {
                let revision = history.compacted + (history.revision() - history.compacted) * share / 100;
                if revision > history.compacted {
                    machine.compact(revision).await;
                    history.compacted = revision;
                }
            }
            Step::Restart => machine = machine.restart().await,
            Step::Check(start, end) => {
                history.check(&machine.store.keys, &range_of(start, end)).await;
            }
        }
    }
    history.check(&machine.store.keys, &KeyRange::all()).await;
    history.check_engine(&machine.engine_view()).await;
    let machine = machine.restart().await;
    history.check(&machine.store.keys, &KeyRange::all()).await;
    machine.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn every_state_and_event_is_told_exactly_over_restarts_and_compactions(
        settings in any_settings(),
        steps in proptest::collection::vec(any_step(), 1..50),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(settings, steps));
    }
}

#[tokio::test]
async fn an_empty_store_is_at_revision_1_and_its_first_write_gets_2() {
    let machine = Machine::start(retentive()).await;
    assert_eq!((machine.revision(), machine.store.keys.compacted()), (1, None));
    let nothing = machine.txn(crate::common::delete("a")).await.unwrap();
    assert_eq!(nothing.revision.get(), 1, "a deletion of nothing is no write");
    assert_eq!(machine.put("a", "x").await.get(), 2);
    let (cluster_id, term) = (machine.store.cluster_id, machine.store.term());
    let machine = machine.restart().await;
    assert_eq!(machine.revision(), 2);
    assert_eq!((machine.store.cluster_id, machine.store.term()), (cluster_id, term + 1));
    assert_eq!(machine.put("a", "y").await.get(), 3);
}
