mod comeback;

use std::future::Future;
use std::io;
use std::time::Duration;

use thiserror::Error;
use tracing::{info, warn};

use crate::app::{App, StartError, World};
use crate::config::Config;
use crate::console;
use crate::listen::Sockets;
use crate::name::with_name;
use crate::running::Running;
use crate::signals::{Signal, Signals};
use crate::traces::{FLUSH_TIME_MAX, Traces, TracesError};
use crate::{STOP_TIME_MAX, log, raise_open_files};
use comeback::{Comeback, Return};

/// How long the runtime waits for blocking work that nobody waits for any more.
const LEFTOVERS_TIME_MAX: Duration = Duration::from_millis(100);

/// Why a process ended with a failure.
#[derive(Debug, Error)]
pub enum RunError {
    /// The runtime or the signals are not to be had.
    #[error("the process cannot be set up: {0}")]
    SetUp(#[from] io::Error),
    /// Traces cannot be made.
    #[error(transparent)]
    Traces(#[from] TracesError),
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

/// Starts logging, and serves until a signal or a failure, then drains; a second signal ends that.
///
/// A server that is one of several, and can no longer lead or follow, comes back as one that follows, on the same
/// addresses: nobody has to start it again.
pub async fn serve(config: &Config) -> Result<(), RunError> {
    let traces = config.tracing.is_on.then(|| Traces::open(&config.tracing)).transpose()?;
    log::start(config.log, traces.as_ref());
    raise_open_files();
    let world = World { tracing: traces.as_ref().map(Traces::tracing), ..World::default() };
    let mut asked_at = None;
    let served = serve_in(&world, config, &mut asked_at).await;
    if let Some(traces) = traces {
        let taken = asked_at.map_or(Duration::ZERO, |asked_at| world.clock.now().saturating_sub(asked_at));
        let left = STOP_TIME_MAX.saturating_sub(LEFTOVERS_TIME_MAX).saturating_sub(taken);
        // Other threads send: this one has nothing else to do any more.
        traces.flush(left.min(FLUSH_TIME_MAX));
    }
    served
}

/// Notes in `asked_at` when it was asked to stop.
async fn serve_in(world: &World, config: &Config, asked_at: &mut Option<Duration>) -> Result<(), RunError> {
    let mut signals = Signals::listen()?;
    let config = &with_name(config, world.random.as_ref());
    let sockets = Sockets::bind(config).await.map_err(|error| Box::new(error.into()))?;
    let mut comeback = Comeback::new(config);
    loop {
        let begun = world.clock.now();
        let building = App::build_on(&sockets, config, world.clone(), comeback.stand_after());
        let app = tokio::select! {
            app = building => app.map_err(Box::new)?,
            signal = signals.next() => return stop_early(signal),
        };
        if comeback.is_first() {
            console::greet(config, &app);
        }
        let running = app.start();
        tokio::select! {
            () = running.failed() => {}
            signal = signals.next() => {
                info!(signal = signal.name(), "asked to stop");
                *asked_at = Some(world.clock.now());
                // Whoever connects from now on is told at once that nobody is there.
                drop(sockets);
                return Ok(drain(running, &mut signals).await?);
            }
        }
        let departure = running.departure();
        let Err(failure) = drain(running, &mut signals).await else { return Ok(()) };
        let lasted = world.clock.now() - begun;
        let Return::After(pause) = comeback.decide(&failure, departure, lasted) else {
            return Err(failure.into());
        };
        warn!(error = %failure, ?pause, "this server comes back as one that does not lead");
        tokio::select! {
            () = world.clock.sleep_until(world.clock.now() + pause) => {}
            signal = signals.next() => return stop_early(signal),
        }
    }
}

fn stop_early(signal: Signal) -> Result<(), RunError> {
    info!(signal = signal.name(), "asked to stop before it served");
    Ok(())
}

/// Drains, unless it is asked a second time.
async fn drain(running: Running, signals: &mut Signals) -> Result<(), base::Failure> {
    tokio::select! {
        drained = running.drain() => drained,
        // Nothing may hold this up, not even what the end of the process would still wait for.
        signal = signals.next() => std::process::exit(signal.exit_code()),
    }
}
