//! Without faults the fault wrapper is an engine like any other, also when every call is delayed.

use std::sync::Arc;
use std::time::Duration;

use engine::fault::{FaultEngine, FaultRates};
use engine::{Engine, MemoryEngine};

mod quiet {
    use super::*;

    engine::conformance_tests!(|| async {
        Arc::new(FaultEngine::new(Arc::new(MemoryEngine::new()))) as Arc<dyn Engine>
    });
}

mod delayed {
    use super::*;

    engine::conformance_tests!(|| async {
        let engine = FaultEngine::new(Arc::new(MemoryEngine::new()));
        let rates = FaultRates { delayed: 500, delay_max: Duration::from_secs(1), ..FaultRates::default() };
        engine.inject(rates, 5);
        Arc::new(engine) as Arc<dyn Engine>
    });
}
