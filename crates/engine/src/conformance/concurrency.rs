use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::task::{JoinError, JoinSet};

use super::Factory;
use super::steps::{Detail, all, batch, commit, ensure, equal, numbered};
use crate::CommitError;

const CALLERS: usize = 16;

impl From<JoinError> for Detail {
    fn from(error: JoinError) -> Self {
        Detail(format!("a task of the check died: {error}"))
    }
}

pub(super) async fn of_concurrent_inserts_exactly_one_wins(factory: &dyn Factory) -> Result<(), Detail> {
    const ROUNDS: usize = 20;
    let engine = factory.open("race").await;
    for round in 0..ROUNDS {
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let engine = Arc::clone(&engine);
            callers.spawn(async move {
                let answer = commit(&*engine, |batch| {
                    batch.put(numbered(&format!("side/{round:02}/"), caller), "1");
                    batch.insert(numbered("slot/", round), numbered("", caller));
                })
                .await;
                (caller, answer)
            });
        }
        let mut winners = Vec::new();
        while let Some(joined) = callers.join_next().await {
            match joined? {
                (caller, Ok(())) => winners.push(caller),
                (_, Err(CommitError::Conflict { key })) => {
                    equal("the key in conflict", &key, &numbered("slot/", round))?;
                }
                (_, Err(error)) => return Err(error.into()),
            }
        }
        equal("the number of winners", &winners.len(), &1)?;
        let winner = winners.first().copied().unwrap_or_default();
        let slot = engine.snapshot().await?.get(&numbered("slot/", round)).await?;
        equal("what the slot holds", &slot, &Some(numbered("", winner)))?;
    }
    let sides = all(&*engine).await?.iter().filter(|(key, _)| key.starts_with(b"side/")).count();
    equal("the number of records beside the slots", &sides, &ROUNDS)
}

pub(super) async fn concurrent_batches_are_all_visible(factory: &dyn Factory) -> Result<(), Detail> {
    const BATCHES: usize = 25;
    let engine = factory.open("parallel").await;
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let engine = Arc::clone(&engine);
        callers.spawn(async move {
            for number in 0..BATCHES {
                let prefix = format!("{caller:02}/");
                commit(&*engine, |batch| {
                    batch.insert(numbered(&prefix, number), "1");
                    batch.put(numbered(&prefix, BATCHES), numbered("", number));
                })
                .await?;
            }
            Ok::<(), Detail>(())
        });
    }
    while let Some(joined) = callers.join_next().await {
        joined??;
    }
    equal("the number of records", &all(&*engine).await?.len(), &(CALLERS * (BATCHES + 1)))
}

pub(super) async fn a_snapshot_shows_batches_whole_and_in_order(factory: &dyn Factory) -> Result<(), Detail> {
    const BATCHES: usize = 200;
    let engine = factory.open("order").await;
    let mut writer = JoinSet::new();
    let writing = Arc::clone(&engine);
    writer.spawn(async move {
        for number in 0..BATCHES {
            commit(&*writing, |batch| {
                batch.insert(numbered("a/", number), "1");
                batch.insert(numbered("b/", number), "1");
                batch.put("last", numbered("", number));
            })
            .await?;
        }
        Ok::<(), Detail>(())
    });
    let mut seen = 0;
    let joined = loop {
        let records = all(&*engine).await?;
        let under = |prefix: &[u8]| {
            let keys = records.iter().map(|(key, _)| key).filter(|key| key.starts_with(prefix));
            keys.cloned().collect::<Vec<_>>()
        };
        let count = under(b"a/").len();
        for prefix in ["a/", "b/"] {
            let want: Vec<_> = (0..count).map(|number| numbered(prefix, number)).collect();
            equal("the first batches, without a hole", &under(prefix.as_bytes()), &want)?;
        }
        let last = records.last().map(|(_, value)| value.clone());
        equal("the last batch shown", &last, &count.checked_sub(1).map(|number| numbered("", number)))?;
        ensure!(count >= seen, "a snapshot shows {count} batches after an earlier one showed {seen}");
        seen = count;
        if let Some(joined) = writer.try_join_next() {
            break joined;
        }
        tokio::task::yield_now().await;
    };
    joined??;
    equal("the number of records in the end", &all(&*engine).await?.len(), &(2 * BATCHES + 1))
}

pub(super) async fn a_dropped_commit_is_whole_or_absent(factory: &dyn Factory) -> Result<(), Detail> {
    const COMMITS: usize = 20;
    const WRITES: usize = 50;
    let engine = factory.open("dropped").await;
    for number in 0..COMMITS {
        let prefix = format!("{number:02}/");
        let filled = batch(|batch| (0..WRITES).for_each(|write| batch.put(numbered(&prefix, write), "1")));
        poll_once(engine.commit(filled));
    }
    // A batch behind them: an engine that still works on them is through with this one at the latest.
    commit(&*engine, |batch| batch.put("end", "1")).await?;
    let records = all(&*engine).await?;
    for number in 0..COMMITS {
        let prefix = format!("{number:02}/");
        let count = records.iter().filter(|(key, _)| key.starts_with(prefix.as_bytes())).count();
        ensure!(count == 0 || count == WRITES, "{count} of {WRITES} writes of a dropped commit are visible");
    }
    Ok(())
}

/// Begins a future and drops it.
fn poll_once<T>(mut future: Pin<Box<dyn Future<Output = T> + Send + '_>>) {
    let _: Poll<T> = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
}
