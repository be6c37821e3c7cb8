//! `orlop restore`: a new store from a backup.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use backup::{Head, ReadError, Reader, Record, Totals};
use base::SystemRandom;
use clap::Args;
use model::{LeaseId, Revision};
use partition::{Import, ImportFailure};
use serde_json::json;
use thiserror::Error;

use super::OutputFormat;
use super::bar::Bar;
use super::store::{StoreArguments, StoreFailure, runtime};
use crate::console;

pub(super) const ABOUT: &str = "\
Makes a new store of a backup that `orlop backup` wrote: a data directory, or one on a TiKV cluster.

Keys, values, versions, create and mod revisions and leases are those of the backup. The store goes on so many revisions
above the backup's that no client meets a revision again that it has seen, and history before is marked as compacted:
clients that watch from there are told so and list anew.";

pub(super) const DETAILS: &str = "\
The whole backup is checked before anything is written. The store must not exist: nothing is ever overwritten. Delete what a
restore leaves that breaks off, or choose another place, and restore again: no server starts on a store that is begun, but
one would found a new one where not even the first record was written. Leases get their whole time when a server starts.

Example:
  orlop restore /backups/monday.backup --data-dir /var/lib/orlop-new && orlop --data-dir /var/lib/orlop-new

Example: check a backup, and write nothing
  orlop restore --dry-run /backups/monday.backup

Exit codes: 0 everything is restored and durable (with --dry-run: the backup is whole), 1 nothing that can be served is, 64
the command line is wrong.";

/// Far above what a cluster writes between two backups, and far below the end of all revisions.
const BUMP: i64 = 1_000_000_000;
/// A backup is read in pieces of this size.
const READ_BYTES: usize = 1 << 20;

/// The arguments of `orlop restore`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct RestoreArguments {
    /// The backup
    file: PathBuf,
    #[command(flatten)]
    pub(super) store: StoreArguments,
    /// Go on so many revisions above the backup's
    #[arg(long, value_name = "COUNT", default_value_t = BUMP, value_parser = clap::value_parser!(i64).range(1..))]
    bump_revision: i64,
    /// Mark history as compacted, which is always done; for command lines that are written for etcdutl
    #[arg(long)]
    mark_compacted: bool,
    /// Check the backup, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// The form of what is printed at the end
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: OutputFormat,
}

impl RestoreArguments {
    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run
    }
}

#[derive(Debug, Error)]
enum RestoreFailure {
    #[error(transparent)]
    Store(#[from] StoreFailure),
    #[error("{} cannot be restored: {source}", .file.display())]
    Backup { file: PathBuf, source: ReadError },
    #[error("--bump-revision {0} leads beyond the highest revision that there is")]
    Revision(i64),
    #[error("a key hangs on a lease that is not in the backup")]
    Lease,
    #[error("{place}: {source}")]
    Occupied { place: String, source: ImportFailure },
    #[error("{source}; what is in {place} is not finished, and no server starts on it: delete it")]
    Import { place: String, source: ImportFailure },
}

/// Restores, and says what.
pub(super) fn run(arguments: &RestoreArguments) -> ExitCode {
    let runtime = runtime().map_err(RestoreFailure::from);
    let file = arguments.file.display();
    match runtime.and_then(|runtime| runtime.block_on(restore(arguments))) {
        Ok((Totals { keys, leases, bytes }, revision)) => console::print(&match arguments.output {
            OutputFormat::Json => {
                let (restored, revision) = (!arguments.dry_run, revision.get());
                let said = json!({
                    "restored": restored, "keys": keys, "leases": leases, "bytes": bytes, "revision": revision
                });
                format!("{said}\n")
            }
            OutputFormat::Text if arguments.dry_run => {
                format!(
                    "{file} is whole: {keys} keys of {bytes} bytes and {leases} leases at revision {revision}\n"
                )
            }
            OutputFormat::Text => {
                format!("restored {keys} keys and {leases} leases, at revision {revision}\n")
            }
        }),
        Err(failure) => console::complain(&failure),
    }
}

async fn restore(arguments: &RestoreArguments) -> Result<(Totals, Revision), RestoreFailure> {
    let of_file = |source| RestoreFailure::Backup { file: arguments.file.clone(), source };
    if !arguments.dry_run {
        arguments.store.check_free()?;
    }
    let (head, totals) = check(&arguments.file)?;
    if arguments.dry_run {
        return Ok((totals, Revision::new(head.revision)));
    }
    let revision = head.revision.checked_add(arguments.bump_revision);
    let revision = Revision::new(revision.ok_or(RestoreFailure::Revision(arguments.bump_revision))?);
    let mut reader = open(&arguments.file).map_err(of_file)?;
    let place = arguments.store.place();
    let founding = arguments.store.found().await?;
    let begun = Import::begin(founding.engine.clone(), &SystemRandom, founding.space.clone()).await;
    let loaded = match begun {
        Ok(mut import) => {
            let bar = Bar::of_keys(totals.keys);
            bar.phase("restoring");
            let loaded = async {
                while let Some(record) = reader.next_record().map_err(of_file)? {
                    load(&mut import, record)
                        .await
                        .map_err(|source| RestoreFailure::Import { place: place.clone(), source })?;
                    bar.add(1);
                }
                let finished = import.finish(revision).await;
                finished.map_err(|source| RestoreFailure::Import { place: place.clone(), source })
            };
            loaded.await
        }
        Err(source) => Err(RestoreFailure::Occupied { place: place.clone(), source }),
    };
    founding.engine.close().await;
    loaded.map(|()| (totals, revision))
}

async fn load(import: &mut Import, record: Record) -> Result<(), ImportFailure> {
    match record {
        Record::Lease(lease, ttl_secs) => import.lease(lease, ttl_secs).await,
        Record::Key(key, meta, value) => import.live(&key, &meta, &value).await,
    }
}

fn open(file: &Path) -> Result<Reader<impl Read>, ReadError> {
    Reader::open(BufReader::with_capacity(READ_BYTES, File::open(file).map_err(ReadError::Io)?))
}

/// Reads a backup to its end: what it is of, and what it holds.
fn check(file: &Path) -> Result<(Head, Totals), RestoreFailure> {
    let of_file = |source| RestoreFailure::Backup { file: file.to_owned(), source };
    let mut reader = open(file).map_err(of_file)?;
    let bytes = file.metadata().map_err(|error| of_file(ReadError::Io(error)))?.len();
    let bar = Bar::over(Some(bytes));
    bar.phase("checking the backup");
    let mut leases = std::collections::HashSet::<LeaseId>::new();
    let (mut done, head) = (0, reader.head().clone());
    while let Some(record) = reader.next_record().map_err(of_file)? {
        match record {
            Record::Lease(lease, _) => drop(leases.insert(lease)),
            Record::Key(_, meta, _) if !meta.lease.is_none() && !leases.contains(&meta.lease) => {
                return Err(RestoreFailure::Lease);
            }
            Record::Key(..) => {}
        }
        bar.add(reader.left().len - done);
        done = reader.left().len;
    }
    Ok((head, reader.left().totals))
}
