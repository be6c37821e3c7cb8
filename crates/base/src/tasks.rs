use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, info_span};

/// The signal to stop. Cheap to clone; every task holds one.
#[derive(Clone, Debug, Default)]
pub struct Shutdown(CancellationToken);

/// The work was given up because the process stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the process is stopping")]
pub struct Cancelled;

impl Shutdown {
    /// A signal that nobody has given yet.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Gives the signal.
    pub fn begin(&self) {
        self.0.cancel();
    }

    /// Whether it was given.
    pub fn has_begun(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Completes when it is given.
    pub async fn begun(&self) {
        self.0.cancelled().await;
    }

    /// Runs `work` until it is done or the signal is given, whichever comes first.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Result<T, Cancelled> {
        tokio::select! {
            biased;
            () = self.0.cancelled() => Err(Cancelled),
            output = work => Ok(output),
        }
    }
}

/// What the end of a task means for the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// The process cannot serve without it: when it fails or panics, the process stops with its reason.
    Essential,
    /// Its end concerns only whom it served.
    Request,
}

/// Why the process has to stop: the first essential task that failed, and its reason.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("task '{task}' failed: {reason}")]
pub struct Failure {
    /// The task's name.
    pub task: &'static str,
    /// Its reason.
    pub reason: String,
}

/// Runs tasks in the place of tokio's runtime: a simulation decides itself which task goes on when.
///
/// A task that panics is the runner's concern: unlike on tokio, nobody is told of it.
pub trait Spawn: Send + Sync + 'static {
    /// Runs `work` to its end, unless the whole process is thrown away before.
    fn spawn(&self, name: &'static str, work: Pin<Box<dyn Future<Output = ()> + Send>>);
}

/// Owns the tasks of a process: each has a name, is joined, and ends before the process does.
#[derive(Clone, Default)]
pub struct Supervisor {
    /// Who runs the tasks, unless it is tokio.
    spawn: Option<Arc<dyn Spawn>>,
    tracker: TaskTracker,
    shutdown: Shutdown,
    failure: Arc<Mutex<Option<Failure>>>,
}

impl Supervisor {
    /// A supervisor whose tasks stop when `shutdown` is given.
    pub fn new(shutdown: Shutdown) -> Supervisor {
        Supervisor { shutdown, ..Supervisor::default() }
    }

    /// A supervisor whose tasks `spawn` runs.
    pub fn on(spawn: Arc<dyn Spawn>, shutdown: Shutdown) -> Supervisor {
        Supervisor { spawn: Some(spawn), shutdown, ..Supervisor::default() }
    }

    /// The signal that this supervisor's tasks follow.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Runs `work` as a task. An `Err`, or a panic, of an essential task is recorded and begins the shutdown.
    pub fn spawn<F, E>(&self, name: &'static str, kind: TaskKind, work: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        let supervisor = self.clone();
        let work = work.instrument(info_span!("task", name));
        if let Some(spawn) = &self.spawn {
            let work = self.tracker.track_future(async move {
                if let Err(error) = work.await {
                    supervisor.ended(name, kind, error.to_string());
                }
            });
            return spawn.spawn(name, Box::pin(work));
        }
        // A task of its own for the work, so that its panic arrives here as an error.
        let work = self.tracker.spawn(work);
        self.tracker.spawn(async move {
            match work.await {
                Ok(Err(error)) => supervisor.ended(name, kind, error.to_string()),
                Err(error) if error.is_panic() => {
                    supervisor.ended(name, kind, format!("it panicked: {error}"));
                }
                Ok(Ok(())) | Err(_) => {}
            }
        });
    }

    fn ended(&self, task: &'static str, kind: TaskKind, reason: String) {
        match kind {
            TaskKind::Essential => self.fail(Failure { task, reason }),
            TaskKind::Request => error!(task, error = reason, "a task failed"),
        }
    }

    /// Records why the process has to stop, and begins to. Only the first reason is kept: the others follow
    /// from it.
    pub fn fail(&self, failure: Failure) {
        let mut first = self.failure.lock();
        if first.is_none() {
            error!(task = failure.task, error = failure.reason, "stopping");
            *first = Some(failure);
        }
        drop(first);
        self.shutdown.begin();
    }

    /// The reason recorded, if there is one.
    pub fn failure(&self) -> Option<Failure> {
        self.failure.lock().clone()
    }

    /// Waits until every task has ended.
    pub async fn all_ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Waits until every task has ended, at most `grace`. `false` when some had not.
    pub async fn drain(&self, grace: Duration) -> bool {
        tokio::time::timeout(grace, self.all_ended()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_failure_of_an_essential_task_stops_the_others_and_is_kept() {
        let supervisor = Supervisor::new(Shutdown::new());
        let shutdown = supervisor.shutdown().clone();
        supervisor.spawn("waits", TaskKind::Essential, async move {
            shutdown.begun().await;
            Err("stopped with the others")
        });
        supervisor.spawn("fails", TaskKind::Essential, async { Err("disk on fire") });
        assert!(supervisor.drain(Duration::from_secs(30)).await);
        assert_eq!(supervisor.failure(), Some(Failure { task: "fails", reason: "disk on fire".into() }));
    }

    #[tokio::test]
    async fn a_panic_of_an_essential_task_stops_the_process() {
        let supervisor = Supervisor::new(Shutdown::new());
        supervisor.spawn("breaks", TaskKind::Essential, async {
            assert!(std::hint::black_box(false), "broken");
            Ok::<_, String>(())
        });
        supervisor.shutdown().begun().await;
        assert!(supervisor.drain(Duration::from_secs(30)).await);
        assert!(supervisor.failure().unwrap().reason.contains("panicked"));
    }

    #[tokio::test]
    async fn a_failed_request_concerns_nobody_else() {
        let supervisor = Supervisor::new(Shutdown::new());
        supervisor.spawn("request", TaskKind::Request, async { Err("client went away") });
        assert!(supervisor.drain(Duration::from_secs(30)).await);
        assert_eq!(supervisor.failure(), None);
        assert!(!supervisor.shutdown().has_begun());
    }
}
