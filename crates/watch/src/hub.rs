use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use model::{EventBatch, KeyRange, Revision};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::groups::{Groups, Place};
use crate::watcher::{Filter, Inbox, WatchId};

/// Hands published events to the watchers that keep up.
#[derive(Debug)]
pub struct Hub {
    /// Every event at or below this revision has been handed out. Moves under the lock of `members`, after the
    /// events.
    position: AtomicI64,
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    groups: Groups,
    seats: Vec<Option<Arc<Member>>>,
    free: Vec<Place>,
}

/// A watcher that keeps up: it is handed the events of its range as they are published.
#[derive(Debug)]
pub(crate) struct Member {
    id: WatchId,
    filter: Filter,
    pub(crate) inbox: Mutex<Inbox>,
    signal: Arc<Signal>,
}

/// How the hub wakes a session.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    /// The watchers that were handed something since the session looked last.
    ready: Mutex<Vec<WatchId>>,
    notify: Notify,
}

/// A watcher that wants to join the hub.
pub(crate) struct Joining<'a> {
    pub(crate) id: WatchId,
    pub(crate) range: &'a KeyRange,
    pub(crate) filter: Filter,
    pub(crate) signal: &'a Arc<Signal>,
}

impl Signal {
    pub(crate) fn take_ready(&self) -> Vec<WatchId> {
        std::mem::take(&mut self.ready.lock())
    }

    /// Completes when a watcher was handed something since the last time.
    pub(crate) async fn notified(&self) {
        self.notify.notified().await;
    }
}

impl Hub {
    /// A hub that has handed out everything at or below `position`.
    pub fn new(position: Revision) -> Hub {
        Hub { position: AtomicI64::new(position.get()), members: Mutex::default() }
    }

    /// Every event at or below this revision has been handed out.
    pub fn position(&self) -> Revision {
        Revision::new(self.position.load(Ordering::Acquire))
    }

    /// Moves the position of a hub that nobody watches yet on to where its batches begin.
    pub fn start_at(&self, position: Revision) {
        let _no_batch_meanwhile = self.members.lock();
        self.position.fetch_max(position.get(), Ordering::AcqRel);
    }

    /// How many watchers keep up.
    pub fn member_count(&self) -> usize {
        let members = self.members.lock();
        members.seats.len() - members.free.len()
    }

    /// Hands out the events of the next batch. A batch that was handed out already is left alone.
    pub fn publish(&self, batch: &EventBatch) {
        let members = self.members.lock();
        if batch.revision <= self.position() {
            return;
        }
        let mut touched: Vec<Arc<Member>> = Vec::new();
        for event in &batch.events {
            members.groups.visit(event.change.key.as_slice(), |place| {
                let Some(Some(member)) = members.seats.get(place) else { return };
                if !member.filter.admits(event) {
                    return;
                }
                let mut inbox = member.inbox.lock();
                if inbox.hand(event) && !inbox.announced {
                    inbox.announced = true;
                    touched.push(member.clone());
                }
            });
        }
        // Moved before sessions are woken, so that they find whole revisions.
        self.position.store(batch.revision.get(), Ordering::Release);
        for member in touched {
            member.signal.ready.lock().push(member.id);
            member.signal.notify.notify_one();
        }
        drop(members);
    }

    /// The position, once everybody whom it concerns has been told: a session that then finds none of its watchers
    /// ready has sent everything at or below it.
    pub(crate) fn settled_position(&self) -> Revision {
        let _told = self.members.lock();
        self.position()
    }

    /// Lets a watcher join that has everything before `next`, unless something at or above `next` was handed out
    /// already; then it has to read that first.
    pub(crate) fn join(&self, joining: &Joining<'_>, next: Revision) -> Option<(Place, Arc<Member>)> {
        let mut members = self.members.lock();
        (self.position() < next).then(|| members.seat(joining, next))
    }

    /// Lets a watcher join that wants what happens from now on. Returns the revision after which that is.
    pub(crate) fn join_now(&self, joining: &Joining<'_>) -> (Revision, Place, Arc<Member>) {
        let mut members = self.members.lock();
        let position = self.position();
        let (place, member) = members.seat(joining, position.next());
        (position, place, member)
    }

    pub(crate) fn leave(&self, range: &KeyRange, place: Place) {
        let mut members = self.members.lock();
        members.groups.remove(range, place);
        if let Some(seat) = members.seats.get_mut(place) {
            *seat = None;
            members.free.push(place);
        }
    }
}

impl Members {
    fn seat(&mut self, joining: &Joining<'_>, from: Revision) -> (Place, Arc<Member>) {
        let member = Arc::new(Member {
            id: joining.id,
            filter: joining.filter,
            inbox: Mutex::new(Inbox::new(from)),
            signal: joining.signal.clone(),
        });
        let place = self.free.pop().unwrap_or(self.seats.len());
        match self.seats.get_mut(place) {
            Some(seat) => *seat = Some(member.clone()),
            None => self.seats.push(Some(member.clone())),
        }
        self.groups.add(joining.range, place);
        (place, member)
    }
}
