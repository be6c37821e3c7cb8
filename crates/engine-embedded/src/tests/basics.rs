use engine::{Batch, CommitError, Engine, ReadError};

use super::{dump, put, small};
use crate::{Config, EmbeddedEngine, OpenError};

fn config(dir: &tempfile::TempDir) -> Config {
    Config { dir: dir.path().join("data"), ..small() }
}

async fn read(engine: &EmbeddedEngine, key: &str) -> Option<String> {
    let value = engine.snapshot().await.unwrap().get(key.as_bytes()).await.unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_clean_stop_and_after_none() {
    let dir = tempfile::tempdir().unwrap();
    let engine = EmbeddedEngine::open(config(&dir)).unwrap();
    let long = "x".repeat(5000);
    for number in 0..30 {
        engine.commit(put(&format!("key {number}"), long.clone())).await.unwrap();
    }
    engine.commit(put("key 3", "new")).await.unwrap();
    let mut batch = Batch::new();
    batch.delete("key 4");
    engine.commit(batch).await.unwrap();
    for _ in 0..3 {
        engine.close().await;
        let engine = EmbeddedEngine::open(config(&dir)).unwrap();
        assert_eq!(read(&engine, "key 3").await.as_deref(), Some("new"));
        assert_eq!(read(&engine, "key 4").await, None);
        assert_eq!(read(&engine, "key 29").await.as_deref(), Some(long.as_str()));
        assert_eq!(dump(&engine).await.len(), 29);
        engine.close().await;
    }
}

#[tokio::test]
async fn an_insert_of_what_exists_fails_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let engine = EmbeddedEngine::open(config(&dir)).unwrap();
    engine.commit(put("there", "1")).await.unwrap();
    let mut batch = Batch::new();
    batch.put("other", "2");
    batch.insert("there", "2");
    assert_eq!(engine.commit(batch).await, Err(CommitError::Conflict { key: "there".into() }));
    assert_eq!(dump(&engine).await, [("there".into(), "1".into())]);
}

#[tokio::test]
async fn a_second_open_is_refused_and_says_who_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let engine = EmbeddedEngine::open(config(&dir)).unwrap();
    let error = EmbeddedEngine::open(config(&dir)).err().unwrap();
    assert!(matches!(error, OpenError::Locked { .. }));
    assert_eq!(
        error.to_string(),
        format!(
            "the data directory {} is in use by another process (process id {}); stop that process, or choose \
             another directory",
            dir.path().join("data").display(),
            std::process::id()
        )
    );
    drop(engine);
    EmbeddedEngine::open(config(&dir)).unwrap();
}

#[tokio::test]
async fn a_newer_format_is_refused_and_both_versions_are_named() {
    let dir = tempfile::tempdir().unwrap();
    EmbeddedEngine::open(config(&dir)).unwrap().close().await;
    let data = dir.path().join("data");
    std::fs::write(data.join("FORMAT"), "orlop embedded engine, format version 2\n").unwrap();
    let error = EmbeddedEngine::open(config(&dir)).err().unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "the data directory {} has format version 2, this program reads up to 1; use the program version that \
             wrote it, or a later one",
            data.display()
        )
    );
}

#[tokio::test]
async fn a_closed_engine_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let engine = EmbeddedEngine::open(config(&dir)).unwrap();
    let snapshot = engine.snapshot().await.unwrap();
    engine.close().await;
    engine.close().await;
    assert_eq!(snapshot.get(b"key").await, Err(ReadError::Closed("it was closed".into())));
    assert_eq!(engine.snapshot().await.err(), Some(ReadError::Closed("it was closed".into())));
    assert_eq!(engine.commit(put("key", "")).await, Err(CommitError::Closed("it was closed".into())));
    assert!(matches!(engine.reclaim().await, Err(ReadError::Closed(_))));
}

#[tokio::test]
async fn reclaim_gives_back_what_is_dead() {
    let dir = tempfile::tempdir().unwrap();
    let engine = EmbeddedEngine::open(config(&dir)).unwrap();
    let long = "x".repeat(1000);
    for round in 0..20 {
        for number in 0..20 {
            engine.commit(put(&format!("key {number}"), format!("{round}{long}"))).await.unwrap();
        }
    }
    let snapshot = engine.snapshot().await.unwrap();
    let mut batch = Batch::new();
    (0..10).for_each(|number| batch.delete(format!("key {number}")));
    engine.commit(batch).await.unwrap();
    engine.reclaim().await.unwrap();
    let usage = engine.usage();
    assert!(usage.total_bytes < usage.live_bytes * 12 / 10 + 2000, "{usage:?}");
    assert_eq!(snapshot.get(b"key 3").await.unwrap().unwrap().len(), 1002);
    assert_eq!(dump(&engine).await.len(), 10);
    engine.close().await;
    let engine = EmbeddedEngine::open(config(&dir)).unwrap();
    assert_eq!(dump(&engine).await.len(), 10);
    let reopened = engine.usage();
    assert_eq!(usage.live_bytes, reopened.live_bytes);
}
