use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use base::{PlantedBug, is_planted};
use bytes::Bytes;
use model::{Event, Revision};
use thiserror::Error;

use crate::groups::Place;
use crate::history::{History, HistoryError};
use crate::hub::{Hub, Joining, Member, Signal};
use crate::watcher::{Request, WatchId};

/// A response ends at the first revision that brings its events to this many bytes: large enough that a client that
/// catches up is not slowed down by headers, small enough that many streams fit in memory.
const UPDATE_BYTES_MAX: usize = 1 << 20;

/// One client's stream: its watchers, and what to send next.
///
/// Bounds: the client's requests bound the number of watchers; each holds at most a few hundred references to
/// shared events; one update is put together at a time.
pub struct Session {
    hub: Arc<Hub>,
    history: Arc<dyn History>,
    signal: Arc<Signal>,
    watchers: HashMap<WatchId, Watcher>,
    next_id: i64,
    /// Watchers that were handed something.
    ready: VecDeque<WatchId>,
    /// Watchers that read history, in turn.
    behind: VecDeque<WatchId>,
    /// Watchers whose turn it is to say how far they are.
    due: VecDeque<WatchId>,
    /// The client asked how far all of them are.
    progress_wanted: bool,
    /// What is being put together; it survives when the future of `next` is dropped.
    staged: Option<Staged>,
    /// Whose turn it was last, of those who keep up and those who read history.
    history_had_turn: bool,
}

struct Watcher {
    request: Request,
    phase: Phase,
    /// Something was sent for it since the last tick.
    told: bool,
    /// It began at this compacted revision and wants previous values: those at that very revision lie in the past
    /// that was given up.
    began_compacted: Option<Revision>,
}

enum Phase {
    /// It is handed what is published.
    Keeping { place: Place, member: Arc<Member> },
    /// It reads history from this revision on.
    Behind { next: Revision },
}

struct Staged {
    id: WatchId,
    events: Vec<Arc<Event>>,
    /// What the header says: every event of the watcher at or below it has been sent with this update.
    revision: Revision,
}

/// A new watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Its number on the stream.
    pub id: WatchId,
    /// The store's revision when it began; one without a start gets everything above.
    pub revision: Revision,
}

/// Why a watcher was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Its range can hold no key.
    #[error("mvcc: watcher range is empty")]
    EmptyRange,
    /// The number that the client chose is taken.
    #[error("mvcc: duplicate watch ID provided on the WatchStream")]
    DuplicateId,
}

/// What to send next.
#[derive(Debug)]
pub enum Update {
    /// Events of a watcher, each with the version replaced where that was asked for and existed. Those of one
    /// revision are never split over two updates.
    Events {
        /// The watcher.
        id: WatchId,
        /// The events, in the order of revisions.
        events: Vec<(Arc<Event>, Option<Bytes>)>,
        /// The header's revision.
        revision: Revision,
    },
    /// Every event at or below the revision has been sent: for one watcher, or for all of the stream.
    Progress {
        /// The watcher, or all.
        id: Option<WatchId>,
        /// The revision.
        revision: Revision,
    },
    /// The watcher asked for events that were compacted; it is gone.
    Compacted {
        /// The watcher.
        id: WatchId,
        /// The oldest revision that it could begin at instead.
        compacted: Revision,
        /// The header's revision.
        revision: Revision,
    },
}

impl Session {
    /// A stream without watchers.
    pub fn new(hub: Arc<Hub>, history: Arc<dyn History>) -> Session {
        Session {
            hub,
            history,
            signal: Arc::default(),
            watchers: HashMap::new(),
            next_id: 0,
            ready: VecDeque::new(),
            behind: VecDeque::new(),
            due: VecDeque::new(),
            progress_wanted: false,
            staged: None,
            history_had_turn: false,
        }
    }

    /// The revision up to which everything was handed out: what a header says when nothing else is known.
    pub fn revision(&self) -> Revision {
        self.hub.position()
    }

    /// How many watchers there are.
    pub fn len(&self) -> usize {
        self.watchers.len()
    }

    /// Whether there are no watchers.
    pub fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    /// How many watchers read history: those that do not keep up, and those that began in the past.
    pub fn behind_count(&self) -> usize {
        self.behind.len()
    }

    /// Adds a watcher.
    pub fn watch(&mut self, request: Request) -> Result<Watched, Refusal> {
        if request.range.is_empty() {
            return Err(Refusal::EmptyRange);
        }
        let id = self.choose_id(request.id)?;
        let joining = Joining { id, range: &request.range, filter: request.filter, signal: &self.signal };
        let (revision, phase) = match request.start {
            None => {
                let (position, place, member) = self.hub.join_now(&joining);
                (position, Phase::Keeping { place, member })
            }
            Some(start) => {
                let phase = match self.hub.join(&joining, start) {
                    Some((place, member)) => Phase::Keeping { place, member },
                    None => Phase::Behind { next: start },
                };
                (self.hub.position(), phase)
            }
        };
        if let Phase::Behind { .. } = phase {
            self.behind.push_back(id);
        }
        let began_compacted =
            request.start.filter(|_| request.previous && request.start == self.history.compacted());
        self.watchers.insert(id, Watcher { request, phase, told: false, began_compacted });
        Ok(Watched { id, revision })
    }

    /// Ends a watcher. `false` when there is none with this number.
    pub fn cancel(&mut self, id: WatchId) -> bool {
        let Some(watcher) = self.watchers.remove(&id) else { return false };
        if let Phase::Keeping { place, .. } = watcher.phase {
            self.hub.leave(&watcher.request.range, place);
        }
        for queue in [&mut self.ready, &mut self.behind, &mut self.due] {
            queue.retain(|&other| other != id);
        }
        if self.staged.as_ref().is_some_and(|staged| staged.id == id) {
            self.staged = None;
        }
        true
    }

    /// The client asks how far the whole stream is; it is told as soon as there is something true to say.
    pub fn request_progress(&mut self) {
        self.progress_wanted = true;
    }

    /// The interval of progress notifications has passed: watchers that want them and were told nothing since the
    /// last tick are to say how far they are.
    pub fn tick(&mut self) {
        self.due.clear();
        for (&id, watcher) in &mut self.watchers {
            if watcher.request.progress && !watcher.told {
                self.due.push_back(id);
            }
            watcher.told = false;
        }
        // The map has no order, and what a stream says must not depend on chance.
        self.due.make_contiguous().sort_unstable();
    }

    /// What to send next; waits until there is something.
    ///
    /// Cancel-safety: nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Update, HistoryError> {
        loop {
            if let Some(update) = self.finish_staged().await? {
                return Ok(update);
            }
            self.ready.extend(self.signal.take_ready());
            if is_planted(PlantedBug::ProgressBeforeEvent)
                && let Some(update) = self.progress()
            {
                return Ok(update);
            }
            let history_first = !self.history_had_turn && !self.behind.is_empty();
            if !self.ready.is_empty() && !history_first {
                self.history_had_turn = false;
                self.stage_ready();
            } else if !self.behind.is_empty() {
                if let Some(update) = self.stage_history().await? {
                    return Ok(update);
                }
                self.history_had_turn = true;
            } else if let Some(update) = self.progress() {
                return Ok(update);
            } else if self.ready.is_empty() {
                self.signal.notified().await;
            }
        }
    }

    fn choose_id(&mut self, wanted: Option<WatchId>) -> Result<WatchId, Refusal> {
        match wanted {
            Some(id) if self.watchers.contains_key(&id) => Err(Refusal::DuplicateId),
            Some(id) => Ok(id),
            None => {
                while self.watchers.contains_key(&WatchId(self.next_id)) {
                    self.next_id += 1;
                }
                self.next_id += 1;
                Ok(WatchId(self.next_id - 1))
            }
        }
    }

    /// Adds what is missing to the staged update, and gives it out.
    async fn finish_staged(&mut self) -> Result<Option<Update>, HistoryError> {
        let Some(staged) = &self.staged else { return Ok(None) };
        let id = staged.id;
        let watcher = self.watchers.get(&id);
        let wants_previous = watcher.is_some_and(|watcher| watcher.request.previous);
        let began_compacted = watcher.and_then(|watcher| watcher.began_compacted);
        let mut events = Vec::with_capacity(staged.events.len());
        for event in &staged.events {
            let change = &event.change;
            // Kubernetes' own tests want an error here, and etcd sends the event without its previous value, which
            // is one for kube-apiserver. The next revision is the first that this watcher can have whole.
            if began_compacted == Some(change.revision) && !change.previous.is_none() {
                let whole_from = change.revision.next();
                return Ok(Some(self.compacted(id, whole_from)));
            }
            let previous = match wants_previous {
                // What was looked up is remembered by the event, so that a dropped future costs no look-up twice.
                true => match self.history.previous(event).await {
                    Ok(previous) => previous,
                    Err(HistoryError::Compacted(compacted)) => {
                        return Ok(Some(self.compacted(id, compacted)));
                    }
                    Err(error) => return Err(error),
                },
                false => None,
            };
            events.push((event.clone(), previous));
        }
        let revision = staged.revision;
        self.staged = None;
        if let Some(watcher) = self.watchers.get_mut(&id) {
            watcher.told = true;
        }
        Ok(Some(Update::Events { id, events, revision }))
    }

    /// Stages what the next ready watcher was handed.
    fn stage_ready(&mut self) {
        let Some(id) = self.ready.pop_front() else { return };
        let Some(watcher) = self.watchers.get_mut(&id) else { return };
        let Phase::Keeping { place, member } = &watcher.phase else { return };
        // Above the position a revision may be here in part.
        let position = self.hub.position();
        let mut inbox = member.inbox.lock();
        let mut events: Vec<Arc<Event>> = Vec::new();
        let mut bytes = 0;
        while let Some(event) = inbox.peek(position) {
            let revision = event.change.revision;
            let new_revision = events.last().is_none_or(|last| last.change.revision != revision);
            if new_revision && bytes >= UPDATE_BYTES_MAX {
                break;
            }
            bytes += event.key_value.len();
            events.extend(inbox.take());
        }
        let drained = inbox.is_empty();
        if drained && let Some(next) = inbox.lagging {
            drop(inbox);
            self.hub.leave(&watcher.request.range, *place);
            watcher.phase = Phase::Behind { next };
            self.behind.push_back(id);
        } else if drained {
            inbox.announced = false;
        } else {
            drop(inbox);
            self.ready.push_back(id);
        }
        if let Some(last) = events.last() {
            let revision = last.change.revision;
            self.staged = Some(Staged { id, events, revision });
        }
    }

    /// Reads the next part of history for the watcher whose turn it is.
    async fn stage_history(&mut self) -> Result<Option<Update>, HistoryError> {
        let Some(&id) = self.behind.front() else { return Ok(None) };
        let Some(Watcher { request, phase: Phase::Behind { next }, .. }) = self.watchers.get(&id) else {
            self.behind.pop_front();
            return Ok(None);
        };
        let next = *next;
        // Who starts in what was given up is refused even where memory still has it, as on every other frontend.
        let starts = request.start == Some(next);
        if let Some(compacted) = self.history.compacted().filter(|&compacted| starts && next < compacted) {
            return Ok(Some(self.compacted(id, compacted)));
        }
        // Read first: history tells at least what has been handed out by now.
        let position = self.hub.position();
        let page = match self.history.events(next, &request.range).await {
            Ok(page) => page,
            Err(HistoryError::Compacted(compacted)) => return Ok(Some(self.compacted(id, compacted))),
            Err(error) => return Err(error),
        };
        self.behind.pop_front();
        let Some(watcher) = self.watchers.get_mut(&id) else { return Ok(None) };
        // A page that tells of nothing from `next` on says that there is nothing through the position either; an empty
        // store has a revision that no event has.
        let through = if page.through < next { position } else { page.through };
        let next = through.next().max(next);
        let Request { range, filter, .. } = &watcher.request;
        let joining = Joining { id, range, filter: *filter, signal: &self.signal };
        let joined = self.hub.join(&joining, next);
        let caught_up = joined.is_some();
        watcher.phase = match joined {
            Some((place, member)) => Phase::Keeping { place, member },
            None => Phase::Behind { next },
        };
        let filter = watcher.request.filter;
        let mut events = page.events;
        events.retain(|event| filter.admits(event));
        if let Some(last) = events.last() {
            // A watcher that has caught up has everything through the page's end.
            let revision = if caught_up { through } else { last.change.revision };
            self.staged = Some(Staged { id, events, revision });
        }
        if !caught_up {
            self.behind.push_back(id);
        }
        Ok(None)
    }

    fn compacted(&mut self, id: WatchId, compacted: Revision) -> Update {
        self.cancel(id);
        Update::Compacted { id, compacted, revision: self.hub.position() }
    }

    /// What can be said about progress, when nobody reads history. `None` also when there turns out to be something
    /// to send first.
    fn progress(&mut self) -> Option<Update> {
        if !self.progress_wanted && self.due.is_empty() {
            return None;
        }
        // In this order: what was handed out up to the position is among the ready ones then.
        let position = self.hub.settled_position();
        self.ready.extend(self.signal.take_ready());
        if !self.ready.is_empty() && !is_planted(PlantedBug::ProgressBeforeEvent) {
            return None;
        }
        if self.progress_wanted && !self.watchers.is_empty() && self.all_reach(position) {
            self.progress_wanted = false;
            return Some(Update::Progress { id: None, revision: position });
        }
        while let Some(id) = self.due.pop_front() {
            if self.watchers.get(&id).is_some_and(|watcher| watcher.reaches(position)) {
                return Some(Update::Progress { id: Some(id), revision: position });
            }
        }
        None
    }

    fn all_reach(&self, position: Revision) -> bool {
        self.watchers.values().all(|watcher| watcher.reaches(position))
    }
}

impl Watcher {
    /// Whether progress at `position` means something to the watcher: one that starts in the future must not hear
    /// of revisions before its start.
    fn reaches(&self, position: Revision) -> bool {
        self.request.start.is_none_or(|start| start <= position)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for watcher in self.watchers.values() {
            if let Phase::Keeping { place, .. } = watcher.phase {
                self.hub.leave(&watcher.request.range, place);
            }
        }
    }
}

#[cfg(test)]
mod tests;
