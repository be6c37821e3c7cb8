//! Disks that are full or fail.

use std::io;
use std::time::Duration;

use base::SeededRandom;
use engine::{Batch, BatchClass, CommitError, Engine, ReadError};

use super::{delete, dump, open, put};
use crate::EmbeddedEngine;
use crate::fs::sim::SimFs;

const KIB: usize = 1024;
/// What takes longer never ends: the disk is looked at twice a second.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// Writes until the disk is full; the number of records that were taken.
async fn fill(engine: &EmbeddedEngine) -> usize {
    for number in 0..10_000 {
        match engine.commit(put(&format!("key {number:05}"), vec![7; 1000])).await {
            Ok(()) => {}
            Err(CommitError::NoSpace(_)) => return number,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the disk never filled");
}

#[tokio::test]
async fn on_a_full_disk_writes_are_refused_while_reads_and_deletions_go_on_and_make_room() {
    let fs = SimFs::default();
    fs.set_capacity(Some(120 * KIB));
    let engine = open(&fs).unwrap();
    let count = fill(&engine).await;
    assert!(count >= 80, "{count}");
    assert_eq!(dump(&engine).await.len(), count);
    // Once more, after a restart on the full disk.
    engine.close().await;
    let engine = open(&fs).unwrap();
    assert!(matches!(engine.commit(put("more", vec![7; 1000])).await, Err(CommitError::NoSpace(_))));
    for number in 0..count * 3 / 4 {
        engine.commit(delete(&format!("key {number:05}"))).await.unwrap();
    }
    assert_eq!(dump(&engine).await.len(), count - count * 3 / 4);
    engine.reclaim().await.unwrap();
    assert!(fs.taken() < 100 * KIB, "{}", fs.taken());
    engine.commit(put("more", vec![7; 1000])).await.unwrap();
    assert_eq!(dump(&engine).await.len(), count - count * 3 / 4 + 1);
    assert!(fs.names().contains(&"RESERVE".to_owned()), "the reserve was set aside again: {:?}", fs.names());
    let again = fill(&engine).await;
    assert!(again > 10, "{again}");
}

#[tokio::test]
async fn a_full_disk_that_is_given_more_space_takes_new_data_again() {
    let fs = SimFs::default();
    fs.set_capacity(Some(80 * KIB));
    let engine = open(&fs).unwrap();
    fill(&engine).await;
    let mut heartbeat = Batch { class: BatchClass::Reclaim, ..Batch::default() };
    heartbeat.put("lease", vec![1; 6000]);
    for _ in 0..2 {
        // Into the reserve, as the last segment has no room for it.
        engine.commit(heartbeat.clone()).await.unwrap();
    }
    let error = engine.commit(put("more", vec![7; 1000])).await.unwrap_err();
    assert!(error.to_string().contains("the disk of data is full"), "{error}");
    fs.set_capacity(None);
    engine.reclaim().await.unwrap();
    engine.commit(put("more", vec![7; 1000])).await.unwrap();
}

/// Nobody asks for space here: the clients only try again, without a pause.
#[tokio::test]
async fn a_full_disk_that_is_given_more_space_takes_new_data_again_while_clients_try_all_the_time() {
    let fs = SimFs::default();
    fs.set_capacity(Some(80 * KIB));
    let engine = open(&fs).unwrap();
    fill(&engine).await;
    let mut heartbeat = Batch { class: BatchClass::Reclaim, ..Batch::default() };
    heartbeat.put("lease", vec![1; 4500]);
    while fs.names().contains(&"RESERVE".to_owned()) {
        engine.commit(heartbeat.clone()).await.unwrap();
    }
    // The reserve is a segment now. More than half of it is used: the writer asks for the next one all the time.
    engine.commit(heartbeat.clone()).await.unwrap();
    let error = engine.commit(put("more", vec![7; 1000])).await.unwrap_err();
    assert!(error.to_string().contains("its reserve is in use"), "{error}");
    fs.set_capacity(None);
    let retried = async { while engine.commit(put("more", vec![7; 1000])).await.is_err() {} };
    let taken = tokio::time::timeout(HANGS_AFTER, retried).await;
    assert!(taken.is_ok(), "still refused: {:?}", fs.names());
}

#[tokio::test]
async fn after_a_full_disk_the_next_segment_does_not_take_the_space_of_the_reserve() {
    let fs = SimFs::default();
    fs.set_capacity(Some(80 * KIB));
    let engine = open(&fs).unwrap();
    fill(&engine).await;
    let mut heartbeat = Batch { class: BatchClass::Reclaim, ..Batch::default() };
    heartbeat.put("lease", vec![1; 500]);
    while fs.names().contains(&"RESERVE".to_owned()) {
        engine.commit(heartbeat.clone()).await.unwrap();
    }
    // The reserve is a segment now. More than half of it is used, so that a file for the next one is wanted.
    for _ in 0..16 {
        engine.commit(heartbeat.clone()).await.unwrap();
    }
    // Enough for a new reserve, not for a segment beside it.
    fs.set_capacity(Some(108 * KIB));
    for _ in 0..3 {
        engine.commit(heartbeat.clone()).await.unwrap();
    }
    engine.reclaim().await.unwrap();
    assert!(fs.names().contains(&"RESERVE".to_owned()), "{:?}", fs.names());
    engine.commit(put("more", vec![7; 1000])).await.unwrap();
}

#[tokio::test]
async fn a_failed_write_is_taken_back_and_named_as_not_applied() {
    let fs = SimFs::default();
    let engine = open(&fs).unwrap();
    engine.commit(put("before", "1")).await.unwrap();
    for (through, kind) in
        [(0, io::ErrorKind::StorageFull), (50, io::ErrorKind::StorageFull), (70, io::ErrorKind::Other)]
    {
        fs.faults(|faults| faults.write = Some((through, kind)));
        let error = engine.commit(put("during", "2")).await.unwrap_err();
        match kind {
            io::ErrorKind::StorageFull => assert!(matches!(error, CommitError::NoSpace(_)), "{error}"),
            _ => assert!(matches!(error, CommitError::Unavailable(_)), "{error}"),
        }
        assert!(error.to_string().contains("0000000001.seg"), "{error}");
        fs.faults(|faults| faults.write = None);
        assert_eq!(dump(&engine).await.len(), 1);
        let killed = open(&fs.after_kill()).unwrap();
        assert_eq!(dump(&killed).await, [("before".into(), "1".into())]);
    }
    engine.commit(put("after", "3")).await.unwrap();
    let killed = open(&fs.after_kill()).unwrap();
    assert_eq!(dump(&killed).await.len(), 2);
}

#[tokio::test]
async fn a_failed_fsync_closes_the_engine_and_leaves_the_batch_undetermined() {
    let fs = SimFs::default();
    let engine = open(&fs).unwrap();
    engine.commit(put("before", "1")).await.unwrap();
    let snapshot = engine.snapshot().await.unwrap();
    fs.faults(|faults| faults.fsync = true);
    let error = engine.commit(put("during", "2")).await.unwrap_err();
    assert!(matches!(error, CommitError::Undetermined(_)), "{error}");
    fs.faults(|faults| faults.fsync = false);
    let error = engine.commit(put("after", "3")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the engine is closed: it closed itself after a failure: could not fsync data/0000000001.seg: input/output \
         error; restart the process"
    );
    assert!(matches!(snapshot.get(b"before").await, Err(ReadError::Closed(_))));
    assert!(matches!(engine.snapshot().await.err(), Some(ReadError::Closed(_))));
    drop(engine);
    let engine = open(&fs).unwrap();
    let found = dump(&engine).await.len();
    assert!(found == 1 || found == 2);
}

#[tokio::test]
async fn what_a_failed_fsync_left_in_the_cache_is_durable_once_a_start_has_shown_it() {
    for seed in 0..20 {
        let fs = SimFs::default();
        let engine = open(&fs).unwrap();
        engine.commit(put("before", "1")).await.unwrap();
        fs.faults(|faults| faults.fsync = true);
        engine.commit(put("during", vec![2; 9000])).await.unwrap_err();
        fs.faults(|faults| faults.fsync = false);
        drop(engine);
        // The machine goes on, and so does its cache: the batch is read from there.
        let engine = open(&fs).unwrap();
        assert_eq!(dump(&engine).await.len(), 2);
        engine.commit(put("after", "3")).await.unwrap();
        let shown = dump(&engine).await;
        let cut = fs.power_loss(&SeededRandom::new(seed));
        drop(engine);
        assert_eq!(dump(&open(&cut).unwrap()).await, shown, "seed {seed}");
    }
}

#[tokio::test]
async fn a_write_that_cannot_be_taken_back_closes_the_engine() {
    let fs = SimFs::default();
    let engine = open(&fs).unwrap();
    fs.faults(|faults| (faults.write, faults.set_len) = (Some((10, io::ErrorKind::Other)), true));
    let error = engine.commit(put("during", "2")).await.unwrap_err();
    assert!(matches!(error, CommitError::Undetermined(_)), "{error}");
    assert!(matches!(engine.commit(put("after", "3")).await, Err(CommitError::Closed(_))));
}

#[tokio::test]
async fn a_read_that_fails_says_where_and_may_be_tried_again() {
    let fs = SimFs::default();
    let engine = open(&fs).unwrap();
    engine.commit(put("key", vec![1; 100])).await.unwrap();
    let snapshot = engine.snapshot().await.unwrap();
    fs.faults(|faults| faults.read = true);
    let error = snapshot.get(b"key").await.unwrap_err();
    assert!(matches!(&error, ReadError::Unavailable(text) if text.contains("0000000001.seg")), "{error}");
    fs.faults(|faults| faults.read = false);
    assert_eq!(snapshot.get(b"key").await.unwrap().unwrap().len(), 100);
}
