//! What the process says to the person or the service manager that started it, beside its log.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use tracing::{error, info};

use crate::app::App;
use crate::config::{Config, LogConfig, LogFormat, Problems};
use crate::greeting::greeting;

/// The command line or the configuration cannot be used: `EX_USAGE` of sysexits.h.
const USAGE: u8 = 64;

/// Prints what was asked for.
pub fn print(text: &str) -> ExitCode {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Says all that is wrong with a configuration.
pub fn refuse(problems: &Problems) -> ExitCode {
    for line in problems.lines() {
        say(line);
    }
    say("nothing was started; `orlop --help` shows the flags");
    ExitCode::from(USAGE)
}

/// Says where the server is and what to do next: to people on standard output, to machines in the log.
pub fn greet(config: &Config, app: &App) {
    for url in app.listen_urls() {
        info!(%url, "ready to serve client requests");
    }
    for url in app.metrics_urls() {
        info!(%url, "serving metrics and health");
    }
    if config.log.format == LogFormat::Human {
        // A closed standard output is no reason not to serve.
        let _ = std::io::stdout().lock().write_all(greeting(config, app).as_bytes());
    }
}

/// Says why a command could not do what it was asked for.
pub(crate) fn complain(reason: &dyn Display) -> ExitCode {
    say(reason);
    ExitCode::FAILURE
}

/// As [`complain`], for a command that has another meaning for 1.
pub(crate) fn complain_with(code: u8, reason: &dyn Display) -> ExitCode {
    say(reason);
    ExitCode::from(code)
}

/// Says why the process ends with a failure.
pub fn fail(log: LogConfig, reason: &dyn Display) -> ExitCode {
    match log.format {
        LogFormat::Human => say(reason),
        LogFormat::Json => error!(error = %reason, "failed"),
    }
    ExitCode::FAILURE
}

fn say(line: impl Display) {
    // With standard error closed there is nobody left to tell.
    let _ = writeln!(std::io::stderr().lock(), "orlop: {line}");
}
