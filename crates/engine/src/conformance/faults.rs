use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Factory;
use super::steps::{Detail, commit, ensure, equal, holds, numbered, put};
use crate::fault::{CommitFault, FaultEngine, FaultRates, ReadFault};
use crate::{CommitError, Engine, ReadError};

const SEEDS: [u64; 4] = [11, 12, 13, 14];
const SLOTS: usize = 150;
/// Tries to settle one unknown outcome. Each fails with a chance of at most one half, so that running out of
/// them means a fault in the engine.
const TRIES_MAX: usize = 100;

pub(super) async fn faults_are_told_apart(factory: &dyn Factory) -> Result<(), Detail> {
    let inner = factory.open("told apart").await;
    let engine = FaultEngine::new(Arc::clone(&inner));
    put(&engine, "a", "0").await?;

    for fault in [CommitFault::Refused, CommitFault::NoSpace] {
        engine.script_commits([fault]);
        let answer = commit(&engine, |batch| batch.put("a", "1")).await;
        let told_apart = match answer {
            Err(CommitError::Unavailable(_)) => fault == CommitFault::Refused,
            Err(CommitError::NoSpace(_)) => fault == CommitFault::NoSpace,
            _ => false,
        };
        ensure!(told_apart, "{fault:?} was answered {answer:?}");
        holds(&*inner, "a", Some("0")).await?;
    }
    let later = CommitFault::UndeterminedAppliedLater { calls: None };
    for (fault, value, at_once, in_the_end) in [
        (CommitFault::UndeterminedApplied, "2", "2", "2"),
        (CommitFault::UndeterminedNotApplied, "3", "2", "2"),
        (later, "4", "2", "4"),
    ] {
        engine.script_commits([fault]);
        let answer = commit(&engine, |batch| batch.put("a", value)).await;
        ensure!(matches!(answer, Err(CommitError::Undetermined(_))), "{fault:?} was answered {answer:?}");
        holds(&*inner, "a", Some(at_once)).await?;
        engine.apply_late().await;
        holds(&*inner, "a", Some(in_the_end)).await?;
    }
    engine.script_commits([CommitFault::Delay(Duration::from_secs(1))]);
    put(&engine, "a", "5").await?;
    holds(&engine, "a", Some("5")).await?;

    engine.script_reads([ReadFault::Unavailable, ReadFault::Pass, ReadFault::Corrupt]);
    let answer = engine.snapshot().await.err();
    ensure!(matches!(answer, Some(ReadError::Unavailable(_))), "an unavailable snapshot answered {answer:?}");
    let answer = engine.snapshot().await?.get(b"a").await;
    ensure!(matches!(answer, Err(ReadError::Corrupt(_))), "a damaged read answered {answer:?}");
    holds(&engine, "a", Some("5")).await
}

/// What the design rests on: whoever takes a slot by inserting it ends the uncertainty about who has it.
pub(super) async fn an_unknown_outcome_is_settled_by_the_next_slot(
    factory: &dyn Factory,
) -> Result<(), Detail> {
    for seed in SEEDS {
        let named = |Detail(text): Detail| Detail(format!("seed {seed}: {text}"));
        settle_slots(factory, seed).await.map_err(named)?;
    }
    Ok(())
}

async fn settle_slots(factory: &dyn Factory, seed: u64) -> Result<(), Detail> {
    let inner = factory.open(&format!("slots {seed}")).await;
    let engine = FaultEngine::new(Arc::clone(&inner));
    let rates = FaultRates {
        refused: 100,
        no_space: 50,
        undetermined_applied: 100,
        undetermined_not_applied: 100,
        undetermined_applied_later: 100,
        read_unavailable: 100,
        ..FaultRates::default()
    };
    engine.inject(rates, seed);
    let mut outcomes = Vec::new();
    for slot in 0..SLOTS {
        let answer = commit(&engine, |batch| {
            batch.insert(numbered("slot/", slot), "batch");
            batch.put(numbered("object/", slot), "1");
        })
        .await;
        let applied = match answer {
            Ok(()) => true,
            Err(CommitError::Undetermined(_)) => settle(&engine, slot).await?,
            Err(CommitError::Unavailable(_) | CommitError::NoSpace(_)) => false,
            Err(error) => return Err(error.into()),
        };
        outcomes.push(applied);
    }
    ensure!(engine.counts().undetermined > 0, "the seed injected no unknown outcome");
    engine.heal();
    // What is applied only now must change nothing that was settled.
    engine.apply_late().await;
    let snapshot = inner.snapshot().await?;
    for (slot, applied) in outcomes.into_iter().enumerate() {
        let held = snapshot.get(&numbered("slot/", slot)).await?;
        let object = snapshot.get(&numbered("object/", slot)).await?;
        let by_batch = held.as_deref() == Some(b"batch");
        equal(&format!("whether slot {slot} ended as it was settled"), &by_batch, &applied)?;
        equal(&format!("whether the batch of slot {slot} is whole"), &object.is_some(), &applied)?;
    }
    Ok(())
}

/// Whether the batch has `slot`, once that can no longer change.
async fn settle(engine: &FaultEngine, slot: usize) -> Result<bool, Detail> {
    let key = numbered("slot/", slot);
    for _ in 0..TRIES_MAX {
        let held: Option<Bytes> = match engine.snapshot().await {
            Err(ReadError::Unavailable(_)) => continue,
            snapshot => match snapshot?.get(&key).await {
                Err(ReadError::Unavailable(_)) => continue,
                held => held?,
            },
        };
        match held.as_deref() {
            Some(b"batch") => return Ok(true),
            Some(_) => return Ok(false),
            // Whatever becomes of this filler, the next look tells.
            None => drop(commit(engine, |batch| batch.insert(key.clone(), "filler")).await),
        }
    }
    Err(Detail(format!("slot {slot} was not settled after {TRIES_MAX} tries")))
}
