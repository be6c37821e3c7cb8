//! What can be wrong.

use std::fmt;

/// A promise that the protocol gives. The numbers are those of `docs/invariants.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Promise {
    /// 1: an acknowledged write is in the log.
    NothingAcknowledgedIsLost,
    /// 1: no write is in two slots.
    NoWriteTwice,
    /// 2: slots are dense, and each is written once.
    SlotsAreDense,
    /// 2: what was trimmed is not written again.
    TrimmedStaysTrimmed,
    /// 3: revisions in a log increase.
    RevisionsIncrease,
    /// 3: a write's revision is above every revision that a client knew before.
    RevisionsFollowRealTime,
    /// 4: a read has what was acknowledged or seen before it, and its header is not below that.
    ReadsAreFresh,
    /// 4: a read at X has every write at or below X, in each of its partitions.
    ReadsAreExact,
    /// 4: a transaction saw the state that its revision follows.
    TransactionsAreSerial,
    /// 5: nothing appears at or below a resolved revision.
    ResolvedStaysResolved,
    /// 6: a watch that resumes is told of every change.
    WatchesMissNothing,
    /// 8: what was called failed never happened.
    FailedNeverHappened,
    /// 12: epochs in a log increase.
    EpochsIncrease,
    /// 12: at most one process believes that it leads.
    OneLeader,
    /// A lease vanishes only when no key hangs on it, and none is attached later.
    NoKeyOutlivesItsLease,
    /// A key goes with a lease only while it hangs on it.
    OnlyLeasedKeysExpire,
    /// A granted lease is there until it was revoked or ran out.
    GrantedLeasesAreThere,
    /// A lease lives its full time after an acknowledged keep-alive.
    KeptLeasesLive,
    /// From every state all clients can be answered.
    ClientsCanBeAnswered,
}

impl Promise {
    /// The promise in a few words.
    pub fn words(self) -> &'static str {
        match self {
            Self::NothingAcknowledgedIsLost => "an acknowledged write is lost",
            Self::NoWriteTwice => "a write happens twice",
            Self::SlotsAreDense => "a slot is skipped or written twice",
            Self::TrimmedStaysTrimmed => "a batch is written into a trimmed slot",
            Self::RevisionsIncrease => "revisions in a log go back",
            Self::RevisionsFollowRealTime => "a revision is below one known before",
            Self::ReadsAreFresh => "a read is stale",
            Self::ReadsAreExact => "a read is not exact at its revision",
            Self::TransactionsAreSerial => "a transaction saw another state than its revision follows",
            Self::ResolvedStaysResolved => "a write appears at or below a resolved revision",
            Self::WatchesMissNothing => "a watch misses a change",
            Self::FailedNeverHappened => "a write that was called failed happened",
            Self::EpochsIncrease => "epochs in a log go back",
            Self::OneLeader => "two processes lead",
            Self::NoKeyOutlivesItsLease => "a key hangs on a lease that is gone",
            Self::OnlyLeasedKeysExpire => "a key goes with a lease on which it does not hang",
            Self::GrantedLeasesAreThere => "a granted lease is not there",
            Self::KeptLeasesLive => "a lease ends before its time",
            Self::ClientsCanBeAnswered => "a client can never be answered",
        }
    }
}

/// A broken promise, with the particulars.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub promise: Promise,
    /// What happened.
    pub particulars: String,
}

impl Violation {
    pub(crate) fn new(promise: Promise, particulars: String) -> Self {
        Self { promise, particulars }
    }

    pub(crate) fn stuck() -> Self {
        Self::new(Promise::ClientsCanBeAnswered, "no way leads on to an answer for everybody".to_owned())
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise.words(), self.particulars)
    }
}
