//! Log records go to standard error: lines to read, or JSON.

use std::io::IsTerminal;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use base::TRACE;

use crate::config::{LogConfig, LogFormat};
use crate::traces::Traces;

/// Libraries that write several records for each request below this level: with `debug` one wants to read ours.
const QUIET: [&str; 4] = ["h2", "hyper", "hyper_util", "tower"];

/// Starts logging, and traces if there are any. Only the first call of a process has an effect.
pub fn start(config: LogConfig, traces: Option<&Traces>) {
    let targets = Targets::new().with_default(LevelFilter::from_level(config.level));
    let quiet = config.level.min(Level::INFO);
    let targets = QUIET.iter().fold(targets, |targets, target| targets.with_target(*target, quiet));
    // Spans of traces would otherwise be made for logs too, of every request.
    let targets = targets.with_target(TRACE, LevelFilter::OFF);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match config.format {
        LogFormat::Human => lines.with_ansi(in_colour()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    // Fails only when logging was started already.
    let registry = tracing_subscriber::registry().with(lines.with_filter(targets));
    let _ = match traces {
        None => registry.try_init(),
        Some(traces) => registry.with(traces.layer()).try_init(),
    };
}

/// Colour is for terminals, and for people who did not ask for none (no-color.org).
fn in_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
