use bytes::Bytes;
use model::{RangeOp, Revision};

use crate::values::Found;

/// What a transaction did and answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnOutcome {
    /// The transaction's revision if it changed anything, otherwise that of the state which it observed.
    pub revision: Revision,
    /// What its operations did.
    pub branch: BranchOutcome,
}

/// Which branch of a transaction ran, and what its operations did, in their order.
///
/// `R` is how a range's outcome stands in it and `V` how a version of a key does: loaded and encoded in what
/// clients get, references in what the sequencer makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchOutcome<R = RangeOutcome, V = Bytes> {
    /// Whether all compares held.
    pub succeeded: bool,
    /// One outcome for each operation of the branch.
    pub ops: Vec<OpOutcome<R, V>>,
}

impl BranchOutcome<Unread, Found> {
    /// It changed nothing, and says that it saw the state at `revision`.
    pub(crate) fn observed_at(&mut self, revision: Revision) {
        for op in &mut self.ops {
            match op {
                OpOutcome::Range { revision: at, .. }
                | OpOutcome::Put { revision: at, .. }
                | OpOutcome::Delete { revision: at, .. } => *at = revision,
                OpOutcome::Txn(nested) => nested.observed_at(revision),
            }
        }
    }
}

/// What one operation did. The revision is that of the state right after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpOutcome<R = RangeOutcome, V = Bytes> {
    /// A range was read.
    Range {
        /// The revision of the newest state when it was read.
        revision: Revision,
        /// What was read.
        outcome: R,
    },
    /// A key was put.
    Put {
        /// The transaction's revision.
        revision: Revision,
        /// The version replaced, where it was asked for and existed.
        previous: Option<V>,
    },
    /// A range was deleted.
    Delete {
        /// The transaction's revision, or that of the state if nothing has been changed so far.
        revision: Revision,
        /// How many keys were deleted.
        deleted: usize,
        /// The versions deleted, where they were asked for.
        previous: Vec<V>,
    },
    /// A nested transaction ran.
    Txn(BranchOutcome<R, V>),
}

/// What a read of a range found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeOutcome {
    /// The encoded `KeyValue`s, in the order asked for, cut at the limit.
    pub versions: Vec<Bytes>,
    /// Whether the limit cut any off.
    pub more: bool,
    /// How many keys the range holds, whatever the limit and filters.
    pub count: usize,
}

/// What the sequencer makes of a range: what it holds in the state that the transaction sees, still to be filtered,
/// sorted and loaded.
#[derive(Clone, Debug)]
pub(crate) struct Unread {
    pub(crate) op: RangeOp,
    pub(crate) listing: Listing,
}

/// The versions of a range, or the part of them that its limit needs.
#[derive(Clone, Debug)]
pub(crate) enum Listing {
    /// As found in the newest state.
    Found { found: Vec<Found>, count: usize },
    /// To be read at the older revision that the range names, whose state is pinned.
    Older,
}
