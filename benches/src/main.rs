//! A load generator for anything that speaks the etcd v3 API: it drives one load against one endpoint and prints
//! what it saw, together with what the server process cost.
//!
//! It holds no opinion: comparing systems means running it against each of them in turns, on one machine, in one
//! run, and reading ratios (`docs/performance.md`).

mod load;
mod process;
mod report;

use std::process::ExitCode;

use clap::Parser;

/// Drives one load against one endpoint.
#[derive(Parser)]
#[command(name = "orlop-bench", version, about)]
struct Options {
    /// Where the server listens.
    #[arg(long, default_value = "http://127.0.0.1:2379")]
    endpoint: String,
    /// The server's process, for its CPU time and memory; without it neither is reported.
    #[arg(long)]
    pid: Option<u32>,
    /// Connections, each shared by an equal part of the clients.
    #[arg(long, default_value_t = 10)]
    connections: usize,
    /// Clients: each has one request in flight.
    #[arg(long, default_value_t = 300)]
    clients: usize,
    /// Requests in all.
    #[arg(long, default_value_t = 100_000)]
    total: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 512)]
    value_bytes: usize,
    /// What the requests are.
    #[arg(value_enum)]
    load: load::Load,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let plan = load::Plan {
        endpoint: options.endpoint,
        connections: options.connections.clamp(1, options.clients.max(1)),
        clients: options.clients.max(1),
        total: options.total,
        value_bytes: options.value_bytes,
        load: options.load,
    };
    match report::measure(plan, options.pid).await {
        Ok(report) => {
            report::print(&report);
            ExitCode::SUCCESS
        }
        Err(error) => {
            report::print_error(error.as_ref());
            ExitCode::FAILURE
        }
    }
}
