//! What a leader and a process that owns partitions for it say to each other, each in order.
//!
//! The leader gives a partition to another process by an assignment at an epoch of its own term. The owner takes the log
//! over, asks the leader for the revisions of each batch before it evaluates it, and tells what became of them before it
//! answers anybody. When the two lose each other, the leader takes the log back, and reads there what it was not told.

use std::sync::Arc;

use layout::log::{Epoch, PartitionId, Slot};
use model::{Event, LeaseId, Revision};

use crate::sequencer::Detached;

/// One tenure of one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenure {
    /// The partition.
    pub partition: PartitionId,
    /// The epoch at which it is owned.
    pub epoch: Epoch,
}

/// What a leader says to an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToOwner {
    /// Take the log over at this epoch, behind this slot, once everything through this revision is visible there.
    Assign(Tenure, Slot, Revision),
    /// Finish what is begun, and give the partition back.
    Recall(Tenure),
    /// The answer to a [`FromOwner::Take`] with this number.
    Granted(Tenure, u64, Result<Grant, String>),
    /// What a [`FromOwner::Settle`] with this number told is known to the leader: clients may be answered.
    Settled(Tenure, u64),
    /// Delete up to so many of the keys that hang on a lease.
    DeleteAttached(Tenure, u64, LeaseId, usize),
}

/// What an owner says to the leader.
#[derive(Clone, Debug)]
pub enum FromOwner {
    /// The log is taken over.
    Owns(Tenure),
    /// The partition is owned no more, or was not taken. Nothing of it is on its way from there.
    Released(Tenure),
    /// Asks for so many revisions, which may be none, and which of these leases keys may be put on. An answer proves that,
    /// after the question was sent, nobody else owned the partition.
    Take(Tenure, u64, usize, Vec<LeaseId>),
    /// What became of revisions.
    Settle(Tenure, u64, Settled),
    /// The answer to a [`ToOwner::DeleteAttached`].
    Detached(Tenure, u64, Result<Detached, String>),
}

/// Revisions that an owner has, and what it has to know to use them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What the revisions are settled by.
    pub taker: u64,
    /// The first.
    pub first: Revision,
    /// The newest revision that anybody was told to have happened.
    pub newest: Revision,
    /// The revision below which history was given up.
    pub compacted: Option<Revision>,
    /// Those of the leases asked about that keys may be put on.
    pub attachable: Vec<LeaseId>,
}

/// What became of revisions.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Which, by the grant's name for them.
    pub taker: u64,
    /// The log's newest slot.
    pub slot: Slot,
    /// What has happened, in order; nothing when they were given back.
    pub events: Vec<Arc<Event>>,
}

impl FromOwner {
    /// The tenure that it is about.
    pub fn tenure(&self) -> Tenure {
        match self {
            FromOwner::Owns(tenure)
            | FromOwner::Released(tenure)
            | FromOwner::Take(tenure, ..)
            | FromOwner::Settle(tenure, ..)
            | FromOwner::Detached(tenure, ..) => *tenure,
        }
    }
}
