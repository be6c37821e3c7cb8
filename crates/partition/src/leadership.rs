//! Whether this process still is the one that owns the store: what must be asked before anything is answered that no
//! commit has proved.

use std::sync::Arc;
use std::time::Duration;

use base::{PlantedBug, is_planted};
use engine::{Engine, ReadError};
use parking_lot::Mutex;
use thiserror::Error;

/// How many heartbeats a lease has room for: one may be late or lost.
const BEATS_PER_LEASE: u32 = 4;
/// How often a candidate looks at the log during the silence that it waits for.
const LOOKS_PER_LEASE: u32 = 20;

/// How the processes that share an engine agree on who owns the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderLease {
    /// How long the owner may answer reads after its last heartbeat, and how long the system partition's log must have
    /// been silent before another process takes over. By the engine's clock.
    pub length: Duration,
}

impl LeaderLease {
    /// How long to wait from one heartbeat to the next.
    pub(crate) fn beat(self) -> Duration {
        self.length / BEATS_PER_LEASE
    }

    /// How long to wait from one look at the log to the next.
    pub(crate) fn look(self) -> Duration {
        self.length / LOOKS_PER_LEASE
    }
}

/// It is not certain that what this process knows is the newest. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotConfirmed {
    /// This process does not lead, and knows nobody who does or does not reach them.
    #[error("no leader answers: {0}")]
    NoLeader(String),
    /// Something that comes before the newest revision is not known here in time: the leader has acknowledged it and this
    /// process has not heard of it, or it is still on its way in another partition.
    #[error("what comes before the newest revision has not arrived at this server in time")]
    Behind,
    /// Its lease has run out: another process may have taken over.
    #[error("this server's lease as leader has run out; another one may have taken over")]
    Lapsed,
    /// The engine's clock cannot be read.
    #[error(transparent)]
    Clock(#[from] ReadError),
}

/// A process's own view of its ownership. Cheap to clone; clones share it.
#[derive(Clone)]
pub(crate) struct Leadership {
    leased: Option<Arc<Leased>>,
}

struct Leased {
    engine: Arc<dyn Engine>,
    lease: LeaderLease,
    /// Until when nobody else can have taken over.
    until: Mutex<Option<Duration>>,
}

impl Leadership {
    /// The ownership of whoever has the engine for itself, as the embedded engine's lock on its directory gives it;
    /// or, with a lease, that of one process among several, which has it only while it is extended.
    pub(crate) fn new(engine: Arc<dyn Engine>, lease: Option<LeaderLease>) -> Leadership {
        let leased = lease.map(|lease| Arc::new(Leased { engine, lease, until: Mutex::new(None) }));
        Leadership { leased }
    }

    /// Completes when it is certain that, at some moment after the call, nobody had taken over: whatever was
    /// acknowledged by anybody before the call is known here.
    pub(crate) async fn confirm(&self) -> Result<(), NotConfirmed> {
        let Some(leased) = &self.leased else { return Ok(()) };
        if is_planted(PlantedBug::UnprovedAnswer) {
            return Ok(());
        }
        // The clock is asked now, not before: a process that slept since must see that it did.
        let now = leased.engine.time().await?;
        let until = *leased.until.lock();
        if until.is_some_and(|until| now < until) { Ok(()) } else { Err(NotConfirmed::Lapsed) }
    }

    /// The time at which a record of the system partition begins to be written. If it becomes durable, the lease runs
    /// from then.
    pub(crate) async fn begin_record(&self) -> Result<Option<Duration>, ReadError> {
        match &self.leased {
            Some(leased) => leased.engine.time().await.map(Some),
            None => Ok(None),
        }
    }

    /// A record of the system partition that was begun then is durable, as its newest: nobody takes over for a lease.
    pub(crate) async fn extend(&self, begun: Option<Duration>) {
        let begun = match is_planted(PlantedBug::LeaseFromTheEnd) {
            true => self.begin_record().await.unwrap_or(begun),
            false => begun,
        };
        if let (Some(leased), Some(begun)) = (&self.leased, begun) {
            let mut until = leased.until.lock();
            *until = (*until).max(Some(begun + leased.lease.length));
        }
    }

    /// Nothing is confirmed any more: the next record invites others to take over. `false` when there are no others.
    pub(crate) fn release(&self) -> bool {
        match &self.leased {
            Some(leased) => {
                *leased.until.lock() = None;
                true
            }
            None => false,
        }
    }

    /// The lease, if there is one.
    pub(crate) fn lease(&self) -> Option<LeaderLease> {
        self.leased.as_ref().map(|leased| leased.lease)
    }
}

#[cfg(test)]
mod tests;
