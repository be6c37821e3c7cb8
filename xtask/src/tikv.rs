//! Starts the TiKV server of the tests for a person: builds it, says what to do with it, and stays until it ends.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Args;

use crate::context::{Context, output};
use crate::steps::{TIKV_SERVER, build_tikv_server};

#[derive(Args)]
pub(crate) struct TikvArgs {
    /// Where PD listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pd_addr: String,
    /// A directory that keeps the records; without it they are in memory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Returns when the server has ended; Ctrl-C reaches it as it reaches this process.
pub(crate) fn run(context: &Context, args: &TikvArgs) -> Result<(), String> {
    build_tikv_server(context)?;
    let requests = output(Command::new(context.tool(TIKV_SERVER)).arg("--explain"))?;
    let mut command = Command::new(context.tool(TIKV_SERVER));
    // Tied to this process by a pipe that nobody writes to, so that it does not stay behind.
    command.arg("--tied").arg("--pd-addr").arg(&args.pd_addr).stdin(Stdio::piped()).stdout(Stdio::piped());
    if let Some(data) = &args.data {
        command.arg("--data").arg(data);
    }
    let mut server =
        command.spawn().map_err(|error| format!("{TIKV_SERVER} could not be started: {error}"))?;
    let mut line = String::new();
    if let Some(stdout) = server.stdout.take() {
        BufReader::new(stdout)
            .read_line(&mut line)
            .map_err(|error| format!("reading its addresses: {error}"))?;
    }
    match (address(&line, "pd"), address(&line, "admin")) {
        (Some(pd), Some(admin)) => println!(
            "\
A TiKV cluster for tests is on loopback, with PD on {pd}
  try   cargo run --release -- --engine tikv --pd-endpoints {pd}
  admin http://{admin}, all with GET:
{requests}  stop  Ctrl-C"
        ),
        _ => println!("it ended before it served"),
    }
    let tie = server.stdin.take();
    let status = server.wait().map_err(|error| format!("waiting for {TIKV_SERVER}: {error}"))?;
    drop(tie);
    if status.success() { Ok(()) } else { Err(format!("{TIKV_SERVER} ended with {status}")) }
}

/// The value under `name` in the line of JSON that the server prints: addresses, which need no unescaping.
fn address<'l>(line: &'l str, name: &str) -> Option<&'l str> {
    let (_, rest) = line.split_once(&format!("\"{name}\":\""))?;
    Some(rest.split_once('"')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_are_found_whatever_their_order() {
        let line = "{\"admin\":\"127.0.0.1:2\",\"pd\":\"127.0.0.1:1\"}\n";
        assert_eq!((address(line, "pd"), address(line, "admin")), (Some("127.0.0.1:1"), Some("127.0.0.1:2")));
        assert_eq!(address("", "pd"), None);
    }
}
