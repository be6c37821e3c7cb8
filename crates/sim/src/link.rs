//! How a process that does not lead hears of the one that does: over a network that delays, loses and breaks off.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use layout::log::Incarnation;
use model::EventBatch;
use parking_lot::Mutex;
use partition::{
    Applied, Authority, Confirmed, Follower, Leader, NotConfirmed, OpenFailure, ReadFailure, Store, Through,
};
use tokio::sync::{Notify, watch};

use crate::process::{Host, Process};
use crate::world::World;

/// How long a question waits for its answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long to wait before the leader is looked for again.
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// Batches in a thousand at which the stream breaks.
const BREAKS: u64 = 20;
/// Batches in a thousand that come twice.
const DOUBLED: u64 = 20;

/// What the leader has sent and the follower has not received.
#[derive(Default)]
struct Wire {
    sent: Mutex<VecDeque<Arc<EventBatch>>>,
    more: Notify,
}

impl Follower for Wire {
    fn published(&self, batch: &Arc<EventBatch>) {
        self.sent.lock().push_back(batch.clone());
        self.more.notify_one();
    }
}

impl Wire {
    async fn next(&self) -> Arc<EventBatch> {
        loop {
            if let Some(batch) = self.sent.lock().pop_front() {
                return batch;
            }
            self.more.notified().await;
        }
    }
}

/// Asks the leader's process.
pub(crate) struct Question {
    pub(crate) host: Host,
    pub(crate) leader: watch::Receiver<Option<Leader>>,
}

impl Question {
    fn leader(&self) -> Option<Process> {
        let incarnation = self.leader.borrow().as_ref()?.incarnation;
        self.host.serving(incarnation)
    }
}

#[async_trait]
impl Authority for Question {
    async fn confirm(&self) -> Result<Confirmed, NotConfirmed> {
        let nobody = || NotConfirmed::NoLeader("simulated: it does not answer".to_owned());
        let leader = self.leader().ok_or_else(nobody)?;
        let world = self.host.world().clone();
        let asked = async {
            self.host.hop().await;
            let answer = self.host.call_on(leader, confirm).await;
            self.host.hop().await;
            answer
        };
        tokio::select! {
            biased;
            answer = asked => answer.unwrap_or_else(|_| Err(nobody())),
            () = world.sleep(PATIENCE) => Err(nobody()),
        }
    }
}

/// What the leader's process does with a question.
async fn confirm(process: Process) -> Result<Confirmed, NotConfirmed> {
    if !*process.store.leading().borrow() {
        return Err(NotConfirmed::NoLeader("it does not lead".to_owned()));
    }
    let partition = &process.store.keys;
    partition.confirm().await?;
    Ok(Confirmed { revision: partition.revision(), compacted: partition.compacted() })
}

/// Feeds a process until it leads, from whoever leads and from the log.
pub(crate) async fn follow(host: Host, store: Store) -> Result<(), OpenFailure> {
    let (mut leading, mut leader) = (store.leading(), store.leader());
    loop {
        if *leading.borrow_and_update() {
            return Ok(());
        }
        let incarnation = leader.borrow_and_update().as_ref().map(|leader| leader.incarnation);
        tokio::select! {
            biased;
            _ = leading.changed() => {}
            _ = leader.changed() => {}
            fed = feed(&host, &store, incarnation) => fed?,
        }
    }
}

/// Until the stream breaks, or what is missing is not to be had any more.
async fn feed(host: &Host, store: &Store, leader: Option<Incarnation>) -> Result<(), OpenFailure> {
    let world: &World = host.world();
    let Some(process) = leader.and_then(|leader| host.serving(leader)) else {
        world.linger(PAUSE_MAX).await;
        return catch_up(host, store, Through::AllButNewest).await;
    };
    host.hop().await;
    let wire = Arc::new(Wire::default());
    let end = wire.clone();
    let following = host.call_on(process, async move |process| process.store.keys.follow(end));
    let Ok(published) = following.await else { return Ok(()) };
    let replica = store.replica();
    catch_up(host, store, Through::Published(published)).await?;
    loop {
        let batch = wire.next().await;
        host.hop().await;
        if world.chance(BREAKS) {
            world.tell(|| "a stream breaks".to_owned());
            return Ok(());
        }
        if world.chance(DOUBLED) {
            replica.apply(batch.clone());
        }
        if replica.apply(batch.clone()) == Applied::Gap {
            catch_up(host, store, Through::Published(batch.after)).await?;
            replica.apply(batch);
        }
    }
}

async fn catch_up(host: &Host, store: &Store, through: Through) -> Result<(), OpenFailure> {
    loop {
        match store.replica().catch_up(through).await {
            Ok(_) => return Ok(()),
            Err(ReadFailure::Unavailable(_)) => host.world().linger(PAUSE_MAX).await,
            Err(failure) => return Err(failure.into()),
        }
    }
}
