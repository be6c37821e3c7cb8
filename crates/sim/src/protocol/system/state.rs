//! What the system model consists of.

use crate::protocol::clients::Clients;
use crate::protocol::set::Set;

/// Processes that may lead, and frontends that may own the user partition. A process that does both is one of each:
/// what it knows in one part helps it nowhere in the other.
pub(crate) const PROCESSES: usize = 2;

/// The clock that everybody shares. Different rates are a matter of the margin, not of the protocol.
pub(crate) type Time = u8;

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Assignment {
    pub(crate) epoch: u8,
    pub(crate) owner: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Entry {
    Takeover,
    Heartbeat,
    Ceiling(u8),
    Assign(Assignment),
    /// The leader has stopped: nobody has to wait for its lease to end.
    Released,
}

/// A slot of partition 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) by: u8,
    pub(crate) entry: Entry,
}

/// A batch on its way to a slot of partition 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Commit {
    pub(crate) slot: u8,
    pub(crate) record: Slot,
}

/// What a process that may lead is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Process {
    Following,
    /// Its poll of the log's end is on its way to the engine.
    Polling {
        begun: Time,
    },
    /// The engine has taken the snapshot for it.
    Polled {
        begun: Time,
        end: u8,
    },
    /// It saw this end, and waits for silence since then.
    Waiting {
        end: u8,
        since: Time,
    },
    /// Its takeover is on its way.
    Standing {
        slot: u8,
        begun: Time,
    },
    Leading(Lead),
}

/// What a leader knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lead {
    /// When its lease ends.
    pub(crate) until: Time,
    /// The last slot of partition 0 that it knows.
    pub(crate) tail: u8,
    /// The last revision that it handed out, and the ceiling that is durable.
    pub(crate) current: u8,
    pub(crate) ceiling: u8,
    pub(crate) assignment: Assignment,
    /// Its batch on the way, and when it began.
    pub(crate) flight: Option<(Entry, Time)>,
}

/// A slot of the user partition.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum UserSlot {
    Takeover { epoch: u8 },
    Batch { write: u8, revision: u8 },
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
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Owner {
    pub(crate) epoch: u8,
    pub(crate) tail: u8,
    pub(crate) known: Set,
    pub(crate) phase: Phase,
}

/// A frontend's newest epoch, and what it owns.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Seat {
    pub(crate) told: u8,
    pub(crate) owner: Option<Owner>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) now: Time,
    pub(crate) log: Vec<Slot>,
    pub(crate) flying: Vec<Commit>,
    pub(crate) processes: [Process; PROCESSES],
    pub(crate) user_log: Vec<UserSlot>,
    pub(crate) resolved: u8,
    pub(crate) seats: [Seat; PROCESSES],
    pub(crate) clients: Clients,
    pub(crate) heartbeats: u8,
    pub(crate) moves: u8,
    pub(crate) releases: u8,
}

impl State {
    /// The end of partition 0's log.
    pub(crate) fn end(&self) -> u8 {
        u8::try_from(self.log.len()).expect("a run is short")
    }

    /// What partition 0 says up to its end: the ceiling and the assignment.
    pub(crate) fn durable(&self) -> (u8, Assignment) {
        self.log.iter().fold((0, Assignment::default()), |(ceiling, assignment), slot| match slot.entry {
            Entry::Ceiling(ceiling) => (ceiling, assignment),
            Entry::Assign(assignment) => (ceiling, assignment),
            Entry::Takeover | Entry::Heartbeat | Entry::Released => (ceiling, assignment),
        })
    }

    /// A process that leads, if it may still believe so.
    pub(crate) fn lead(&self, process: usize) -> Option<Lead> {
        match self.processes[process] {
            Process::Leading(lead) => Some(lead),
            _ => None,
        }
    }
}
