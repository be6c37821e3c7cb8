use std::path::{Path, PathBuf};

use partition::ImportFailure;
use snapshot::ReadError;
use thiserror::Error;

use crate::commands::store::StoreFailure;

/// Why nothing was imported that could be served.
#[derive(Debug, Error)]
pub(crate) enum ImportCommandFailure {
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
    /// The place cannot be used.
    #[error(transparent)]
    Store(#[from] StoreFailure),
    /// There is a store, or what is left of one.
    #[error("{place}: {source}")]
    Occupied {
        /// What to call the place.
        place: String,
        /// What is there.
        source: ImportFailure,
    },
    /// What was written cannot be served.
    #[error("{source}; what is in {place} is not finished, and no server starts on it: delete it")]
    Write {
        /// What to call the place.
        place: String,
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
    pub(super) fn of(self, file: &Path, place: &str) -> ImportCommandFailure {
        match self {
            LoadFailure::Read(error) => {
                ImportCommandFailure::Snapshot { file: file.to_owned(), source: error.into() }
            }
            LoadFailure::Import(source @ (ImportFailure::NotEmpty | ImportFailure::Unfinished)) => {
                ImportCommandFailure::Occupied { place: place.to_owned(), source }
            }
            LoadFailure::Import(source) => ImportCommandFailure::Write { place: place.to_owned(), source },
        }
    }
}
