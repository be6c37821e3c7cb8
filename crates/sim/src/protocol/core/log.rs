//! Logs in the engine, and batches on their way to them.

use super::state::PARTITIONS;

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Takeover,
    Batch,
    Filler,
}

/// What a slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) by: u8,
    pub(crate) epoch: u8,
    pub(crate) write: u8,
    pub(crate) revision: u8,
}

/// An engine batch on its way: it inserts one record into a slot of each partition that it touches (0: not touched).
/// Whoever sent it does not know whether it will be applied.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Commit {
    pub(crate) slots: [u8; PARTITIONS],
    pub(crate) record: Record,
}

/// A partition in the engine. Slot `n` is `log[n - 1]`.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Partition {
    /// Everything that was ever written; trimmed slots stay here, and are in `gone`.
    pub(crate) log: Vec<Record>,
    /// The slots that were trimmed, as bits.
    pub(crate) gone: u16,
    /// A record that was inserted into a trimmed slot.
    pub(crate) stray: Option<(u8, Record)>,
    /// The highest revision to which somebody was told that this partition is resolved.
    pub(crate) resolved: u8,
}

impl Partition {
    /// The last slot.
    pub(crate) fn end(&self) -> u8 {
        u8::try_from(self.log.len()).expect("a run is short")
    }

    pub(crate) fn is_gone(&self, slot: u8) -> bool {
        self.gone >> slot & 1 == 1
    }

    /// The durable number up to which the log was trimmed.
    pub(crate) fn trimmed_through(&self) -> u8 {
        u8::try_from(self.gone.checked_ilog2().unwrap_or(0)).expect("below 16")
    }

    /// What a snapshot shows in a slot.
    pub(crate) fn occupant(&self, slot: u8) -> Option<Record> {
        if self.is_gone(slot) {
            return self.stray.filter(|stray| stray.0 == slot).map(|stray| stray.1);
        }
        self.log.get(usize::from(slot) - 1).copied()
    }

    pub(crate) fn last_epoch(&self) -> u8 {
        self.log.iter().map(|record| record.epoch).max().unwrap_or(0)
    }

    pub(crate) fn last_revision(&self) -> u8 {
        self.log.iter().map(|record| record.revision).max().unwrap_or(0)
    }
}
