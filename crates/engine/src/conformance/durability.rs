use std::sync::Arc;

use super::Factory;
use super::steps::{Detail, Record, all, batch, commit, equal, numbered};
use crate::{CommitError, Engine};

/// Opens and fills a store three times over; each time everything from before must be there.
async fn generations(factory: &dyn Factory, name: &str, close: bool) -> Result<(), Detail> {
    if !factory.is_durable() {
        return Ok(());
    }
    let mut before: Vec<Record> = Vec::new();
    for generation in 0..3 {
        let engine = factory.open(name).await;
        equal(&format!("the records on opening number {generation}"), &all(&*engine).await?, &before)?;
        fill(&*engine, generation).await?;
        before = all(&*engine).await?;
        if close {
            engine.close().await;
        }
        factory.stop(engine).await;
    }
    let engine = factory.open(name).await;
    equal("the records in the end", &all(&*engine).await?, &before)?;
    Ok(())
}

async fn fill(engine: &dyn Engine, generation: usize) -> Result<(), Detail> {
    let slots = format!("slot/{generation}/");
    for number in 0..30 {
        commit(engine, |batch| {
            batch.insert(numbered(&slots, number), "1");
            batch.put("counter", numbered("", number));
            batch.put(numbered("k", number), vec![generation as u8; number * 100]);
            batch.delete(numbered("k", number * 2 + generation));
        })
        .await?;
    }
    let taken = commit(engine, |batch| {
        batch.put("never", "1");
        batch.insert("slot/0/000000", "2");
    })
    .await;
    equal(
        "inserting a slot of the first generation",
        &taken,
        &Err(CommitError::Conflict { key: "slot/0/000000".into() }),
    )?;
    let large = batch(|batch| (0..3_000).for_each(|n| batch.put(numbered("large/", n), vec![n as u8; 200])));
    engine.commit(large).await?;
    Ok(())
}

pub(super) async fn a_closed_store_opens_with_everything(factory: &dyn Factory) -> Result<(), Detail> {
    generations(factory, "closed", true).await
}

pub(super) async fn a_stopped_store_opens_with_everything(factory: &dyn Factory) -> Result<(), Detail> {
    generations(factory, "stopped", false).await?;
    if !factory.is_durable() {
        return Ok(());
    }
    // Also when the last call was the commit, with nothing read since.
    let engine: Arc<dyn Engine> = factory.open("stopped at once").await;
    commit(&*engine, |batch| batch.put("a", "1")).await?;
    factory.stop(engine).await;
    let engine = factory.open("stopped at once").await;
    equal("the records", &all(&*engine).await?, &vec![("a".into(), "1".into())])
}
