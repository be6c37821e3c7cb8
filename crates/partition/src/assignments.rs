//! The leader's side of owners beside it: which process owns which partition, and what each has on its way.
//!
//! While another process owns a partition, the leader's own hold on its log is kept by the task of that tenure: whoever in
//! this process wants the log waits for it, and has it recalled that way.

mod tenure;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use base::TaskKind;
use layout::log::{Epoch, Incarnation};
use model::LeaseId;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::info;

use crate::assignment::{FromOwner, Tenure, ToOwner};
use crate::evaluate::Leases;
use crate::leadership::Leadership;
use crate::numbering::Numbering;
use crate::open::Opening;
use crate::sequencer::Detached;
use crate::shared_log::SharedLog;
use crate::state::Shared;
use tenure::Assigned;

/// The owner of each partition, by its place; none where that is the leader.
pub type Owners = Arc<[Option<Incarnation>]>;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Assignments {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    /// Set when this process leads.
    office: OnceLock<Office>,
    owners: watch::Sender<Owners>,
    places: Vec<Mutex<Place>>,
    members: Mutex<BTreeMap<u128, Member>>,
}

/// What a leader has.
pub(crate) struct Office {
    pub(crate) opening: Arc<Opening>,
    pub(crate) term: Epoch,
    pub(crate) numbering: Arc<Numbering>,
    pub(crate) leadership: Leadership,
    pub(crate) leases: Arc<dyn Leases>,
    pub(crate) logs: Vec<SharedLog>,
}

/// What is known of a partition.
#[derive(Default)]
struct Place {
    /// How often it has changed hands in this term.
    hands: u32,
    /// How often it was fetched back because somebody needed it together with others.
    fetched: u32,
    /// Who owns it, or is about to.
    tenure: Option<Held>,
}

struct Held {
    member: Incarnation,
    recall: watch::Sender<bool>,
    asked: u64,
    detaching: BTreeMap<u64, oneshot::Sender<Result<Detached, String>>>,
    tenure: Tenure,
}

/// A process that can own partitions.
#[derive(Clone)]
struct Member {
    /// No bound of its own: all that is in here answers a question, of which each tenure has one at a time, or is one of
    /// few words about a tenure.
    line: mpsc::UnboundedSender<ToOwner>,
    tenures: Arc<Mutex<BTreeMap<Tenure, mpsc::UnboundedSender<FromOwner>>>>,
}

impl Assignments {
    pub(crate) fn new(shared: Arc<Shared>) -> Assignments {
        let count = shared.map.count();
        let inner = Inner {
            owners: watch::Sender::new(std::iter::repeat_n(None, count).collect()),
            places: std::iter::repeat_with(Mutex::default).take(count).collect(),
            office: OnceLock::new(),
            members: Mutex::default(),
            shared,
        };
        Assignments { inner: Arc::new(inner) }
    }

    /// This process leads from now on.
    pub(crate) fn lead(&self, office: Office) {
        let _ = self.inner.office.set(office);
    }

    /// Who owns what, as it changes; only a leader knows.
    pub fn owners(&self) -> watch::Receiver<Owners> {
        self.inner.owners.subscribe()
    }

    /// The processes that can own partitions now, beside the leader.
    pub fn members(&self) -> Vec<Incarnation> {
        self.inner.members.lock().keys().map(|&member| Incarnation(member)).collect()
    }

    /// Serves a process that can own partitions, until it says nothing more: `from_member` ends. What it owned is taken
    /// back then.
    pub async fn serve(
        &self,
        member: Incarnation,
        mut from_member: mpsc::UnboundedReceiver<FromOwner>,
        to_member: mpsc::UnboundedSender<ToOwner>,
    ) {
        let line = Member { line: to_member, tenures: Arc::default() };
        self.inner.members.lock().insert(member.0, line.clone());
        while let Some(message) = from_member.recv().await {
            let of_tenure = line.tenures.lock().get(&message.tenure()).cloned();
            match of_tenure {
                // A task that has just ended does not listen any more: nor does the tenure go on.
                Some(of_tenure) => drop(of_tenure.send(message)),
                None => line.answer_too_late(&message),
            }
        }
        let mut members = self.inner.members.lock();
        if members.get(&member.0).is_some_and(|now| now.line.same_channel(&line.line)) {
            members.remove(&member.0);
        }
        // Each tenure's task sees the end of what it listens to.
        line.tenures.lock().clear();
    }

    /// Gives the partition at `place` to a process that can own it; to the leader for `None`. `false` when this process
    /// does not lead, or the other one cannot own anything now. The partition is on its way when this returns.
    pub fn assign(&self, place: usize, owner: Option<Incarnation>) -> bool {
        let Some((office, known)) = self.inner.office.get().zip(self.inner.places.get(place)) else {
            return false;
        };
        let mut known = known.lock();
        if let Some(held) = &known.tenure {
            let stays = owner == Some(held.member);
            if !stays {
                held.recall.send_replace(true);
            }
            // Back at the leader first.
            return stays || owner.is_none();
        }
        let Some(owner) = owner else { return true };
        let Some(member) = self.inner.members.lock().get(&owner.0).cloned() else { return false };
        let Some(partition) = self.inner.shared.map.id(place) else { return false };
        let Some(epoch) = known.next_epoch(office.term) else { return false };
        let tenure = Tenure { partition, epoch };
        let (recall, recalled) = watch::channel(false);
        known.tenure = Some(Held { member: owner, recall, asked: 0, detaching: BTreeMap::new(), tenure });
        drop(known);
        let (to_tenure, heard) = mpsc::unbounded_channel();
        member.tenures.lock().insert(tenure, to_tenure);
        let assigned = Assigned { assignments: self.clone(), place, owner, tenure, member, heard, recalled };
        office.opening.world.supervisor.spawn("assignment", TaskKind::Essential, assigned.run());
        true
    }

    /// Who owns the partition at `place` now; none for the leader, and while it changes hands.
    pub fn owner_of(&self, place: usize) -> Option<Incarnation> {
        self.inner.owners.borrow().get(place).copied().flatten()
    }

    /// How often the partition at `place` was fetched back, because a transaction needed it together with others.
    pub fn fetched(&self, place: usize) -> u32 {
        self.inner.places.get(place).map_or(0, |place| place.lock().fetched)
    }

    /// Deletes keys that hang on a lease where another process owns the partition; `None` when this one does.
    pub(crate) async fn delete_attached(
        &self,
        place: usize,
        lease: LeaseId,
        count: usize,
    ) -> Option<Result<Detached, String>> {
        self.owner_of(place)?;
        let (answer, answered) = oneshot::channel();
        {
            let mut known = self.inner.places.get(place)?.lock();
            let held = known.tenure.as_mut()?;
            held.asked += 1;
            held.detaching.insert(held.asked, answer);
            let member = self.inner.members.lock().get(&held.member.0)?.clone();
            let _ = member.line.send(ToOwner::DeleteAttached(held.tenure, held.asked, lease, count));
        }
        Some(answered.await.unwrap_or_else(|_| Err("the partition has changed hands".to_owned())))
    }

    fn set_owner(&self, place: usize, owner: Option<Incarnation>) {
        let who = owner.map_or_else(|| "the leader".to_owned(), |owner| format!("{:032x}", owner.0));
        info!(place, owner = who, "a partition has changed hands");
        self.inner.owners.send_modify(|owners| {
            let changed = owners.iter().enumerate();
            *owners = changed.map(|(at, &before)| if at == place { owner } else { before }).collect();
        });
    }

    fn office(&self) -> Option<&Office> {
        self.inner.office.get()
    }
}

impl Place {
    fn next_epoch(&mut self, term: Epoch) -> Option<Epoch> {
        self.hands += 1;
        Epoch::in_term(term, self.hands)
    }
}

impl Member {
    /// The tenure is over: whoever waits for an answer gets none.
    fn answer_too_late(&self, message: &FromOwner) {
        if let FromOwner::Take(tenure, request, ..) = message {
            let over = Err("the partition belongs to another server by now".to_owned());
            let _ = self.line.send(ToOwner::Granted(*tenure, *request, over));
        }
    }

    fn end(&self, tenure: &Tenure) {
        self.tenures.lock().remove(tenure);
    }
}
