use bytes::Bytes;

use super::Factory;
use super::steps::{Detail, Record, all, commit, equal, everything, numbered, put, read, whole};
use crate::{Direction, Engine, Snapshot};

const KEYS: usize = 40;
const ROUNDS: usize = 12;

/// Fails unless every way to read `snapshot` gives exactly `records`.
async fn shows(what: &str, snapshot: &dyn Snapshot, records: &[Record]) -> Result<(), Detail> {
    let records = records.to_vec();
    let forward = read(snapshot, whole(everything(), Direction::Forward)).await?;
    equal(&format!("{what}, scanned forward"), &forward, &records)?;
    let mut backward = read(snapshot, whole(everything(), Direction::Backward)).await?;
    backward.reverse();
    equal(&format!("{what}, scanned backward"), &backward, &records)?;
    let keys: Vec<Bytes> = (0..KEYS).map(|number| numbered("k", number)).collect();
    let values = snapshot.get_many(&keys).await?;
    for (key, value) in keys.iter().zip(values) {
        let want = records.iter().find(|(k, _)| k == key).map(|(_, value)| value.clone());
        equal(&format!("{what}, get_many of {key:?}"), &value, &want)?;
        equal(&format!("{what}, get of {key:?}"), &snapshot.get(key).await?, &want)?;
    }
    Ok(())
}

/// One batch that puts, overwrites, deletes and creates.
async fn churn(engine: &dyn Engine, round: usize) -> Result<(), Detail> {
    commit(engine, |batch| {
        for number in 0..KEYS {
            match (number + round) % 4 {
                0 => batch.put(numbered("k", number), numbered("v", round)),
                1 if number % 2 == 0 => batch.delete(numbered("k", number)),
                _ => {}
            }
        }
    })
    .await?;
    Ok(())
}

pub(super) async fn a_snapshot_never_changes(factory: &dyn Factory) -> Result<(), Detail> {
    let engine = factory.open("immutable").await;
    let empty = engine.snapshot().await?;
    let mut taken = Vec::new();
    for round in 0..ROUNDS {
        churn(&*engine, round).await?;
        taken.push((engine.snapshot().await?, all(&*engine).await?));
    }
    // Letting go of some, in no order, must not touch the others.
    for index in [7, 0, 4] {
        taken.remove(index);
        churn(&*engine, index).await?;
    }
    for (position, (snapshot, records)) in taken.iter().enumerate() {
        shows(&format!("snapshot {position}"), &**snapshot, records).await?;
    }
    shows("the snapshot of the empty engine", &*empty, &[]).await
}

pub(super) async fn a_snapshot_shows_what_was_acknowledged_before(
    factory: &dyn Factory,
) -> Result<(), Detail> {
    let engine = factory.open("fresh").await;
    for number in 0..200 {
        let (key, value) = (numbered("k", number % KEYS), numbered("v", number));
        commit(&*engine, |batch| batch.put(key.clone(), value.clone())).await?;
        let got = engine.snapshot().await?.get(&key).await?;
        equal(&format!("{key:?} right after its commit"), &got, &Some(value))?;
    }
    Ok(())
}

pub(super) async fn snapshots_outlive_reclaim(factory: &dyn Factory) -> Result<(), Detail> {
    let engine = factory.open("reclaim").await;
    engine.reclaim().await?;
    for round in 0..ROUNDS {
        churn(&*engine, round).await?;
    }
    let (snapshot, records) = (engine.snapshot().await?, all(&*engine).await?);
    for round in 0..ROUNDS {
        churn(&*engine, round + 1).await?;
    }
    let now = all(&*engine).await?;
    engine.reclaim().await?;
    shows("the snapshot after reclaim", &*snapshot, &records).await?;
    drop(snapshot);
    engine.reclaim().await?;
    equal("all records after reclaim", &all(&*engine).await?, &now)?;
    put(&*engine, "k", "still writable").await
}
