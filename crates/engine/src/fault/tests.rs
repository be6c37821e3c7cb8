use std::future::Future;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::MemoryEngine;

fn put(key: &str, value: &str) -> Batch {
    let mut batch = Batch::new();
    batch.put(key.to_owned(), value.to_owned());
    batch
}

async fn value(engine: &dyn Engine, key: &str) -> Option<Bytes> {
    engine.snapshot().await.unwrap().get(key.as_bytes()).await.unwrap()
}

fn wrapped() -> (Arc<MemoryEngine>, FaultEngine) {
    let inner = Arc::new(MemoryEngine::new());
    (Arc::clone(&inner), FaultEngine::new(inner))
}

#[tokio::test]
async fn a_held_commit_waits_and_later_ones_pass_it() {
    let (inner, engine) = wrapped();
    let hold = engine.hold_next_commit();
    let held = engine.commit(put("held", "1"));
    let rest = async {
        hold.reached().await;
        assert_eq!(value(&*inner, "held").await, None);
        engine.commit(put("other", "1")).await.unwrap();
        assert!(value(&*inner, "other").await.is_some());
        hold.release();
    };
    let (held, ()) = tokio::join!(held, rest);
    held.unwrap();
    assert!(value(&*inner, "held").await.is_some());
}

#[tokio::test]
async fn a_held_answer_is_applied_before_its_caller_knows() {
    let (inner, engine) = wrapped();
    let hold = engine.hold_next_answer();
    let mut held = engine.commit(put("a", "1"));
    assert!(poll(&mut held).is_pending());
    hold.reached().await;
    assert!(value(&*inner, "a").await.is_some());
    assert!(poll(&mut held).is_pending());
    hold.release();
    held.await.unwrap();
}

#[tokio::test]
async fn holds_take_commits_in_order_and_release_when_dropped() {
    let (inner, engine) = wrapped();
    let (first, second) = (engine.hold_next_commit(), engine.hold_next_commit());
    let (mut a, mut b) = (engine.commit(put("a", "1")), engine.commit(put("b", "1")));
    assert!(poll(&mut a).is_pending());
    assert!(poll(&mut b).is_pending());
    drop(second);
    b.await.unwrap();
    assert_eq!(value(&*inner, "a").await, None);
    // A held commit that is given up was never applied.
    drop(a);
    first.release();
    assert_eq!(value(&*inner, "a").await, None);
    engine.commit(put("c", "1")).await.unwrap();
}

fn poll<T>(future: &mut Pin<Box<dyn Future<Output = T> + Send + '_>>) -> Poll<T> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_late_batch_is_applied_before_the_call_it_was_meant_for() {
    let (inner, engine) = wrapped();
    engine.script_commits([CommitFault::UndeterminedAppliedLater { calls: Some(2) }]);
    engine.commit(put("a", "late")).await.unwrap_err();
    engine.commit(put("b", "1")).await.unwrap();
    assert_eq!(value(&*inner, "a").await, None);
    engine.commit(put("a", "after")).await.unwrap();
    assert_eq!(value(&*inner, "a").await.unwrap(), "after");
    assert_eq!(engine.apply_late().await, 0);
}

#[tokio::test]
async fn at_most_a_bounded_number_of_batches_stays_late() {
    let (inner, engine) = wrapped();
    let later = CommitFault::UndeterminedAppliedLater { calls: None };
    engine.script_commits(std::iter::repeat_n(later, LATE_MAX + 1));
    for number in 0..=LATE_MAX {
        engine.commit(put(&number.to_string(), "late")).await.unwrap_err();
    }
    assert!(value(&*inner, "0").await.is_some());
    assert!(value(&*inner, "1").await.is_none());
    assert_eq!(engine.apply_late().await, LATE_MAX);
}

#[tokio::test]
async fn the_same_seed_and_calls_meet_the_same_faults() {
    let rates = FaultRates {
        refused: 100,
        undetermined_applied: 100,
        undetermined_not_applied: 100,
        undetermined_applied_later: 100,
        read_unavailable: 200,
        ..FaultRates::default()
    };
    async fn story(rates: FaultRates, seed: u64) -> (Vec<String>, FaultCounts) {
        let (inner, engine) = wrapped();
        engine.inject(rates, seed);
        let mut story = Vec::new();
        for number in 0..200 {
            story.push(format!("{:?}", engine.commit(put("a", &number.to_string())).await));
            story.push(format!("{:?}", engine.snapshot().await.err()));
            story.push(format!("{:?}", value(&*inner, "a").await));
        }
        (story, engine.counts())
    }
    let (first, counts) = story(rates, 42).await;
    assert!(counts.refused > 5 && counts.undetermined > 20 && counts.read_errors > 10, "{counts:?}");
    assert_eq!((first.clone(), counts), story(rates, 42).await);
    assert_ne!(first, story(rates, 43).await.0);
}

#[tokio::test]
async fn latency_passes_through_the_given_function() {
    let slept = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&slept);
    let delay: Delay = Arc::new(move |length| {
        log.lock().push(length);
        Box::pin(std::future::ready(()))
    });
    let engine = FaultEngine::with_delay(Arc::new(MemoryEngine::new()), delay);
    let (short, long) = (Duration::from_millis(5), Duration::from_secs(9));
    engine.script_commits([CommitFault::Delay(short)]);
    engine.script_reads([ReadFault::Pass, ReadFault::Delay(long)]);
    engine.commit(put("a", "1")).await.unwrap();
    assert!(value(&engine, "a").await.is_some());
    assert_eq!(*slept.lock(), [short, long]);
}

#[tokio::test]
async fn a_healed_engine_meets_no_fault() {
    let (_, engine) = wrapped();
    engine.inject(FaultRates { refused: 1000, read_unavailable: 1000, ..FaultRates::default() }, 1);
    engine.commit(put("a", "1")).await.unwrap_err();
    assert!(engine.snapshot().await.is_err());
    engine.heal();
    engine.commit(put("a", "1")).await.unwrap();
    assert!(value(&engine, "a").await.is_some());
}
