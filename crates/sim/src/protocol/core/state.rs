//! What the core consists of.

use super::log::{Commit, Partition};
use crate::protocol::clients::{Clients, PLACES};
use crate::protocol::set::Set;

/// User partitions; a place of the clients is one of them.
pub(crate) const PARTITIONS: usize = PLACES;
pub(crate) const FRONTENDS: usize = 3;
/// Who writes the batch of a transaction over several partitions: in the record it is no frontend.
pub(crate) const COORDINATOR: u8 = 9;

/// What an owner is doing. It has one batch in flight at most.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Phase {
    #[default]
    Idle,
    /// It asked for a revision.
    Asked { write: u8 },
    /// The leader's answer is on its way.
    Allocated { write: u8, revision: u8 },
    /// Its batch is on its way.
    Committing { write: u8, revision: u8 },
    /// It found its slot empty, and a filler is on its way too.
    Filling { write: u8, revision: u8 },
    /// It holds its next slot for a coordinator.
    Held { write: u8 },
    /// It gave up waiting for the coordinator; a filler is on its way.
    Breaking { write: u8 },
}

impl Phase {
    /// The write that its client waits for here.
    pub(crate) fn taken(self) -> Option<u8> {
        match self {
            Self::Asked { write }
            | Self::Allocated { write, .. }
            | Self::Committing { write, .. }
            | Self::Filling { write, .. } => Some(write),
            Self::Idle | Self::Held { .. } | Self::Breaking { .. } => None,
        }
    }
}

/// What a process that owns a partition knows of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Owner {
    pub(crate) epoch: u8,
    /// The last slot that it knows.
    pub(crate) tail: u8,
    /// The writes that it knows.
    pub(crate) known: Set,
    /// Its last published revision.
    pub(crate) published: u8,
    pub(crate) phase: Phase,
    /// A revision that it fetched ahead (only without R11); 0 for none.
    pub(crate) stock: u8,
}

/// What a frontend has to do with a partition.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Tenure {
    #[default]
    Nothing,
    /// It was told that the partition is its own under an epoch.
    Assigned {
        epoch: u8,
    },
    /// It looked at the end of the log and has not sent its takeover yet.
    Looked {
        epoch: u8,
        tail: u8,
    },
    /// Its takeover is on its way. `early` is a revision that it asked for already (only without R11).
    Entering {
        epoch: u8,
        tail: u8,
        early: u8,
    },
    Owner(Owner),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Seat {
    /// The newest epoch of its own that it has heard of.
    pub(crate) told: u8,
    pub(crate) tenure: Tenure,
}

impl Seat {
    pub(crate) fn owner(&self) -> Option<Owner> {
        match self.tenure {
            Tenure::Owner(owner) => Some(owner),
            _ => None,
        }
    }
}

/// Who owns a partition, as partition 0 says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Assignment {
    pub(crate) epoch: u8,
    pub(crate) owner: u8,
}

/// An assignment that the leader has sent to partition 0's log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Proposal {
    #[default]
    None,
    Sent(Assignment),
    /// Durable, and the leader has not heard it.
    Durable,
}

/// The leader, and what partition 0 holds. Leadership itself, and that log, are another model's matter.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Leader {
    /// The highest revision that was handed out, and the durable ceiling.
    pub(crate) current: u8,
    pub(crate) ceiling: u8,
    /// What partition 0 says, what the leader believes, and what is on its way between the two.
    pub(crate) durable: [Assignment; PARTITIONS],
    pub(crate) believed: [Assignment; PARTITIONS],
    pub(crate) proposals: [Proposal; PARTITIONS],
}

/// Whether a coordinator has its revision and has sent its batch.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    Holding,
    /// It has all holds and its revision.
    Ready,
    Committing,
}

/// A transaction over several partitions.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Coordinator {
    pub(crate) by: u8,
    pub(crate) write: u8,
    /// The slots that are held for it; 0 where it has none.
    pub(crate) slots: [u8; PARTITIONS],
    /// The partitions whose owner has answered it.
    pub(crate) asked: Set,
    pub(crate) revision: u8,
    pub(crate) stage: Stage,
}

/// How often what nobody plans may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Budget {
    pub(crate) reassignments: u8,
    pub(crate) crashes: u8,
    pub(crate) leader_changes: u8,
    pub(crate) trims: u8,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) partitions: [Partition; PARTITIONS],
    pub(crate) flying: Vec<Commit>,
    pub(crate) seats: [[Seat; PARTITIONS]; FRONTENDS],
    pub(crate) leader: Leader,
    pub(crate) coordinator: Option<Coordinator>,
    pub(crate) clients: Clients,
    pub(crate) budget: Budget,
}
