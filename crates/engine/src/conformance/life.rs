use bytes::Bytes;

use super::Factory;
use super::steps::{Detail, batch, commit, ensure, equal, everything, numbered, put, span};
use crate::{CommitError, ReadError};

pub(super) async fn split_points_lie_in_order_inside_the_span(factory: &dyn Factory) -> Result<(), Detail> {
    let engine = factory.open("split").await;
    equal("split points of nothing", &engine.split_points(everything(), 8).await?, &Vec::new())?;
    let filled = batch(|batch| (0..2_000).for_each(|number| batch.put(numbered("k", number), vec![1; 100])));
    engine.commit(filled).await?;
    for span in [everything(), span("k000100", "k000200"), span("k000100", "k000101"), span("x", "b")] {
        for pieces in [0, 1, 2, 3, 16, 5_000] {
            let points = engine.split_points(span.clone(), pieces).await?;
            let what = format!("{pieces} pieces of {span:?}: {points:?}");
            ensure!(points.len() <= pieces.saturating_sub(1), "too many points for {what}");
            ensure!(points.is_sorted_by(|a, b| a < b), "points are not in order for {what}");
            let inside = |key: &Bytes| *key > span.start && span.end.as_ref().is_none_or(|end| key < end);
            ensure!(points.iter().all(inside), "points do not cut the span for {what}");
        }
    }
    Ok(())
}

pub(super) async fn usage_follows_what_is_stored(factory: &dyn Factory) -> Result<(), Detail> {
    const BYTES: usize = 4 << 20;
    let engine = factory.open("usage").await;
    let sane = |when: &str| {
        let usage = engine.usage();
        ensure!(usage.live_bytes <= usage.total_bytes, "{when}, live exceeds total: {usage:?}");
        Ok(usage)
    };
    sane("at first")?;
    // Bytes that no compression makes small.
    let mut mixed = 1_u32;
    let mut noise = || {
        mixed = mixed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (mixed >> 24) as u8
    };
    for number in 0..4 {
        let value: Vec<u8> = (0..BYTES / 4).map(|_| noise()).collect();
        commit(&*engine, |batch| batch.put(numbered("k", number), value)).await?;
    }
    let usage = sane("with 4 MiB stored")?;
    ensure!(usage.total_bytes >= BYTES as u64, "4 MiB are stored, and the total is {usage:?}");
    let deletions = batch(|batch| (0..4).for_each(|number| batch.delete(numbered("k", number))));
    engine.commit(deletions).await?;
    engine.reclaim().await?;
    sane("after deleting and reclaiming")?;
    Ok(())
}

pub(super) async fn a_closed_engine_refuses(factory: &dyn Factory) -> Result<(), Detail> {
    let engine = factory.open("close").await;
    put(&*engine, "a", "1").await?;
    let snapshot = engine.snapshot().await?;
    engine.close().await;
    let read = engine.snapshot().await.err();
    ensure!(matches!(read, Some(ReadError::Closed(_))), "snapshot answered {read:?}");
    let write = commit(&*engine, |batch| batch.put("a", "2")).await;
    ensure!(matches!(write, Err(CommitError::Closed(_))), "commit answered {write:?}");
    let split = engine.split_points(everything(), 4).await;
    ensure!(matches!(split, Err(ReadError::Closed(_))), "split_points answered {split:?}");
    let reclaim = engine.reclaim().await;
    ensure!(matches!(reclaim, Err(ReadError::Closed(_))), "reclaim answered {reclaim:?}");
    let usage = engine.usage();
    ensure!(usage.live_bytes <= usage.total_bytes, "usage is {usage:?}");
    match snapshot.get(b"a").await {
        Ok(value) => equal("an older snapshot", &value, &Some("1".into()))?,
        Err(ReadError::Closed(_)) => {}
        Err(error) => return Err(error.into()),
    }
    engine.close().await;
    Ok(())
}
