//! What the split model consists of.

use crate::protocol::clients::{Clients, PLACES};
use crate::protocol::set::Set;

/// The parent has both keys, each child one: key `k` is in `CHILDREN[k]`.
pub(crate) const PARTITIONS: usize = 3;
pub(crate) const PARENT: usize = 0;
pub(crate) const CHILDREN: [usize; PLACES] = [1, 2];
/// Who owns each partition, for words only.
pub(crate) const OWNERS: [&str; PARTITIONS] = ["F0 (parent)", "F0 (left)", "F1 (right)"];

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Record {
    Takeover,
    Batch {
        write: u8,
        revision: u8,
    },
    Filler,
    /// In the parent: its last slot. In a child: its first.
    Split,
}

/// An engine batch on its way: slots of partitions (0: not touched) and of partition 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Commit {
    pub(crate) slots: [u8; PARTITIONS],
    pub(crate) system: u8,
    pub(crate) record: Record,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Phase {
    #[default]
    Idle,
    Asked {
        write: u8,
    },
    Allocated {
        write: u8,
        revision: u8,
    },
    Committing {
        write: u8,
        revision: u8,
    },
    Filling {
        write: u8,
        revision: u8,
    },
    /// It holds its next slot for the split.
    Held,
    Breaking,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Owner {
    pub(crate) tail: u8,
    pub(crate) known: Set,
    pub(crate) published: u8,
    pub(crate) phase: Phase,
}

/// Where the leader is with the split.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Belief {
    #[default]
    Whole,
    /// It has asked the parent's owner to hold, and confirms the parent no more.
    Asking,
    /// The parent holds this slot.
    Holding {
        slot: u8,
    },
    /// The split is on its way to this slot of the parent.
    Splitting {
        slot: u8,
    },
    /// The logs are split and the map is not (only without R24).
    Mapping,
    Split,
}

/// The leader: the slot of partition 0 that it knows, and its revisions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Leader {
    pub(crate) tail: u8,
    pub(crate) current: u8,
    pub(crate) ceiling: u8,
    pub(crate) belief: Belief,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) logs: [Vec<Record>; PARTITIONS],
    pub(crate) flying: Vec<Commit>,
    /// The last slot of partition 0, and whether its map names the children.
    pub(crate) system: u8,
    pub(crate) map_is_split: bool,
    pub(crate) leader: Leader,
    pub(crate) owners: [Option<Owner>; PARTITIONS],
    /// What the children's owners have loaded before the split (only without R25).
    pub(crate) preloaded: Option<Set>,
    /// For each key the revision to which somebody was told that it is resolved.
    pub(crate) resolved: [u8; PLACES],
    pub(crate) clients: Clients,
    pub(crate) watches: u8,
    pub(crate) splits: u8,
    pub(crate) leader_changes: u8,
}

impl State {
    pub(crate) fn end(&self, partition: usize) -> u8 {
        u8::try_from(self.logs[partition].len()).expect("a run is short")
    }

    pub(crate) fn occupant(&self, partition: usize, slot: u8) -> Option<Record> {
        self.logs[partition].get(usize::from(slot) - 1).copied()
    }

    pub(crate) fn batches(&self, partition: usize) -> impl Iterator<Item = (usize, u8)> {
        self.logs[partition].iter().filter_map(|record| match record {
            Record::Batch { write, revision } => Some((usize::from(*write), *revision)),
            _ => None,
        })
    }
}
