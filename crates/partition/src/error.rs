use engine::ReadError;
use layout::Damaged;
use model::Revision;
use thiserror::Error;

use crate::leadership::NotConfirmed;

/// Why a read gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadFailure {
    /// The revision asked for lies below the compacted one, which this names.
    #[error("the revision has been compacted (compacted through {0})")]
    Compacted(Revision),
    /// The revision asked for has not happened yet.
    #[error("the revision is in the future")]
    FutureRevision,
    /// The engine does not answer at the moment; the read may be tried again.
    #[error("{0}")]
    Unavailable(String),
    /// What is stored is damaged: the text names the record. Trying again does not help.
    #[error("{0}")]
    Corrupt(String),
    /// The store is closed; the text says why.
    #[error("{0}")]
    Closed(String),
}

impl From<ReadError> for ReadFailure {
    fn from(error: ReadError) -> ReadFailure {
        match &error {
            ReadError::Unavailable(_) => ReadFailure::Unavailable(error.to_string()),
            ReadError::Corrupt(_) => ReadFailure::Corrupt(error.to_string()),
            ReadError::Closed(_) => ReadFailure::Closed(error.to_string()),
        }
    }
}

impl From<NotConfirmed> for ReadFailure {
    fn from(error: NotConfirmed) -> ReadFailure {
        match error {
            NotConfirmed::Lapsed | NotConfirmed::NoLeader(_) | NotConfirmed::Behind => {
                ReadFailure::Unavailable(error.to_string())
            }
            NotConfirmed::Clock(error) => error.into(),
        }
    }
}

impl From<Damaged> for ReadFailure {
    fn from(error: Damaged) -> ReadFailure {
        ReadFailure::Corrupt(error.to_string())
    }
}

/// Why a transaction did not report success, and with it whether it can have happened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TxnFailure {
    /// A put keeps the value or the lease of a key that does not exist. Nothing was changed.
    #[error("the key does not exist")]
    KeyNotFound,
    /// A put names a lease that does not exist or is being revoked. Nothing was changed.
    #[error("the lease does not exist")]
    LeaseNotFound,
    /// A read in it, or one that it needs, gave no answer. Nothing was changed.
    #[error(transparent)]
    Read(#[from] ReadFailure),
    /// There is no space for new data. Nothing was changed.
    #[error("no space: {0}")]
    NoSpace(String),
    /// This process does not own the partition, and has not looked at the transaction: nothing was begun.
    #[error("another server owns the keys")]
    Elsewhere,
    /// The engine certainly did not take the change.
    #[error("not written: {0}")]
    Unavailable(String),
    /// It is unknown whether the change happened, and may stay so.
    #[error("it is unknown whether this was written: {0}")]
    Undetermined(String),
}

/// Why a change of the system partition (a lease, a compaction, an alarm) did not report success.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SystemFailure {
    /// A lease with this id exists already.
    #[error("the lease exists already")]
    LeaseExists,
    /// There is no such lease.
    #[error("the lease does not exist")]
    LeaseNotFound,
    /// The revision is compacted already; the compacted revision.
    #[error("the revision has been compacted (compacted through {0})")]
    Compacted(Revision),
    /// The revision has not happened yet.
    #[error("the revision is in the future")]
    FutureRevision,
    /// There is no space for it. Nothing was changed.
    #[error("no space: {0}")]
    NoSpace(String),
    /// The engine certainly did not take the change.
    #[error("not written: {0}")]
    Unavailable(String),
    /// It is unknown whether the change happened.
    #[error("it is unknown whether this was written: {0}")]
    Undetermined(String),
}
