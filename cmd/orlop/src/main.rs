//! The program `orlop`: what it is told becomes a configuration, and the configuration a server.

use std::process::ExitCode;

use node::config::{self, Command, Config};
use node::{console, log};

/// Requests and answers are many short-lived pieces of memory, handed from thread to thread: the system's allocator
/// took a seventh of a write's CPU time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match config::read(&config::Process) {
        Ok(Command::Serve(config)) => serve(&config),
        Ok(Command::Print(text)) => console::print(&text),
        Ok(Command::Operate(command)) => node::operate(&command),
        Err(problems) => console::refuse(&problems),
    }
}

fn serve(config: &Config) -> ExitCode {
    match node::block_on(node::serve(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // Where it was not started yet.
            log::start(config.log, None);
            console::fail(config.log, &reason)
        }
    }
}
