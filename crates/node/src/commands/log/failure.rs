use std::io;
use std::path::{Path, PathBuf};

use engine_embedded::OpenError;
use partition::{LogFailure, ReadFailure};
use thiserror::Error;

/// Why a log could not be printed. What was printed until then is right.
#[derive(Debug, Error)]
pub(crate) enum LogCommandFailure {
    /// The process cannot do it.
    #[error("the command cannot be set up: {0}")]
    SetUp(io::Error),
    /// A server uses the directory, or it cannot be used.
    #[error("{}", of_open(.0))]
    Open(#[from] OpenError),
    /// What the directory holds cannot be read.
    #[error("{}: {source}", .dir.display())]
    Read {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        source: LogFailure,
    },
    /// A record cannot be read.
    #[error(transparent)]
    Record(#[from] ReadFailure),
    /// Standard output does not take it.
    #[error("standard output cannot be written: {0}")]
    Print(io::Error),
}

impl LogCommandFailure {
    /// With the directory in which a record lies.
    pub(super) fn at(self, dir: &Path) -> LogCommandFailure {
        match self {
            LogCommandFailure::Record(failure) => {
                LogCommandFailure::Read { dir: dir.to_owned(), source: failure.into() }
            }
            other => other,
        }
    }
}

fn of_open(error: &OpenError) -> String {
    match error {
        OpenError::Locked { dir, pid } => {
            let holder = pid.map_or_else(String::new, |pid| format!(" (process id {pid})"));
            format!(
                "the data directory {} is in use by a server{holder}, and a log is read without one: stop it first, \
                 or read a snapshot of the file system",
                dir.display()
            )
        }
        other => other.to_string(),
    }
}
