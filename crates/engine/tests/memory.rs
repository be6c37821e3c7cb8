//! The memory engine keeps every promise of the contract.

use std::sync::Arc;

use engine::{Engine, MemoryEngine};

engine::conformance_tests!(|| async { Arc::new(MemoryEngine::new()) as Arc<dyn Engine> });
