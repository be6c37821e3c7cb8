//! How a process that does not lead hears of the one that does: over a network that delays, loses and breaks off.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::Shutdown;
use layout::log::Incarnation;
use model::EventBatch;
use parking_lot::Mutex;
use partition::{
    Applied, Assignments, Authority, Confirmed, Follower, Leader, NotConfirmed, OpenFailure, ReadFailure,
    Store, Through,
};
use tokio::sync::{Notify, mpsc, watch};

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

/// Messages in a thousand at which the line between a leader and an owner breaks.
const LINE_BREAKS: u64 = 10;
/// How long a partition stays with one owner at most, before somebody gives it to another one.
const SHUFFLE_AFTER_MAX: Duration = Duration::from_millis(500);

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
            replica.apply(batch.clone()).await;
        }
        if replica.apply(batch.clone()).await == Applied::Gap {
            catch_up(host, store, Through::Published(batch.after)).await?;
            replica.apply(batch).await;
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

/// Has a process own partitions for whoever leads, until it leads or stops.
pub(crate) async fn own(host: Host, store: Store, shutdown: Shutdown) -> Result<(), Infallible> {
    let (mut leading, mut leader) = (store.leading(), store.leader());
    while !*leading.borrow_and_update() && !shutdown.has_begun() {
        let incarnation = leader.borrow_and_update().as_ref().map(|leader| leader.incarnation);
        if let Some(process) = incarnation.and_then(|leader| host.serving(leader)) {
            let over = async {
                tokio::select! {
                    biased;
                    _ = leading.changed() => {}
                    _ = leader.changed() => {}
                }
            };
            own_for(&host, &store, process, over).await;
        }
        host.world().linger(PAUSE_MAX).await;
    }
    Ok(())
}

/// Owns what this leader assigns, until the line breaks or it is `over`, or all is given back because the process stops.
async fn own_for(host: &Host, store: &Store, leader: Process, over: impl Future<Output = ()>) {
    let (to_owner, from_leader) = mpsc::unbounded_channel();
    let (to_leader, mut from_owner) = mpsc::unbounded_channel();
    let (to_serve, served) = mpsc::unbounded_channel();
    let (serving, mut to_send) = mpsc::unbounded_channel();
    let (member, incarnation) = (store.incarnation, leader.store.incarnation);
    let assignments = leader.store.assignments().clone();
    let serve = async move |process: Process| {
        let assignments = process.store.assignments().clone();
        drop(process);
        assignments.serve(member, served, serving).await;
    };
    let carry = async {
        let world = host.world();
        let up = async {
            while let Some(message) = from_owner.recv().await {
                host.hop().await;
                if world.chance(LINE_BREAKS) || to_serve.send(message).is_err() {
                    break;
                }
            }
        };
        let down = async {
            while let Some(message) = to_send.recv().await {
                host.hop().await;
                if world.chance(LINE_BREAKS) || to_owner.send(message).is_err() {
                    break;
                }
            }
        };
        let serves = host.call_on(leader, serve);
        tokio::select! {
            biased;
            () = over => {}
            () = up => {}
            () = down => {}
            _ = serves => {}
            () = shuffle(host, &assignments, (incarnation, member)) => {}
        }
        world.tell(|| "an owner's line ends".to_owned());
        // Both ends see that nothing more comes.
        drop((to_owner, to_serve));
    };
    tokio::join!(store.own(from_leader, to_leader), carry);
}

/// Gives partitions away and back, as long as the leader is there.
async fn shuffle(host: &Host, assignments: &Assignments, (leader, member): (Incarnation, Incarnation)) {
    let world = host.world();
    while host.serving(leader).is_some() {
        let count = assignments.owners().borrow().len();
        let place = world.below(count as u64) as usize;
        let owner = world.chance(900).then_some(member);
        assignments.assign(place, owner);
        world.linger(SHUFFLE_AFTER_MAX).await;
    }
}
