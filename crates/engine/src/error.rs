use bytes::Bytes;
use thiserror::Error;

/// Why a read gave no answer. The caller may try again after `Unavailable`, and must not after the others.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The engine does not answer at the moment.
    #[error("the engine is unavailable: {0}")]
    Unavailable(String),
    /// What is stored is not what was written. The text names the file and position, or the key.
    #[error("stored data is damaged: {0}")]
    Corrupt(String),
    /// The engine was closed, or closed itself after a failure; the text says why.
    #[error("the engine is closed: {0}")]
    Closed(String),
}

/// Why a commit did not report success, and with it whether the batch can have been applied.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommitError {
    /// A record that the batch inserts exists already. Nothing was applied.
    #[error("a record to be inserted exists already: {}", .key.escape_ascii())]
    Conflict {
        /// The key of that record.
        key: Bytes,
    },
    /// The batch was certainly not applied, now or later.
    #[error("the engine did not take the batch: {0}")]
    Unavailable(String),
    /// The batch was certainly not applied: there is no space for it.
    #[error("the engine has no space left: {0}")]
    NoSpace(String),
    /// The batch may have been applied, or may still be.
    #[error("it is unknown whether the engine applied the batch: {0}")]
    Undetermined(String),
    /// The engine was closed before it took the batch; the text says why. Nothing was applied.
    #[error("the engine is closed: {0}")]
    Closed(String),
}
