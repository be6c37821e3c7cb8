//! The clients: what they ask, and whether what they are told is true.

mod holder;
mod reader;
mod watcher;
mod writer;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::{Key, KeyRange, LeaseId, Txn};
use parking_lot::Mutex;

use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::process::{Broken, Host, Process};
use crate::world::World;

pub(crate) use watcher::watch;

/// What every client has.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) world: World,
    pub(crate) host: Host,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) plan: Arc<Plan>,
    /// Leases that somebody was granted, for all to attach keys to.
    pub(crate) leases: Arc<Mutex<Vec<LeaseId>>>,
    pub(crate) number: u64,
}

/// What a call was answered, and what was known around it.
struct Answered<T> {
    answer: T,
    /// The highest revision that anybody had been told before the call.
    floor: i64,
    begun: Duration,
}

impl Client {
    /// Everything that a client does before it is done.
    pub(crate) async fn live(self, kind: Kind) {
        for number in 0..self.plan.calls {
            self.world.linger(self.plan.pause_max).await;
            match kind {
                Kind::Writer => self.write(number).await,
                Kind::Reader => self.read().await,
                Kind::LeaseHolder => self.hold_lease(number).await,
                Kind::Compactor => self.compact().await,
            }
        }
    }

    /// Asks any process.
    async fn ask<T, F>(&self, work: impl FnOnce(Process) -> F) -> Result<Answered<T>, Broken>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        self.call(self.host.any().await, work).await
    }

    /// Has a process change something that leads or owns keys, or did so until now.
    async fn change<T, F>(&self, work: impl FnOnce(Process) -> F) -> Result<Answered<T>, Broken>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        self.call(self.host.any_owner().await, work).await
    }

    /// As [`Client::change`], of the process that owns the keys of `txn`.
    async fn change_at_owner<T, F>(
        &self,
        txn: &Txn,
        work: impl FnOnce(Process) -> F,
    ) -> Result<Answered<T>, Broken>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        self.call(self.host.owner_of(txn).await, work).await
    }

    async fn call<T, F>(
        &self,
        process: Process,
        work: impl FnOnce(Process) -> F,
    ) -> Result<Answered<T>, Broken>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let begun = base::Clock::now(&self.world);
        let floor = self.oracle.known().told;
        let answer = self.host.call_on(process, work).await?;
        Ok(Answered { answer, floor, begun })
    }

    fn key(&self) -> Key {
        let &bytes = self.world.pick(&self.plan.keys);
        // No key of a plan is empty.
        Key::new(Bytes::from_static(bytes)).unwrap_or_else(|_| unreachable!("a key of no bytes"))
    }

    fn range(&self) -> KeyRange {
        let (start, end) = (self.key(), self.key());
        match self.world.below(4) {
            0 => KeyRange::all(),
            1 => KeyRange::from(&start),
            2 => KeyRange::between(&start, end.bytes().clone()),
            _ => KeyRange::single(&start),
        }
    }
}

/// What a client is there for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Writer,
    Reader,
    LeaseHolder,
    Compactor,
}
