use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base::{Failure, Supervisor};
use engine::Engine;
use server::Departure;
use tracing::{info, warn};

/// How long a process that was asked to stop may take. Service managers kill after longer; clients wait for less.
pub const STOP_TIME_MAX: Duration = Duration::from_secs(5);
/// Of this, how long tasks may take to end: the server cuts connections after 4 s, then the store's tasks end.
const DRAIN_TIME_MAX: Duration = Duration::from_millis(4300);
/// How long closing the engine may take: it writes what it has been given already.
const CLOSE_TIME_MAX: Duration = Duration::from_millis(500);

/// A server that serves.
pub struct Running {
    pub(crate) supervisor: Supervisor,
    /// Closed when the tasks that use it have ended.
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) departure: Arc<OnceLock<Departure>>,
}

impl Running {
    /// Completes when the server cannot go on by itself. Cancel-safe.
    pub async fn failed(&self) {
        self.supervisor.shutdown().begun().await;
    }

    /// Why the server left the other servers of its store by itself, if it did.
    pub fn departure(&self) -> Option<Departure> {
        self.departure.get().cloned()
    }

    /// Stops: no new requests, those under way are finished, streams end with `Unavailable`, the engine is closed.
    /// What does not end in time is left behind, with a warning. Returns why the server had to stop, if nobody
    /// asked it to.
    pub async fn drain(self) -> Result<(), Failure> {
        self.supervisor.shutdown().begin();
        if !self.supervisor.drain(DRAIN_TIME_MAX).await {
            warn!(limit = ?DRAIN_TIME_MAX, "some requests or streams did not end in time; they are cut off");
        }
        if tokio::time::timeout(CLOSE_TIME_MAX, self.engine.close()).await.is_err() {
            warn!(limit = ?CLOSE_TIME_MAX, "the engine did not close in time; what was acknowledged is on disk");
        }
        match self.supervisor.failure() {
            Some(failure) => Err(failure),
            None => {
                info!("stopped");
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Shutdown, TaskKind};
    use engine::{MemoryEngine, ReadError};

    fn running() -> Running {
        let supervisor = Supervisor::new(Shutdown::new());
        Running { supervisor, engine: Arc::new(MemoryEngine::new()), departure: Arc::default() }
    }

    #[tokio::test]
    async fn a_failure_is_noticed_and_is_the_outcome_of_draining() {
        let running = running();
        running.supervisor.spawn("breaks", TaskKind::Essential, async { Err("disk on fire") });
        running.failed().await;
        let failure = running.drain().await.unwrap_err();
        assert_eq!(failure.to_string(), "task 'breaks' failed: disk on fire");
    }

    #[tokio::test]
    async fn the_engine_is_closed_after_the_last_task() {
        let running = running();
        let (engine, shutdown) = (running.engine.clone(), running.supervisor.shutdown().clone());
        let used = engine.clone();
        running.supervisor.spawn("works", TaskKind::Essential, async move {
            shutdown.begun().await;
            used.snapshot().await.map(drop)
        });
        running.drain().await.unwrap();
        assert!(matches!(engine.snapshot().await.err(), Some(ReadError::Closed(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_end_is_left_behind_in_time() {
        let running = running();
        running.supervisor.spawn("hangs", TaskKind::Request, std::future::pending::<Result<(), String>>());
        let drained = tokio::time::timeout(STOP_TIME_MAX, running.drain()).await;
        assert!(drained.expect("within the time").is_ok());
    }
}
