//! A server as a process runs it: configuration → build → start → drain.
//!
//! [`config::read`] turns command line, environment and file into a [`Config`]; [`App::build`] opens the engine and
//! the store and binds the addresses, [`App::start`] serves on them, and [`Running::drain`] stops in order. Each step
//! can be taken inside a test process, with addresses that are known before anything is served.
//!
//! This crate wires the others together and decides nothing about their work; nothing but the program may depend
//! on it.
//!
//! Invariants: no socket is bound and no file touched before the whole configuration was found right; what was
//! acknowledged is durable however the process ends; a process that was asked to stop is gone within
//! [`STOP_TIME_MAX`].

mod app;
mod commands;
pub mod config;
pub mod console;
mod data_dir;
#[cfg(feature = "planted")]
mod engine_faults;
mod engines;
mod greeting;
mod limits;
mod listen;
pub mod log;
mod metrics;
mod name;
mod run;
mod running;
mod signals;
mod traces;

pub use app::{App, StartError, World};
pub use commands::{LogArguments, OperatorCommand, commands_page, operate};
pub use config::Config;
pub use engines::EngineError;
pub use limits::raise_open_files;
pub use listen::ListenError;
pub use run::{RunError, block_on, serve};
pub use running::{Running, STOP_TIME_MAX};
pub use signals::{Signal, Signals};
pub use traces::{Traces, TracesError};
