use std::io;
use std::path::PathBuf;

use backup::ReadError;
use thiserror::Error;
use tonic::{Code, Status};

use super::file::Target;
use crate::commands::client::ClientFailure;

/// Why there is no backup.
#[derive(Debug, Error)]
pub(crate) enum BackupFailure {
    #[error("{0}")]
    SetUp(String),
    #[error(transparent)]
    Client(#[from] ClientFailure),
    #[error("the server refused: {} ({})", .0.message(), .0.code())]
    Server(#[from] Status),
    #[error(
        "the server has compacted revision {revision} while it was backed up: delete {} and back up again. If that comes \
         again, compact less often: kube-apiserver's --etcd-compaction-interval",
        .partial.display()
    )]
    Compacted { revision: i64, partial: PathBuf },
    #[error("{failure}; what was written is in {}, and --resume goes on with it", .partial.display())]
    BrokeOff { failure: Box<BackupFailure>, partial: PathBuf },
    #[error("the server sent nothing for {0} s")]
    Silent(u64),
    #[error("the server ended the list of keys early")]
    Early,
    #[error("a key hangs on the lease {lease:x}, which came and went while the backup began: back up again")]
    Lease { lease: i64 },
    #[error("{} exists already, and a backup overwrites nothing: choose another name", .0.display())]
    Exists(PathBuf),
    #[error(
        "{} is what a backup that broke off has left: go on with it with --resume, or delete it", .0.display()
    )]
    Partial(PathBuf),
    #[error("{} cannot be gone on with: {reason}; delete it and back up again", .partial.display())]
    Resume { partial: PathBuf, reason: String },
    #[error("--resume needs the name of the file that was to be written, not of a directory")]
    ResumeOfDir,
    #[error(
        "the backup was begun from another store, cluster {begun:x}, and this is {found:x}: give the endpoints of that one"
    )]
    OtherCluster { begun: u64, found: u64 },
    #[error("{}: {source}", .file.display())]
    File { file: PathBuf, source: io::Error },
    #[error("the server sent what cannot be backed up: {0}")]
    Refused(&'static str),
}

impl BackupFailure {
    /// Why a backup cannot be gone on with.
    pub(super) fn resume(partial: PathBuf, error: &ReadError) -> BackupFailure {
        BackupFailure::Resume { partial, reason: error.to_string() }
    }

    /// A failure in the middle, with what is to be done about what is left.
    pub(super) fn left(self, target: &Target) -> BackupFailure {
        let partial = target.partial();
        match self {
            BackupFailure::Server(status) if status.code() == Code::OutOfRange => {
                BackupFailure::Compacted { revision: target.revision(), partial }
            }
            failure @ (BackupFailure::Server(_)
            | BackupFailure::Silent(_)
            | BackupFailure::Early
            | BackupFailure::File { .. }) => BackupFailure::BrokeOff { failure: Box::new(failure), partial },
            failure @ (BackupFailure::Lease { .. } | BackupFailure::Refused(_)) => {
                // Going on with it would come to the same end.
                let _ = std::fs::remove_file(partial);
                failure
            }
            failure => failure,
        }
    }
}
