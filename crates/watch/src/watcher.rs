use std::collections::VecDeque;
use std::sync::Arc;

use model::{Event, KeyRange, Revision};

/// A watcher's number on its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub i64);

/// Which events a watcher leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Leave out puts.
    pub no_put: bool,
    /// Leave out deletions.
    pub no_delete: bool,
}

impl Filter {
    /// Whether a watcher with this filter is told of `event`.
    pub fn admits(self, event: &Event) -> bool {
        if event.is_delete() { !self.no_delete } else { !self.no_put }
    }
}

/// What a client asks a new watcher to do.
#[derive(Clone, Debug)]
pub struct Request {
    /// The keys.
    pub range: KeyRange,
    /// The first revision of interest; `None` for what happens from now on.
    pub start: Option<Revision>,
    /// The number that the client chose, if it did.
    pub id: Option<WatchId>,
    /// The events left out.
    pub filter: Filter,
    /// Hand out the version replaced with each event.
    pub previous: bool,
    /// Say how far the watcher is when nothing else was said for a while.
    pub progress: bool,
}

/// A watcher that keeps up is handed at most this many events that its stream has not sent yet; one more, and it
/// goes back to reading history, which costs nobody else anything.
pub(crate) const HANDED_MAX: usize = 512;
/// And no further event once those handed hold this many bytes. The events are shared with history and the other
/// watchers; but history forgets, and what a stuck client was handed would then be held by it alone.
pub(crate) const HANDED_BYTES_MAX: usize = 4 << 20;

/// What the hub hands to one watcher.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// Events not taken yet, in order.
    events: VecDeque<Arc<Event>>,
    /// What they hold.
    bytes: usize,
    /// Events below this revision are not for the watcher.
    pub(crate) from: Revision,
    /// The watcher was handed more than it may hold: from this revision on it must read history.
    pub(crate) lagging: Option<Revision>,
    /// The session knows that something is here.
    pub(crate) announced: bool,
}

impl Inbox {
    pub(crate) fn new(from: Revision) -> Inbox {
        Inbox { events: VecDeque::new(), bytes: 0, from, lagging: None, announced: false }
    }

    /// Hands `event` over, or notes that the watcher has to read it from history. `false` when it is not for the
    /// watcher, or the watcher reads history anyway.
    pub(crate) fn hand(&mut self, event: &Arc<Event>) -> bool {
        if self.lagging.is_some() || event.change.revision < self.from {
            return false;
        }
        if self.events.len() < HANDED_MAX && self.bytes < HANDED_BYTES_MAX {
            self.bytes += event.key_value.len();
            self.events.push_back(event.clone());
            return true;
        }
        // A revision is read whole or not at all: what was handed of this one goes back too.
        let revision = event.change.revision;
        while self.events.back().is_some_and(|last| last.change.revision == revision) {
            self.events.pop_back();
        }
        self.lagging = Some(revision);
        true
    }

    /// The next event, if its revision is not above `position`.
    pub(crate) fn peek(&self, position: Revision) -> Option<&Arc<Event>> {
        self.events.front().filter(|event| event.change.revision <= position)
    }

    /// Takes the next event.
    pub(crate) fn take(&mut self) -> Option<Arc<Event>> {
        let event = self.events.pop_front()?;
        self.bytes = self.bytes.saturating_sub(event.key_value.len());
        Some(event)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}
