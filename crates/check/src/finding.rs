use bytes::Bytes;
use layout::Damaged;
use model::{Key, Revision};

/// In which way something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A record does not read back as anything that was ever written.
    Damaged,
    /// A record should be there and is not.
    Missing,
    /// Two records say different things.
    Contradiction,
    /// What has to follow in order does not.
    Order,
    /// There is what no version writes.
    Unknown,
    /// A record should be gone and is there.
    Leftover,
}

impl Problem {
    /// One word for it, as machines are told.
    pub fn name(self) -> &'static str {
        match self {
            Problem::Damaged => "damaged",
            Problem::Missing => "missing",
            Problem::Contradiction => "contradiction",
            Problem::Order => "order",
            Problem::Unknown => "unknown",
            Problem::Leftover => "leftover",
        }
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// In which way.
    pub problem: Problem,
    /// What it is, for people.
    pub text: String,
    /// The user key that it is about.
    pub key: Option<Bytes>,
    /// The revision that it is about.
    pub revision: Option<Revision>,
    /// The key of the record in the engine, with the prefix.
    pub record: Option<Bytes>,
}

impl Finding {
    pub(crate) fn new(problem: Problem, text: impl Into<String>) -> Finding {
        Finding { problem, text: text.into(), key: None, revision: None, record: None }
    }

    pub(crate) fn damaged(damaged: &Damaged, record: &Bytes) -> Finding {
        Finding::new(Problem::Damaged, damaged.to_string()).record(record)
    }

    pub(crate) fn of(self, key: &Key, revision: Revision) -> Finding {
        self.key(key).at(revision)
    }

    pub(crate) fn key(self, key: &Key) -> Finding {
        Finding { key: Some(Bytes::copy_from_slice(key.as_slice())), ..self }
    }

    pub(crate) fn at(self, revision: Revision) -> Finding {
        Finding { revision: Some(revision), ..self }
    }

    pub(crate) fn record(self, record: &Bytes) -> Finding {
        Finding { record: Some(record.clone()), ..self }
    }
}

/// A part of a check, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Facts about the store, leases, alarms, and their log.
    System,
    /// The log of the user keys.
    Log,
    /// Objects and index.
    Objects,
    /// Log and objects differ: looking where.
    Locating,
    /// Looking for what should not be there.
    Unknown,
}

/// Who is told what a check finds and how far it is.
pub trait Observer: Send {
    /// Something is wrong.
    fn found(&mut self, finding: &Finding);

    /// So many more records and bytes were read in this phase.
    fn read(&mut self, phase: Phase, records: u64, bytes: u64) {
        let _ = (phase, records, bytes);
    }
}
