//! Random histories against an ordered map.

use std::collections::BTreeMap;

use bytes::Bytes;
use engine::{Batch, CommitError, Direction, Engine, KeySpan, Scan, Snapshot};
use proptest::prelude::*;

use super::{dump, open, records};
use crate::fs::sim::SimFs;

type Model = BTreeMap<Bytes, Bytes>;

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<(u8, Option<u16>, bool)>),
    Together(Vec<Vec<(u8, Option<u16>, bool)>>),
    Large(u16),
    Snapshot,
    DropSnapshot(u8),
    CheckSnapshots,
    Reclaim,
    Reopen,
    Scan(u8, u8, bool, u8, u16),
}

fn writes() -> impl Strategy<Value = Vec<(u8, Option<u16>, bool)>> {
    let value = prop_oneof![3 => (0..50u16).prop_map(Some), 3 => (0..900u16).prop_map(Some), 2 => Just(None)];
    prop::collection::vec((any::<u8>(), value, prop::bool::weighted(0.1)), 0..20)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => writes().prop_map(Step::Commit),
        3 => prop::collection::vec(writes(), 1..6).prop_map(Step::Together),
        1 => (600..1500u16).prop_map(Step::Large),
        3 => Just(Step::Snapshot),
        2 => any::<u8>().prop_map(Step::DropSnapshot),
        2 => Just(Step::CheckSnapshots),
        2 => Just(Step::Reclaim),
        1 => Just(Step::Reopen),
        4 => (any::<u8>(), any::<u8>(), any::<bool>(), 1..20u8, 1..4000u16)
            .prop_map(|(start, end, forward, records, bytes)| Step::Scan(start, end, forward, records, bytes)),
    ]
}

fn key(number: u8) -> Bytes {
    format!("/some/prefix/{number}").into()
}

/// The batch of these writes, and whether the model says that it fits.
fn batch(writes: &[(u8, Option<u16>, bool)], model: &Model) -> (Batch, Model, Option<Bytes>) {
    let mut batch = Batch::new();
    let mut next = model.clone();
    let mut conflict = None;
    let unique: BTreeMap<u8, (Option<u16>, bool)> =
        writes.iter().map(|(key, value, insert)| (*key, (*value, *insert))).collect();
    for (number, (value, insert)) in unique {
        let key = key(number);
        match value {
            None => {
                batch.delete(key.clone());
                next.remove(&key);
            }
            Some(len) => {
                let value = Bytes::from(vec![number ^ len as u8; usize::from(len)]);
                if insert {
                    if model.contains_key(&key) {
                        conflict.get_or_insert(key.clone());
                    }
                    batch.insert(key.clone(), value.clone());
                } else {
                    batch.put(key.clone(), value.clone());
                }
                next.insert(key, value);
            }
        }
    }
    (batch, next, conflict)
}

fn as_list(model: &Model) -> Vec<(Bytes, Bytes)> {
    model.clone().into_iter().collect()
}

async fn check_scan(snapshot: &dyn Snapshot, model: &Model, step: &Step) -> Result<(), TestCaseError> {
    let Step::Scan(start, end, forward, records_max, bytes_max) = step else { return Ok(()) };
    let direction = if *forward { Direction::Forward } else { Direction::Backward };
    let whole = KeySpan { start: key(*start), end: Some(key(*end)) };
    let mut expected: Vec<_> =
        as_list(model).into_iter().filter(|(found, _)| *found >= whole.start && *found < key(*end)).collect();
    if !forward {
        expected.reverse();
    }
    let mut found = Vec::new();
    let mut span = Some(whole);
    while let Some(rest) = span {
        let scan = Scan {
            span: rest,
            direction,
            records_max: usize::from(*records_max),
            bytes_max: usize::from(*bytes_max),
            values: true,
        };
        let page = snapshot.scan(&scan).await.unwrap();
        let bytes: usize = page.records.iter().map(|(key, value)| key.len() + value.len()).sum();
        prop_assert!(page.records.len() <= scan.records_max);
        prop_assert!(bytes <= scan.bytes_max || page.records.len() == 1);
        prop_assert!(page.next.is_none() || !page.records.is_empty());
        found.extend(page.records);
        span = page.next;
    }
    prop_assert_eq!(found, expected);
    Ok(())
}

async fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let fs = SimFs::default();
    let mut engine = open(&fs).unwrap();
    let mut model = Model::new();
    let mut snapshots: Vec<(Box<dyn Snapshot>, Model)> = Vec::new();
    for step in steps {
        match &step {
            Step::Commit(writes) => {
                let (batch, next, conflict) = batch(writes, &model);
                let committed = engine.commit(batch).await;
                match conflict {
                    Some(_) => {
                        let refused = matches!(committed, Err(CommitError::Conflict { .. }));
                        prop_assert!(refused, "{:?}", committed);
                    }
                    None => {
                        prop_assert_eq!(committed, Ok(()));
                        model = next;
                    }
                }
            }
            Step::Together(batches) => {
                let mut commits = Vec::new();
                for writes in batches {
                    let (batch, next, conflict) = batch(writes, &model);
                    if conflict.is_none() {
                        model = next;
                    }
                    let mut commit = engine.commit(batch);
                    // Begins in this order; one may already be done.
                    let waker = std::task::Waker::noop();
                    let begun = commit.as_mut().poll(&mut std::task::Context::from_waker(waker));
                    commits.push((commit, conflict, begun));
                }
                for (commit, conflict, begun) in commits {
                    let committed = match begun {
                        std::task::Poll::Ready(committed) => committed,
                        std::task::Poll::Pending => commit.await,
                    };
                    prop_assert_eq!(committed.is_err(), conflict.is_some(), "{:?}", committed);
                }
            }
            Step::Large(count) => {
                let mut batch = Batch::new();
                for number in 0..*count {
                    let key = Bytes::from(format!("/some/prefix/large/{number}"));
                    batch.put(key.clone(), vec![1; 50]);
                    model.insert(key, vec![1; 50].into());
                }
                prop_assert_eq!(engine.commit(batch).await, Ok(()));
            }
            Step::Snapshot => snapshots.push((engine.snapshot().await.unwrap(), model.clone())),
            Step::DropSnapshot(number) => {
                if !snapshots.is_empty() {
                    snapshots.swap_remove(usize::from(*number) % snapshots.len());
                }
            }
            Step::CheckSnapshots => {
                for (snapshot, model) in &snapshots {
                    prop_assert_eq!(records(snapshot.as_ref()).await, as_list(model));
                }
            }
            Step::Reclaim => {
                engine.reclaim().await.unwrap();
                let usage = engine.usage();
                // Where no older snapshot and no deletion is in the way, little but the live records is left.
                prop_assert!(usage.live_bytes <= usage.total_bytes);
                prop_assert!(usage.total_bytes <= usage.live_bytes * 13 / 10 + (40 << 10), "{:?}", usage);
            }
            Step::Reopen => {
                snapshots.clear();
                let usage = engine.usage();
                engine.close().await;
                engine = open(&fs).unwrap();
                prop_assert_eq!(engine.usage().live_bytes, usage.live_bytes);
            }
            Step::Scan(..) => {
                check_scan(engine.snapshot().await.unwrap().as_ref(), &model, &step).await?;
                if let Some((snapshot, model)) = snapshots.last() {
                    check_scan(snapshot.as_ref(), model, &step).await?;
                }
            }
        }
    }
    prop_assert_eq!(dump(&engine).await, as_list(&model));
    let keys: Vec<Bytes> = (0..=255).map(key).collect();
    let values = engine.snapshot().await.unwrap().get_many(&keys).await.unwrap();
    for (key, value) in keys.iter().zip(values) {
        prop_assert_eq!(value.as_ref(), model.get(key));
    }
    engine.close().await;
    // The next life reads the hints, and without them the segments.
    for keep_hints in [true, false] {
        let fs = fs.after_kill();
        if !keep_hints {
            for name in fs.names().into_iter().filter(|name| name.ends_with(".hint")) {
                crate::fs::Fs::remove(&fs, &name).unwrap();
            }
        }
        let engine = open(&fs).unwrap();
        prop_assert_eq!(dump(&engine).await, as_list(&model));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn an_engine_behaves_as_an_ordered_map(steps in prop::collection::vec(step(), 1..150)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(steps))?;
    }
}
