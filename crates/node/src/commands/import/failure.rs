use std::io;
use std::path::{Path, PathBuf};

use engine_embedded::OpenError;
use partition::ImportFailure;
use snapshot::ReadError;
use thiserror::Error;

/// Why nothing was imported that could be served.
#[derive(Debug, Error)]
pub(crate) enum ImportCommandFailure {
    /// The process cannot do it.
    #[error("the command cannot be set up: {0}")]
    SetUp(io::Error),
    /// The file is no good.
    #[error("{} cannot be imported: {source}", .file.display())]
    Snapshot {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: snapshot::OpenError,
    },
    /// There is what Orlop does not have.
    #[error(
        "{} has users or roles of etcd, or authentication is enabled in it. Orlop has none of them, and would let \
         everybody in: disable authentication, delete users and roles (`etcdctl auth disable`, `user delete`, \
         `role delete`), and take another snapshot",
        .file.display()
    )]
    Auth {
        /// The file.
        file: PathBuf,
    },
    /// The revision would be beyond the last one.
    #[error("--bump-revision {0} leads beyond the highest revision that there is")]
    Revision(i64),
    /// There is something where the data directory is to be.
    #[error(
        "the data directory {} is not empty, and an import never changes a store: choose another one with --data-dir, \
         or delete it if it is what an import has left that broke off",
        .dir.display()
    )]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// There is no data directory and none can be made.
    #[error("the data directory {} cannot be used: {source}; choose another one with --data-dir", .dir.display())]
    DataDir {
        /// The directory.
        dir: PathBuf,
        /// What the operating system answered.
        source: io::Error,
    },
    /// The directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What was written cannot be served.
    #[error("{source}; what is in {} is not finished, and no server starts on it: delete it", .dir.display())]
    Write {
        /// The directory.
        dir: PathBuf,
        /// Why it was broken off.
        source: ImportFailure,
    },
}

/// Why a snapshot cannot be loaded.
#[derive(Debug)]
pub(super) enum LoadFailure {
    Read(ReadError),
    Import(ImportFailure),
}

impl From<ReadError> for LoadFailure {
    fn from(error: ReadError) -> LoadFailure {
        LoadFailure::Read(error)
    }
}

impl From<ImportFailure> for LoadFailure {
    fn from(failure: ImportFailure) -> LoadFailure {
        LoadFailure::Import(failure)
    }
}

impl LoadFailure {
    /// With the file and the directory that it is about.
    pub(super) fn of(self, file: &Path, dir: &Path) -> ImportCommandFailure {
        match self {
            LoadFailure::Read(error) => {
                ImportCommandFailure::Snapshot { file: file.to_owned(), source: error.into() }
            }
            LoadFailure::Import(source) => ImportCommandFailure::Write { dir: dir.to_owned(), source },
        }
    }
}
