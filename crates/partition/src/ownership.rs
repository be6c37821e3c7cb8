//! Partitions that this process owns for another one that leads.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use base::TaskKind;
use layout::log::Slot;
use model::{LeaseId, Revision};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tracing::info;

use crate::asking::{Asking, Line};
use crate::assignment::{FromOwner, Tenure, ToOwner};
use crate::desk::Shifts;
use crate::open::Opening;
use crate::replica::Replica;
use crate::sequencer::{Command, Detached, Reply, Sequencer};
use crate::shared_log::SharedLog;
use crate::source::Source;
use crate::state::Shared;

/// What a process needs to own partitions. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Ownership {
    pub(crate) opening: Arc<Opening>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) replica: Replica,
    /// In the order of the partitions.
    pub(crate) desks: Arc<[Desk]>,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) owned: Arc<Owned>,
}

/// Where the transactions of a partition arrive.
pub(crate) struct Desk {
    pub(crate) shifts: Shifts,
    /// Weak, because the tasks end when nobody else can ask any more.
    pub(crate) commands: mpsc::WeakSender<Command>,
}

/// Which partitions are owned, or about to be.
#[derive(Debug)]
pub(crate) struct Owned {
    state: watch::Sender<State>,
}

#[derive(Debug, Default)]
struct State {
    /// No further ones are taken.
    closed: bool,
    /// How many tenures are not over.
    tenures: usize,
    /// The places of the partitions that are owned.
    owned: BTreeSet<usize>,
}

impl Default for Owned {
    fn default() -> Owned {
        Owned { state: watch::Sender::new(State::default()) }
    }
}

impl Owned {
    /// Whether this process owns the partition at this place for another one that leads.
    pub(crate) fn has(&self, place: usize) -> bool {
        self.state.borrow().owned.contains(&place)
    }

    /// How many partitions this process owns for another one that leads.
    pub(crate) fn count(&self) -> usize {
        self.state.borrow().owned.len()
    }

    /// Completes when nothing is owned any more, nor will be until [`Owned::reopen`].
    pub(crate) async fn close(&self) {
        self.state.send_modify(|state| state.closed = true);
        // The sender lives as long as this does.
        let _ = self.state.subscribe().wait_for(|state| state.tenures == 0).await;
    }

    /// Partitions are taken again.
    pub(crate) fn reopen(&self) {
        self.state.send_modify(|state| state.closed = false);
    }

    fn enter(&self) -> bool {
        self.state.send_if_modified(|state| {
            let enters = !state.closed;
            state.tenures += usize::from(enters);
            enters
        })
    }

    fn leave(&self) {
        self.state.send_modify(|state| state.tenures -= 1);
    }

    fn set(&self, place: usize, is_owned: bool) {
        self.state.send_modify(|state| {
            match is_owned {
                true => state.owned.insert(place),
                false => state.owned.remove(&place),
            };
        });
    }

    async fn closed(&self) {
        let _ = self.state.subscribe().wait_for(|state| state.closed).await;
    }
}

/// The tenures that go over one line, and how to end each.
type Recalls = Arc<Mutex<BTreeMap<Tenure, watch::Sender<bool>>>>;

fn recall_all(recalls: &Recalls) {
    for recall in recalls.lock().values() {
        recall.send_replace(true);
    }
}

impl Ownership {
    /// Owns what the leader assigns, until it says nothing more: `from_leader` ends; or until this process is to stop. Then
    /// everything is given back in order, and `from_leader` has to be brought until this returns.
    pub(crate) async fn run(
        &self,
        mut from_leader: mpsc::UnboundedReceiver<ToOwner>,
        to_leader: mpsc::UnboundedSender<FromOwner>,
    ) {
        let line = Arc::new(Line::new(to_leader));
        let recalls = Recalls::default();
        let (alive, mut all_over) = mpsc::channel::<Infallible>(1);
        let (unsettled, mut all_settled) = mpsc::channel::<Infallible>(1);
        // Taken away when no more tenures begin, and when none is left.
        let (mut alive, mut unsettled) = (Some(alive), Some(unsettled));
        let stopping = self.opening.world.supervisor.shutdown().clone();
        loop {
            let message = tokio::select! {
                biased;
                () = self.owned.closed() => break,
                () = stopping.begun(), if alive.is_some() => {
                    alive = None;
                    recall_all(&recalls);
                    continue;
                }
                // Nothing is ever sent: it ends with the last tenure, and then with the last answer to a client.
                _ = all_over.recv(), if alive.is_none() && unsettled.is_some() => {
                    unsettled = None;
                    continue;
                }
                _ = all_settled.recv(), if unsettled.is_none() => break,
                message = from_leader.recv() => message,
            };
            match message {
                None => break,
                Some(ToOwner::Assign(tenure, slot, revision)) => {
                    let Some((alive, unsettled)) = alive.clone().zip(unsettled.clone()) else {
                        line.say(FromOwner::Released(tenure));
                        continue;
                    };
                    let (recall, recalled) = watch::channel(false);
                    recalls.lock().insert(tenure, recall);
                    let ownership = self.clone();
                    let (line, recalls) = (line.clone(), recalls.clone());
                    let spawn = &self.opening.world.supervisor;
                    spawn.spawn("tenure", TaskKind::Request, async move {
                        let asking = ownership.asking(tenure, line.clone(), (recalled, unsettled));
                        ownership.tenure(asking, (slot, revision)).await;
                        recalls.lock().remove(&tenure);
                        line.say(FromOwner::Released(tenure));
                        drop(alive);
                        Ok::<(), Infallible>(())
                    });
                }
                Some(ToOwner::Recall(tenure)) => {
                    if let Some(recall) = recalls.lock().get(&tenure) {
                        recall.send_replace(true);
                    }
                }
                Some(ToOwner::Granted(_, request, granted)) => line.granted(request, granted),
                Some(ToOwner::Settled(_, request)) => line.settled(request),
                Some(ToOwner::DeleteAttached(tenure, request, lease, count)) => {
                    let (ownership, line) = (self.clone(), line.clone());
                    let spawn = &self.opening.world.supervisor;
                    spawn.spawn("lease keys", TaskKind::Request, async move {
                        let detached = ownership.delete_attached(tenure, lease, count).await;
                        line.say(FromOwner::Detached(tenure, request, detached));
                        Ok::<(), Infallible>(())
                    });
                }
            }
        }
        line.end();
        recall_all(&recalls);
        drop(alive);
        let _ = all_over.recv().await;
    }

    fn asking(
        &self,
        tenure: Tenure,
        line: Arc<Line>,
        (recalled, unsettled): (watch::Receiver<bool>, mpsc::Sender<Infallible>),
    ) -> Asking {
        let world = &self.opening.world;
        let (clock, supervisor) = (world.clock.clone(), world.supervisor.clone());
        Asking { tenure, line, recalled, unsettled, shared: self.shared.clone(), clock, supervisor }
    }

    /// Owns a partition until it is recalled or lost.
    async fn tenure(&self, asking: Asking, from: (Slot, Revision)) {
        if !self.owned.enter() {
            return;
        }
        let end = self.own(asking.clone(), from).await;
        self.owned.leave();
        let Tenure { partition, epoch } = asking.tenure;
        match end {
            Ok(()) => info!(partition = partition.0, epoch = epoch.0, "a partition is given back"),
            Err(reason) => {
                info!(partition = partition.0, epoch = epoch.0, reason, "a partition is not owned")
            }
        }
    }

    async fn own(&self, asking: Asking, (slot, revision): (Slot, Revision)) -> Result<(), String> {
        let Tenure { partition, epoch } = asking.tenure;
        let place = self.shared.map.ids().position(|id| id == partition);
        let place = place.ok_or_else(|| "there is no such partition".to_owned())?;
        let desk = self.desks.get(place).ok_or_else(|| "there is no such partition".to_owned())?;
        // All that others have done to the partition has to be in the index.
        let arrived = tokio::select! {
            biased;
            () = asking.recalled() => return Err("it is recalled already".to_owned()),
            arrived = self.shared.arrived(revision, self.opening.world.clock.as_ref()) => arrived,
        };
        if !arrived || self.replica.is_behind() {
            return Err("what came before has not arrived in time".to_owned());
        }
        let taken = self.opening.take_up(partition, slot, epoch).await.map_err(|error| error.to_string())?;
        info!(partition = partition.0, epoch = epoch.0, "this server owns a partition");
        asking.line.say(FromOwner::Owns(asking.tenure));
        let sequencer = Sequencer {
            shared: self.shared.clone(),
            source: Source::Leader(asking),
            logs: vec![SharedLog::new(self.opening.pen(partition, &taken))],
            first_place: place,
            newest: revision,
        };
        self.owned.set(place, true);
        let end = desk.shifts.own(sequencer).await;
        self.owned.set(place, false);
        end.map_err(|lost| lost.reason)
    }

    async fn delete_attached(
        &self,
        tenure: Tenure,
        lease: LeaseId,
        count: usize,
    ) -> Result<Detached, String> {
        let gone = || "the partition is owned no more".to_owned();
        let place = self.shared.map.ids().position(|id| id == tenure.partition).ok_or_else(gone)?;
        let commands = self.desks.get(place).and_then(|desk| desk.commands.upgrade()).ok_or_else(gone)?;
        let room = self.room.clone().acquire_owned().await.map_err(|_| gone())?;
        let (to, answer) = oneshot::channel();
        let reply = Reply { to, room, weight_bytes: 0, traced: None };
        commands.send(Command::DeleteAttached(lease, count, reply)).await.map_err(|_| gone())?;
        drop(commands);
        let answer = answer.await.map_err(|_| gone())?;
        answer.map_err(|failure| failure.to_string())
    }
}
