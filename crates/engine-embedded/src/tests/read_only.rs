//! Looking at a directory without changing it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use bytes::Bytes;
use engine::{Engine, ReadError};

use super::{dump, put, records, small};
use crate::{Config, EmbeddedEngine, OpenError, ReadOnlyEngine};

fn config(dir: &Path) -> Config {
    Config { dir: dir.join("data"), ..small() }
}

/// Every file of the directory: what is in it, and when it was written to.
fn files(config: &Config) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let entries = std::fs::read_dir(&config.dir).unwrap();
    let file = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().unwrap();
        let written = entry.metadata().unwrap().modified().unwrap();
        (name, (std::fs::read(entry.path()).unwrap(), written))
    };
    entries.map(|entry| file(entry.unwrap())).collect()
}

async fn shown(engine: &ReadOnlyEngine) -> Vec<(Bytes, Bytes)> {
    records(engine.snapshot().unwrap().as_ref()).await
}

/// Fills several segments and ends.
async fn fill(config: &Config) -> Vec<(Bytes, Bytes)> {
    let engine = EmbeddedEngine::open(config.clone()).unwrap();
    for number in 0..60 {
        let len = if number % 3 == 0 { 20 } else { 900 };
        engine.commit(put(&format!("key {}", number % 50), vec![number; len])).await.unwrap();
    }
    let records = dump(&engine).await;
    engine.close().await;
    records
}

/// What an interrupted process leaves, and all of which the next start would tidy up.
fn interrupt(config: &Config) {
    std::fs::write(config.dir.join("FORMAT.tmp"), "half").unwrap();
    let mut segments: Vec<_> = files(config).into_keys().filter(|name| name.ends_with(".seg")).collect();
    let last = config.dir.join(segments.pop().unwrap());
    let mut content = std::fs::read(&last).unwrap();
    let end = content.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    content.truncate(end);
    content.extend_from_slice(&[0xab; 40]);
    std::fs::write(last, content).unwrap();
    for hint in files(config).into_keys().filter(|name| name.ends_with(".hint")) {
        std::fs::remove_file(config.dir.join(hint)).unwrap();
    }
}

#[tokio::test]
async fn a_directory_shows_the_same_as_to_an_engine_and_stays_as_it_is() {
    let temp = tempfile::tempdir().unwrap();
    let config = config(temp.path());
    let records = fill(&config).await;
    interrupt(&config);
    let before = files(&config);
    let engine = ReadOnlyEngine::open(config.clone()).unwrap();
    assert_eq!(shown(&engine).await, records);
    drop(engine);
    assert!(files(&config) == before, "no file was touched");
    let engine = EmbeddedEngine::open(config.clone()).unwrap();
    assert_eq!(dump(&engine).await, records);
    assert!(!files(&config).contains_key("FORMAT.tmp"), "an engine does tidy up");
}

#[tokio::test]
async fn a_directory_in_use_is_refused_and_one_that_is_looked_at_cannot_be_used() {
    let temp = tempfile::tempdir().unwrap();
    let config = config(temp.path());
    let engine = EmbeddedEngine::open(config.clone()).unwrap();
    let pid = std::process::id();
    match ReadOnlyEngine::open(config.clone()).map(drop) {
        Err(OpenError::Locked { pid: Some(holder), .. }) => assert_eq!(holder, pid),
        other => panic!("{other:?}"),
    }
    engine.close().await;
    let reader = ReadOnlyEngine::open(config.clone()).unwrap();
    let another = ReadOnlyEngine::open(config.clone()).unwrap();
    assert!(matches!(EmbeddedEngine::open(config.clone()).map(drop), Err(OpenError::Locked { .. })));
    drop((reader, another));
    EmbeddedEngine::open(config).unwrap().close().await;
}

#[test]
fn a_directory_without_data_is_not_made_one_with_data() {
    let temp = tempfile::tempdir().unwrap();
    let config = config(temp.path());
    assert!(matches!(ReadOnlyEngine::open(config.clone()).map(drop), Err(OpenError::Absent { .. })));
    assert!(!config.dir.exists());
    std::fs::create_dir(&config.dir).unwrap();
    assert!(matches!(ReadOnlyEngine::open(config.clone()).map(drop), Err(OpenError::Absent { .. })));
    assert_eq!(files(&config).len(), 0);
}

#[tokio::test]
async fn damage_is_named_and_not_shown() {
    let temp = tempfile::tempdir().unwrap();
    let config = config(temp.path());
    fill(&config).await;
    let place = |content: &[u8]| content.windows(100).position(|bytes| bytes == [10; 100]);
    let (name, (mut content, _)) =
        files(&config).into_iter().find(|(_, (content, _))| place(content).is_some()).unwrap();
    let at = place(&content).unwrap();
    content[at] ^= 1;
    std::fs::write(config.dir.join(&name), content).unwrap();
    let engine = ReadOnlyEngine::open(config).unwrap();
    match engine.snapshot().unwrap().get(b"key 10").await {
        Err(ReadError::Corrupt(text)) => assert!(text.contains(&name), "{text}"),
        other => panic!("{other:?}"),
    }
}
