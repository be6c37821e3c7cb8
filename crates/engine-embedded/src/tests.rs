//! Tests of the engine as a whole, through the contract.

mod basics;
mod conformance;
mod damage;
mod faults;
mod model;
mod power;
mod read_only;

use std::sync::Arc;

use base::SeededRandom;
use bytes::Bytes;
use engine::{Batch, Direction, Engine, KeySpan, Scan, Snapshot};

use crate::fs::sim::SimFs;
use crate::{Config, EmbeddedEngine, OpenError};

/// Small segments, so that a test fills several.
fn small() -> Config {
    let mut config = Config::new("data");
    config.segment_bytes = 16 << 10;
    config.reserve_bytes = 16 << 10;
    config.random = Arc::new(SeededRandom::new(1));
    config
}

fn open(fs: &SimFs) -> Result<EmbeddedEngine, OpenError> {
    EmbeddedEngine::open_on(small(), Arc::new(fs.clone()))
}

fn put(key: &str, value: impl Into<Bytes>) -> Batch {
    let mut batch = Batch::new();
    batch.put(key.to_owned(), value);
    batch
}

fn delete(key: &str) -> Batch {
    let mut batch = Batch { class: engine::BatchClass::Reclaim, ..Batch::default() };
    batch.delete(key.to_owned());
    batch
}

/// Everything that a snapshot shows.
async fn records(snapshot: &dyn Snapshot) -> Vec<(Bytes, Bytes)> {
    let mut span = Some(KeySpan { start: Bytes::new(), end: None });
    let mut records = Vec::new();
    while let Some(rest) = span {
        let scan = Scan {
            span: rest,
            direction: Direction::Forward,
            records_max: 7,
            bytes_max: 1 << 20,
            values: true,
        };
        let page = snapshot.scan(&scan).await.unwrap();
        records.extend(page.records);
        span = page.next;
    }
    records
}

/// Everything that an engine shows now.
async fn dump(engine: &EmbeddedEngine) -> Vec<(Bytes, Bytes)> {
    records(engine.snapshot().await.unwrap().as_ref()).await
}
