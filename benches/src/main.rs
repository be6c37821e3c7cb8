//! Measures stores that speak the etcd v3 API side by side: starts each of them fresh, lets clients work on it, and
//! says what they saw and what the server cost. `cargo xtask bench` builds what it starts.
//!
//! It holds no opinion. Systems take their turns in one run on one machine, several rounds each, and what can be read
//! from it are ratios (`docs/performance.md`).

mod connection;
mod cost;
mod drive;
mod requests;
mod result;
mod run;
mod scenario;
mod system;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::connection::Error;

#[derive(Parser)]
#[command(name = "orlop-bench", version, about = "Measures stores that speak the etcd v3 API side by side")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start the systems, let clients work on them, compare
    Run(Box<run::Options>),
    /// Serve what stores nothing: what a call costs by itself
    #[command(hide = true)]
    Floor(system::floor::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(options) => run::run(*options),
        Command::Floor(options) => system::floor::serve(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Says why there is no result.
#[expect(clippy::print_stderr, reason = "a program's errors go there")]
fn complain(error: &Error) {
    eprintln!("orlop-bench: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        eprintln!("  because: {cause}");
        source = cause.source();
    }
}
