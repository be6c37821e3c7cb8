//! Whether the records of a store are what a store writes: each by itself, and all of them together.
//!
//! It reads one snapshot of an engine and changes nothing. It must never depend on `partition`: the rules are written
//! down a second time, so that a mistake there is found here.
//!
//! What is compared (see `docs/invariants.md` and `docs/key-layout.md`):
//! - every record decodes, and its checksum holds; there is none of a kind that nobody writes;
//! - the slots of each log follow each other, missing ones were trimmed, and epochs and revisions never go back;
//! - a key's newest object and its index record say the same; who is deleted has no index record;
//! - the changes in the log from the compacted revision on, and the objects from there on, are the same, with what each
//!   replaced; no object is left that a compaction has given back;
//! - a lease that a key hangs on exists; leases, alarms and the compacted revision are what their log says last.
//!
//! It takes each record once, in the order of keys, and memory for a page of each kind. Log and objects are compared by
//! a sum over both; only where that differs are they read again to find out where.

mod finding;
mod locate;
mod log;
mod meta;
mod objects;
mod pages;
mod sum;
mod system;
mod unknown;

use engine::{ReadError, Snapshot};
use layout::KeySpace;
use layout::meta::{FORMAT, UNFINISHED};
use model::Revision;
use thiserror::Error;

pub use finding::{Finding, Observer, Phase, Problem};
use log::UserLogs;
use meta::Positions;

/// Why a store could not be checked, or not to its end. What was found until then was told.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CheckFailure {
    /// There is no store under this prefix.
    #[error("there is no store under the key prefix {prefix:?}")]
    Absent {
        /// The prefix that was looked under.
        prefix: String,
    },
    /// It was written by a newer version.
    #[error(
        "the store has format {found}, and this version of orlop reads up to format {FORMAT}: use a newer orlop"
    )]
    NewerFormat {
        /// The format that it has.
        found: u32,
    },
    /// It is the beginning of an import.
    #[error("an import or a restore was begun here and not finished: there is no store to check yet")]
    Unfinished,
    /// The engine does not answer.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What a store holds, and how much of it is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The cluster's random name; 0 where it cannot be read.
    pub cluster_id: u64,
    /// The revision of the newest slot.
    pub revision: Revision,
    /// The revision that was compacted through last.
    pub compacted: Option<Revision>,
    /// Live keys: index records.
    pub keys: u64,
    /// Object records: versions and tombstones.
    pub objects: u64,
    /// Slots of all logs.
    pub slots: u64,
    /// Leases.
    pub leases: u64,
    /// What is wrong, in number: each was told to the observer.
    pub problems: u64,
}

/// A check under way.
pub(crate) struct Checking<'a> {
    pub(crate) snapshot: &'a dyn Snapshot,
    pub(crate) space: &'a KeySpace,
    pub(crate) observer: &'a mut dyn Observer,
    pub(crate) report: Report,
}

/// Checks the store that `snapshot` shows under the prefix of `space`, and tells `observer` what is wrong.
///
/// Reads only. Cancel-safe: nothing is left behind.
pub async fn check(
    snapshot: &dyn Snapshot,
    space: &KeySpace,
    observer: &mut dyn Observer,
) -> Result<Report, CheckFailure> {
    let mut checking = Checking { snapshot, space, observer, report: Report::default() };
    let positions = checking.meta().await?;
    checking.refuse_strangers(&positions)?;
    checking.system_state().await?;
    checking.system_log(&positions).await?;
    let log = checking.user_logs(&positions).await?;
    let objects = checking.objects(&log).await?;
    if objects != log.sum {
        checking.locate(&log).await?;
    }
    checking.unknown().await?;
    Ok(checking.report)
}

impl Checking<'_> {
    pub(crate) fn found(&mut self, finding: Finding) {
        self.report.problems += 1;
        self.observer.found(&finding);
    }

    fn refuse_strangers(&self, positions: &Positions) -> Result<(), CheckFailure> {
        match positions.format {
            None if positions.is_empty => {
                Err(CheckFailure::Absent { prefix: self.space.prefix().to_owned() })
            }
            Some(UNFINISHED) => Err(CheckFailure::Unfinished),
            Some(found) if found > FORMAT => Err(CheckFailure::NewerFormat { found }),
            _ => Ok(()),
        }
    }
}

/// From which revision on log and objects have everything.
pub(crate) fn floor(log: &UserLogs) -> Revision {
    log.compacted.unwrap_or(Revision::NONE)
}
