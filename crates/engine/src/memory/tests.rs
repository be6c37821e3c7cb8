use super::*;
use crate::BatchClass;

async fn commit(
    engine: &MemoryEngine,
    class: BatchClass,
    fill: impl FnOnce(&mut Batch),
) -> Result<(), CommitError> {
    let mut batch = Batch { class, ..Batch::default() };
    fill(&mut batch);
    engine.commit(batch).await
}

async fn put(engine: &MemoryEngine, key: &'static str, bytes: usize) {
    commit(engine, BatchClass::Normal, |batch| batch.put(key, vec![1; bytes])).await.unwrap();
}

#[tokio::test]
async fn without_snapshots_nothing_old_is_kept() {
    let engine = MemoryEngine::new();
    put(&engine, "a", 1000).await;
    let once = engine.usage();
    assert_eq!(once.total_bytes, once.live_bytes);
    for _ in 0..100 {
        put(&engine, "a", 1000).await;
    }
    assert_eq!(engine.usage(), once);
    commit(&engine, BatchClass::Normal, |batch| batch.delete("a")).await.unwrap();
    assert_eq!(engine.usage(), Usage::default());
}

#[tokio::test]
async fn a_snapshot_pins_what_it_shows_and_no_version_between() {
    let engine = MemoryEngine::new();
    put(&engine, "a", 1000).await;
    let snapshot = engine.snapshot().await.unwrap();
    put(&engine, "a", 1000).await;
    let pinned = engine.usage().total_bytes;
    assert!(pinned >= 2000);
    for _ in 0..100 {
        put(&engine, "a", 1000).await;
    }
    assert_eq!(engine.usage().total_bytes, pinned, "versions that no snapshot shows are dropped at once");
    drop(snapshot);
    assert_eq!(engine.usage().total_bytes, engine.usage().live_bytes);
}

#[tokio::test]
async fn the_oldest_snapshot_decides_what_is_kept() {
    let engine = MemoryEngine::new();
    let mut snapshots = Vec::new();
    for round in 0..10_u8 {
        commit(&engine, BatchClass::Normal, |batch| {
            batch.put("a", vec![round; 100]);
            if round % 2 == 0 { batch.put("b", vec![round; 100]) } else { batch.delete("b") }
        })
        .await
        .unwrap();
        snapshots.push((round, engine.snapshot().await.unwrap()));
    }
    for index in [4, 0, 7, 2, 0, 0, 1, 1, 0, 0] {
        for (round, snapshot) in &snapshots {
            assert_eq!(snapshot.get(b"a").await.unwrap().unwrap()[0], *round);
            assert_eq!(snapshot.get(b"b").await.unwrap().is_some(), round % 2 == 0);
        }
        snapshots.remove(index);
    }
    assert_eq!(engine.usage().total_bytes, engine.usage().live_bytes);
    assert!(engine.snapshot().await.unwrap().get(b"b").await.unwrap().is_none());
}

#[tokio::test]
async fn a_pile_of_old_versions_is_dropped_in_steps_or_by_reclaim() {
    const KEYS: u32 = 5_000;
    let engine = MemoryEngine::new();
    let fill = |batch: &mut Batch| (0..KEYS).for_each(|key| batch.put(key.to_be_bytes().to_vec(), "value"));
    commit(&engine, BatchClass::Normal, fill).await.unwrap();
    let snapshot = engine.snapshot().await.unwrap();
    commit(&engine, BatchClass::Normal, fill).await.unwrap();
    drop(snapshot);
    let usage = engine.usage();
    assert!(usage.total_bytes > usage.live_bytes, "one step is bounded");
    engine.reclaim().await.unwrap();
    assert_eq!(engine.usage().total_bytes, usage.live_bytes);
}

#[tokio::test]
async fn a_full_engine_refuses_new_data_until_it_is_emptied() {
    let engine = MemoryEngine::with_capacity_bytes(10_000);
    put(&engine, "a", 6_000).await;
    let before = engine.usage();
    let refused = commit(&engine, BatchClass::Normal, |batch| batch.put("b", vec![1; 6_000])).await;
    assert!(matches!(refused, Err(CommitError::NoSpace(_))), "{refused:?}");
    assert_eq!(engine.usage(), before);
    commit(&engine, BatchClass::Reclaim, |batch| {
        batch.delete("a");
        batch.put("lease", vec![1; 5_000]);
    })
    .await
    .unwrap();
    put(&engine, "b", 3_000).await;
    commit(&engine, BatchClass::Reclaim, |batch| batch.put("c", vec![1; 50_000])).await.unwrap();
    assert!(engine.usage().total_bytes > 50_000, "what keeps the store alive passes a full engine");
}

#[tokio::test]
async fn a_stored_value_does_not_keep_the_buffer_that_it_came_in() {
    let engine = MemoryEngine::new();
    let buffer = Bytes::from(vec![7; 1 << 20]);
    commit(&engine, BatchClass::Normal, |batch| batch.put(buffer.slice(..4), buffer.slice(4..8)))
        .await
        .unwrap();
    assert!(buffer.is_unique());
}
