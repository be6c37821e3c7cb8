use std::future::Future;
use std::io;
use std::time::Duration;

use thiserror::Error;
use tracing::info;

use crate::app::{App, StartError, World};
use crate::config::Config;
use crate::console;
use crate::running::Running;
use crate::signals::Signals;

/// How long the runtime waits for blocking work that nobody waits for any more.
const LEFTOVERS_TIME_MAX: Duration = Duration::from_millis(100);

/// Why a process ended with a failure.
#[derive(Debug, Error)]
pub enum RunError {
    /// The runtime or the signals are not to be had.
    #[error("the process cannot be set up: {0}")]
    SetUp(#[from] io::Error),
    /// It could not start.
    #[error(transparent)]
    Start(#[from] Box<StartError>),
    /// It had to stop.
    #[error(transparent)]
    Failed(#[from] base::Failure),
}

/// Runs `work` on a runtime with a thread for each core, to its end.
pub fn block_on<T>(work: impl Future<Output = Result<T, RunError>>) -> Result<T, RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(LEFTOVERS_TIME_MAX);
    done
}

/// Serves until a signal or a failure, then drains; a second signal ends that.
pub async fn serve(config: &Config) -> Result<(), RunError> {
    let mut signals = Signals::listen()?;
    let app = tokio::select! {
        app = App::build(config, World::default()) => app.map_err(Box::new)?,
        signal = signals.next() => {
            info!(signal = signal.name(), "asked to stop before it served");
            return Ok(());
        }
    };
    console::greet(config, &app);
    let running = app.start();
    tokio::select! {
        () = running.failed() => {}
        signal = signals.next() => info!(signal = signal.name(), "asked to stop"),
    }
    drain(running, signals).await
}

/// Drains, unless it is asked a second time.
async fn drain(running: Running, mut signals: Signals) -> Result<(), RunError> {
    tokio::select! {
        drained = running.drain() => Ok(drained?),
        // Nothing may hold this up, not even what the end of the process would still wait for.
        signal = signals.next() => std::process::exit(signal.exit_code()),
    }
}
