//! `orlop backup`: the state of a running store at one revision, in a file.

mod copy;
mod failure;
mod file;

use std::path::PathBuf;
use std::process::ExitCode;

use backup::{Head, Totals};
use clap::Args;
use serde_json::json;

use super::OutputFormat;
use super::bar::Bar;
use super::client::ClientArguments;
use super::store::runtime;
use crate::console;
use copy::Source;
use failure::BackupFailure;
use file::{Begun, Target};

pub(super) const ABOUT: &str = "\
Writes the state of a running store at one revision into a file: keys, values, versions, revisions and leases.

Reads and writes go on meanwhile. The file is compressed, and every block of it has a checksum. It is written under the name
FILE.partial and gets its own name when all of it is durable.";

pub(super) const DETAILS: &str = "\
A file that exists is never overwritten. A backup that broke off leaves FILE.partial: --resume goes on with it at the same
revision, as long as the server has not compacted that; else delete it and begin anew.

`orlop restore --dry-run FILE` checks a backup. History is not in it.

Example: every hour, from a job
  orlop backup --endpoints https://10.0.0.5:2379 --cacert ca.pem --cert client.pem --key client.key \\
    --to /backups/orlop-$(date +%F-%H).backup

Exit codes: 0 the backup is whole and durable, 1 there is none, 64 the command line is wrong.";

/// The arguments of `orlop backup`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct BackupArguments {
    #[command(flatten)]
    client: ClientArguments,
    /// The file to write, or a directory to put one in
    #[arg(long, value_name = "FILE|DIR")]
    to: PathBuf,
    /// Go on with what a backup that broke off has left
    #[arg(long)]
    resume: bool,
    /// The form of what is printed at the end
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: OutputFormat,
}

/// Backs up, and says what.
pub(super) fn run(arguments: &BackupArguments) -> ExitCode {
    let runtime = runtime().map_err(|error| BackupFailure::SetUp(error.to_string()));
    match runtime.and_then(|runtime| runtime.block_on(backup(arguments))) {
        Ok((file, Head { revision, .. }, Totals { keys, leases, .. })) => {
            let file = file.display();
            console::print(&match arguments.output {
                OutputFormat::Text => {
                    format!("backed up {keys} keys and {leases} leases at revision {revision} to {file}\n")
                }
                OutputFormat::Json => {
                    let file = file.to_string();
                    let said = json!({ "file": file, "keys": keys, "leases": leases, "revision": revision });
                    format!("{said}\n")
                }
            })
        }
        Err(failure) => console::complain(&failure),
    }
}

async fn backup(arguments: &BackupArguments) -> Result<(PathBuf, Head, Totals), BackupFailure> {
    let mut source = Source::new(arguments.client.connect().await?);
    if arguments.resume {
        let target = Target::of(&arguments.to)?;
        let begun = target.resume()?;
        source.is_of(begun.head.cluster_id).await?;
        return finish(source, target, begun).await;
    }
    let leases = source.leases().await?;
    // Read behind the leases: a key hangs on one of these, unless it came since, which is noticed.
    let head = source.head().await?;
    let target = Target::new(&arguments.to, &head)?;
    let begun = target.begin(head, leases)?;
    finish(source, target, begun).await
}

async fn finish(
    mut source: Source,
    target: Target,
    mut begun: Begun,
) -> Result<(PathBuf, Head, Totals), BackupFailure> {
    let bar = Bar::of_keys(begun.head.keys);
    bar.phase("backing up");
    bar.add(begun.keys);
    source.keys(&mut begun, &target, &bar).await.map_err(|failure| failure.left(&target))?;
    let Begun { head, writer, .. } = begun;
    let (out, totals) = writer.finish().map_err(|error| target.write_failure(error).left(&target))?;
    target.keep(out)?;
    Ok((target.file().to_owned(), head, totals))
}
