//! What every engine promises, on this one.

use std::sync::Arc;

use async_trait::async_trait;
use engine::Engine;
use engine::conformance::Factory;
use tempfile::TempDir;

use crate::{Config, EmbeddedEngine};

/// Stores in folders of a temporary directory, with segments that are filled often.
struct Directories(TempDir);

fn directories() -> Directories {
    Directories(tempfile::tempdir().unwrap())
}

#[async_trait]
impl Factory for Directories {
    async fn open(&self, name: &str) -> Arc<dyn Engine> {
        let mut config = Config::new(self.0.path().join(name));
        config.segment_bytes = 256 << 10;
        config.reserve_bytes = 64 << 10;
        Arc::new(EmbeddedEngine::open(config).unwrap())
    }

    fn is_durable(&self) -> bool {
        true
    }
}

engine::conformance_tests!(directories());
