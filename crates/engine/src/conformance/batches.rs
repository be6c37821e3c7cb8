use bytes::Bytes;

use super::Factory;
use super::steps::{Detail, all, batch, commit, ensure, equal, holds, numbered, put};
use crate::{Batch, CommitError};

const LARGE_BATCH_WRITES: usize = 10_000;

pub(super) async fn a_conflict_applies_nothing(factory: &dyn Factory) -> Result<(), Detail> {
    let engine = factory.open("conflict").await;
    put(&*engine, "taken", "old").await?;
    put(&*engine, "kept", "old").await?;
    let before = all(&*engine).await?;
    let others: [fn(&mut Batch); 3] = [
        |batch| batch.put("kept", "new"),
        |batch| batch.delete("kept"),
        |batch| batch.insert("fresh", "new"),
    ];
    for other in others {
        for position in ["first", "last"] {
            let answer = commit(&*engine, |batch| {
                if position == "first" {
                    batch.insert("taken", "new");
                }
                other(batch);
                batch.put("new", "new");
                if position == "last" {
                    batch.insert("taken", "new");
                }
            })
            .await;
            let want = Err(CommitError::Conflict { key: "taken".into() });
            equal(&format!("a batch whose {position} write conflicts"), &answer, &want)?;
            equal("the records after the conflict", &all(&*engine).await?, &before)?;
        }
    }
    commit(&*engine, |batch| batch.insert("fresh", "new")).await?;
    holds(&*engine, "fresh", Some("new")).await
}

pub(super) async fn an_empty_batch_is_committed(factory: &dyn Factory) -> Result<(), Detail> {
    let engine = factory.open("empty").await;
    engine.commit(Batch::new()).await?;
    ensure!(all(&*engine).await?.is_empty(), "an empty batch made records");
    put(&*engine, "a", "1").await
}

pub(super) async fn a_batch_of_ten_thousand_writes_is_whole(factory: &dyn Factory) -> Result<(), Detail> {
    let engine = factory.open("large batch").await;
    let value = Bytes::from(vec![7; 256]);
    let filled = |last: &'static str| {
        batch(|batch| {
            for number in 0..LARGE_BATCH_WRITES {
                batch.put(numbered("k", number), value.clone());
            }
            batch.insert(last, "1");
        })
    };
    engine.commit(filled("x")).await?;
    equal("the number of records", &all(&*engine).await?.len(), &(LARGE_BATCH_WRITES + 1))?;
    let deletions = batch(|batch| {
        for number in 0..LARGE_BATCH_WRITES {
            batch.delete(numbered("k", number));
        }
    });
    engine.commit(deletions).await?;
    equal("the number of records after deleting them", &all(&*engine).await?.len(), &1)?;
    ensure!(engine.commit(filled("x")).await.is_err(), "a batch whose last write conflicts was committed");
    equal("the number of records after a conflict", &all(&*engine).await?.len(), &1)
}

pub(super) async fn the_largest_value_is_kept(factory: &dyn Factory) -> Result<(), Detail> {
    let engine = factory.open("large value").await;
    let value: Bytes = (0..factory.value_bytes_max()).map(|i| (i / 7 % 251) as u8).collect();
    commit(&*engine, |batch| {
        batch.put("large", value.clone());
        batch.put("small", "1");
    })
    .await?;
    let got = engine.snapshot().await?.get(b"large").await?;
    ensure!(got.as_ref() == Some(&value), "the value came back as {:?} bytes", got.map(|value| value.len()));
    holds(&*engine, "small", Some("1")).await
}
