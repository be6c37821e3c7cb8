//! What the lease model consists of.

use crate::protocol::set::Set;

pub(crate) const FRONTENDS: usize = 2;
/// Key `k` is in partition `k` once the partitions are split, and in partition 0 before.
pub(crate) const KEYS: usize = 2;
const PUTS: usize = 2;

/// A slot of the system partition's log. There is one lease.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    Grant,
    Revoke,
    Vanish,
    /// A user partition gets an owner. The first one of partition 1 is its split from partition 0.
    Assign {
        partition: u8,
        owner: u8,
        epoch: u8,
    },
}

/// The lease, in what a prefix of the system partition's log says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lease {
    Unknown,
    Live,
    Revoking,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Fate {
    #[default]
    NotSent,
    Sent,
    /// An owner has found its lease live, and its batch is on its way.
    Taken,
    Acknowledged,
    /// Refused, or lost with its owner.
    Failed,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Key {
    #[default]
    Absent,
    Free,
    Leased,
}

/// What a frontend owns in a partition.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    pub(crate) epoch: u8,
    /// The put whose batch is on its way.
    pub(crate) put: Option<u8>,
    /// The keys that it found on the lease, and is about to delete.
    pub(crate) listed: Option<Set>,
}

/// The leader's walk over the partitions. It is in memory only.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Walk {
    pub(crate) answered: Set,
    /// The partitions that there were when it began.
    pub(crate) first_map: Set,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) system: Vec<Entry>,
    /// How much of it each frontend has followed.
    pub(crate) followed: [u8; FRONTENDS],
    /// The last epoch in each partition's log.
    pub(crate) epochs: [u8; KEYS],
    pub(crate) keys: [Key; KEYS],
    pub(crate) owners: [[Option<Owner>; KEYS]; FRONTENDS],
    pub(crate) walk: Option<Walk>,
    pub(crate) puts: [Fate; PUTS],
    pub(crate) grants: u8,
    pub(crate) revokes: u8,
    pub(crate) moves: u8,
    pub(crate) splits: u8,
    pub(crate) leader_changes: u8,
}

impl State {
    /// The lease as the first `slots` of the system partition tell it.
    pub(crate) fn lease_at(&self, slots: usize) -> Lease {
        self.system[..slots].iter().fold(Lease::Unknown, |lease, entry| match entry {
            Entry::Grant => Lease::Live,
            Entry::Revoke => Lease::Revoking,
            Entry::Vanish => Lease::Unknown,
            Entry::Assign { .. } => lease,
        })
    }

    pub(crate) fn lease(&self) -> Lease {
        self.lease_at(self.system.len())
    }

    pub(crate) fn lease_for(&self, frontend: usize) -> Lease {
        self.lease_at(usize::from(self.followed[frontend]))
    }

    /// The slot of the system partition that has the last revocation.
    pub(crate) fn revoked_in(&self) -> usize {
        self.system.iter().rposition(|entry| *entry == Entry::Revoke).map_or(0, |index| index + 1)
    }

    /// Who owns a partition at which epoch, and in which slot of the system partition that is said.
    pub(crate) fn assignment(&self, partition: usize) -> Option<(usize, u8, usize)> {
        let slots = self.system.iter().enumerate().rev();
        slots.into_iter().find_map(|(index, entry)| match *entry {
            Entry::Assign { partition: named, owner, epoch } if usize::from(named) == partition => {
                Some((usize::from(owner), epoch, index + 1))
            }
            _ => None,
        })
    }

    /// The partitions of the current map.
    pub(crate) fn map(&self) -> Set {
        (0..KEYS).filter(|&partition| self.assignment(partition).is_some()).collect()
    }

    /// The partition that has a key.
    pub(crate) fn home(&self, key: usize) -> usize {
        if self.map().has(key) { key } else { 0 }
    }
}
