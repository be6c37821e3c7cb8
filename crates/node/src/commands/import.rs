//! `orlop import`: a new data directory from a snapshot of etcd, or of Orlop.

mod failure;
mod load;
mod progress;

use std::fs::File;
use std::path::PathBuf;

use base::SystemRandom;
use clap::Args;
use model::Revision;
use partition::Import;
use snapshot::Snapshot;

use super::OutputFormat;
use super::store::{Founding, StoreArguments, runtime};
use crate::console;
use failure::ImportCommandFailure;
use load::{Loaded, Survey};
use progress::Progress;

pub(super) const ABOUT: &str = "\
Makes a data directory, or a store on a TiKV cluster, of a snapshot: a file from `etcdctl snapshot save`, of etcd or of Orlop, or a copy of etcd's own
file (member/snap/db of a stopped member).

Keys, values, versions, revisions and leases stay as they are. History before the newest revision is given up and marked
as compacted: clients that watch from there are told so and list anew.";

pub(super) const DETAILS: &str = "\
The directory must be empty or not there; on TiKV nothing may be under the key prefix. An import that breaks off leaves what
no server starts on: delete it, or choose another place, and import again. Leases get their whole time to live when a server starts.

Users and roles of etcd have nothing that corresponds to them: a snapshot that has any is refused.

Example: move what an etcd holds into Orlop
  etcdctl snapshot save etcd.db
  orlop import --from-snapshot etcd.db --data-dir /var/lib/orlop
  orlop --data-dir /var/lib/orlop

Example: go back to a snapshot that is some hours old, while clients have seen later revisions
  orlop import --from-snapshot old.db --data-dir /var/lib/orlop --bump-revision 1000000000

With -o json the last line is an object with keys, leases and revision.

Exit codes: 0 everything is imported, 1 nothing that can be served is, 64 the command line is wrong.";

/// The arguments of `orlop import`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct ImportArguments {
    /// The snapshot
    #[arg(long, value_name = "FILE")]
    from_snapshot: PathBuf,
    #[command(flatten)]
    pub(super) store: StoreArguments,
    /// Go on so many revisions above the snapshot's, so that no client meets a revision again that it has seen
    #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    bump_revision: i64,
    /// Mark history as compacted, which is always done; for command lines that are written for etcdutl
    #[arg(long)]
    mark_compacted: bool,
    /// The form of what is printed at the end
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: OutputFormat,
}

/// Imports, and says what.
pub(super) fn run(arguments: &ImportArguments) -> Result<(), ImportCommandFailure> {
    let loaded = runtime()?.block_on(import(arguments))?;
    let Loaded { keys, leases, revision } = loaded;
    let said = match arguments.output {
        OutputFormat::Text => format!("imported {keys} keys and {leases} leases, at revision {revision}\n"),
        OutputFormat::Json => {
            format!("{}\n", serde_json::json!({ "keys": keys, "leases": leases, "revision": revision.get() }))
        }
    };
    // Whether anybody reads it changes nothing.
    let _ = console::print(&said);
    Ok(())
}

async fn import(arguments: &ImportArguments) -> Result<Loaded, ImportCommandFailure> {
    let file = &arguments.from_snapshot;
    let of_file = |source| ImportCommandFailure::Snapshot { file: file.clone(), source };
    let place = arguments.store.place();
    arguments.store.check_free()?;
    let mut progress = Progress::default();
    progress.phase("checking the snapshot");
    let opened = File::open(file).map_err(|error| of_file(error.into()))?;
    let snapshot = Snapshot::open(opened).map_err(of_file)?;
    if snapshot.has_auth().map_err(|error| of_file(error.into()))? {
        return Err(ImportCommandFailure::Auth { file: file.clone() });
    }
    progress.phase("reading the keys");
    let survey = Survey::of(&snapshot, &mut progress).map_err(|failure| failure.of(file, &place))?;
    let revision = survey.revision.get().checked_add(arguments.bump_revision);
    let revision = revision.ok_or(ImportCommandFailure::Revision(arguments.bump_revision))?;

    let Founding { engine, space } = arguments.store.found().await?;
    let loaded = async {
        let import = Import::begin(engine.clone(), &SystemRandom, space).await?;
        progress.phase("writing the keys");
        survey.load(&snapshot, import, Revision::new(revision), &mut progress).await
    };
    let loaded = loaded.await.map_err(|failure| failure.of(file, &place));
    engine.close().await;
    progress.end();
    loaded
}
