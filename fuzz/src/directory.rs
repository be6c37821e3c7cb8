//! Data directories of the embedded engine: how they are opened, and what they show.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::SeededRandom;
use bytes::Bytes;
use engine::{Direction, Engine, KeySpan, ReadError, Scan};
use engine_embedded::fuzzing::Directory;
use engine_embedded::{Config, EmbeddedEngine, OpenError};

/// Every record that an engine shows.
pub(crate) type Records = BTreeMap<Bytes, Bytes>;

/// Small segments, so that a few batches fill several.
pub(crate) fn config() -> Config {
    let mut config = Config::new("data");
    config.segment_bytes = 4 << 10;
    config.reserve_bytes = 0;
    config.random = Arc::new(SeededRandom::new(1));
    config
}

/// Opens a directory. What is wrong with it has a name: this process has nobody beside it, and settings that are right.
pub(crate) fn open(directory: &Directory) -> Option<EmbeddedEngine> {
    match directory.open(config()) {
        Ok(engine) => Some(engine),
        Err(OpenError::Corrupt { .. } | OpenError::NewerFormat { .. }) => None,
        Err(other) => unreachable!("{other}"),
    }
}

/// Everything that an engine shows, read in both ways; `None` where it names damage.
pub(crate) async fn records(engine: &EmbeddedEngine) -> Option<Records> {
    let snapshot = engine.snapshot().await.expect("an engine that was opened can be read");
    let mut span = Some(KeySpan { start: Bytes::new(), end: None });
    let mut records = Records::new();
    while let Some(rest) = span {
        let scan = Scan {
            span: rest,
            direction: Direction::Forward,
            records_max: 16,
            bytes_max: 1 << 20,
            values: true,
        };
        let page = undamaged(snapshot.scan(&scan).await)?;
        for (key, value) in page.records {
            let last = records.last_key_value().map(|(last, _)| last);
            assert!(last.is_none_or(|last| *last < key), "keys out of order");
            records.insert(key, value);
        }
        span = page.next;
    }
    for (key, value) in &records {
        assert_eq!(undamaged(snapshot.get(key).await)?.as_ref(), Some(value));
    }
    Some(records)
}

fn undamaged<T>(read: Result<T, ReadError>) -> Option<T> {
    match read {
        Ok(read) => Some(read),
        Err(ReadError::Corrupt(text)) => {
            assert!(text.contains("offset") || text.contains(".seg"), "{text} names no place");
            None
        }
        Err(other) => unreachable!("{other}"),
    }
}

/// Runs what waits for tasks, or for the threads of an engine.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime without input and output").block_on(future)
}
