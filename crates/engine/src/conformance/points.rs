use bytes::Bytes;

use super::Factory;
use super::steps::{Detail, Record, all, batch, commit, ensure, equal, holds, put, read};
use super::steps::{everything, whole};
use crate::{CommitError, Direction};

/// Longer than any key of Kubernetes, and as long as every engine that is thought of can store.
const LONG_KEY_BYTES: usize = 4 << 10;

pub(super) async fn a_put_is_read_back(factory: &dyn Factory) -> Result<(), Detail> {
    let engine = factory.open("put").await;
    ensure!(all(&*engine).await?.is_empty(), "a new engine holds records");
    holds(&*engine, "a", None).await?;
    put(&*engine, "a", "1").await?;
    holds(&*engine, "a", Some("1")).await?;
    holds(&*engine, "", None).await?;
    holds(&*engine, "a\0", None).await
}

pub(super) async fn a_later_put_replaces_the_value(factory: &dyn Factory) -> Result<(), Detail> {
    let engine = factory.open("replace").await;
    for value in ["1", "a longer value", "", "2"] {
        put(&*engine, "a", value).await?;
        holds(&*engine, "a", Some(value)).await?;
    }
    equal("the number of records", &all(&*engine).await?.len(), &1)
}

pub(super) async fn a_deleted_record_is_gone(factory: &dyn Factory) -> Result<(), Detail> {
    let engine = factory.open("delete").await;
    commit(&*engine, |batch| batch.delete("never there")).await?;
    put(&*engine, "a", "1").await?;
    put(&*engine, "b", "2").await?;
    commit(&*engine, |batch| batch.delete("a")).await?;
    holds(&*engine, "a", None).await?;
    holds(&*engine, "b", Some("2")).await?;
    equal("the number of records", &all(&*engine).await?.len(), &1)?;
    commit(&*engine, |batch| batch.delete("a")).await?;
    put(&*engine, "a", "3").await?;
    holds(&*engine, "a", Some("3")).await
}

pub(super) async fn an_insert_needs_an_absent_key(factory: &dyn Factory) -> Result<(), Detail> {
    let engine = factory.open("insert").await;
    commit(&*engine, |batch| batch.insert("a", "1")).await?;
    holds(&*engine, "a", Some("1")).await?;
    let again = commit(&*engine, |batch| batch.insert("a", "2")).await;
    equal("inserting a taken key", &again, &Err(CommitError::Conflict { key: "a".into() }))?;
    holds(&*engine, "a", Some("1")).await?;
    commit(&*engine, |batch| batch.delete("a")).await?;
    commit(&*engine, |batch| batch.insert("a", "3")).await?;
    holds(&*engine, "a", Some("3")).await?;
    put(&*engine, "empty", "").await?;
    let again = commit(&*engine, |batch| batch.insert("empty", "2")).await;
    equal(
        "inserting a key that has an empty value",
        &again,
        &Err(CommitError::Conflict { key: "empty".into() }),
    )
}

pub(super) async fn keys_and_values_are_any_bytes(factory: &dyn Factory) -> Result<(), Detail> {
    let engine = factory.open("bytes").await;
    let records = odd_records();
    let filled = batch(|batch| {
        // Against their order, so that it is the engine that sorts.
        for (key, value) in records.iter().rev() {
            batch.put(key.clone(), value.clone());
        }
    });
    engine.commit(filled).await?;
    let snapshot = engine.snapshot().await?;
    for (key, value) in &records {
        equal(&format!("the value of {key:?}"), &snapshot.get(key).await?.as_ref(), &Some(value))?;
    }
    equal(
        "all records, forward",
        &read(&*snapshot, whole(everything(), Direction::Forward)).await?,
        &records,
    )?;
    let backward = read(&*snapshot, whole(everything(), Direction::Backward)).await?;
    equal("all records, backward", &backward, &records.iter().rev().cloned().collect::<Vec<_>>())
}

/// Keys of every byte value, prefixes of each other, runs of 0x00 and 0xff; in byte order.
fn odd_records() -> Vec<Record> {
    let mut keys: Vec<Vec<u8>> = (0..=u8::MAX).map(|byte| vec![byte]).collect();
    for byte in [0x00, 0x01, b'/', 0x7f, 0x80, 0xfe, 0xff] {
        keys.extend([
            vec![byte; 2],
            vec![byte; 9],
            vec![byte, 0x00],
            vec![byte, 0xff],
            vec![byte, 0x00, 0xff],
        ]);
    }
    keys.push(vec![b'k'; LONG_KEY_BYTES]);
    keys.sort();
    keys.dedup();
    let value = |key: &[u8]| match key {
        [byte] if byte % 3 == 0 => Bytes::new(),
        _ => Bytes::from(key.iter().rev().flat_map(|byte| [*byte, 0, 0xff]).collect::<Vec<_>>()),
    };
    keys.into_iter().map(|key| (Bytes::from(key.clone()), value(&key))).collect()
}

pub(super) async fn get_many_answers_in_the_order_of_its_keys(factory: &dyn Factory) -> Result<(), Detail> {
    let engine = factory.open("many").await;
    commit(&*engine, |batch| {
        batch.put("a", "1");
        batch.put("b", "");
        batch.put("d", "4");
    })
    .await?;
    let snapshot = engine.snapshot().await?;
    let keys: Vec<Bytes> = ["d", "c", "a", "b", "d", "e", "a"].map(Bytes::from).to_vec();
    let want = [Some("4"), None, Some("1"), Some(""), Some("4"), None, Some("1")];
    equal(
        "the values of d c a b d e a",
        &snapshot.get_many(&keys).await?,
        &want.map(|v| v.map(Bytes::from)).to_vec(),
    )?;
    equal("the values of no keys", &snapshot.get_many(&[]).await?, &Vec::new())
}
