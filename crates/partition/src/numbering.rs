//! Who gets which revisions, and the order in which batches become visible.
//!
//! Several logs are written at the same time, each with one batch on its way. The numbers of a batch are taken before it is
//! evaluated, all of them one after the other, so that a batch becomes visible when every number below has happened or
//! never will: the published revision is one that nothing at or below can follow, whatever partition it is in.
//!
//! Worked example. Batch A takes 5 and 6, batch B takes 7. B is durable first: its clients hear of 7, and a read of the
//! newest state waits. A is durable: 5, 6 and 7 become visible, in this order. Had A failed, 7 alone would have.

use std::collections::VecDeque;
use std::sync::Arc;

use base::{PlantedBug, is_planted};
use model::{Event, EventBatch, Revision};
use parking_lot::Mutex;

use crate::state::Shared;

pub(crate) struct Numbering {
    shared: Arc<Shared>,
    numbers: Mutex<State>,
}

struct State {
    /// The last number that was given out and not given back.
    last: Revision,
    /// What was taken and is not visible yet, lowest first. While one log's outcome is unclear, what others write meanwhile
    /// stays here: this has no bound of its own (`docs/limits.md`).
    open: VecDeque<Open>,
    takers: u64,
}

struct Open {
    taker: u64,
    /// What became of it: events, or none when it came to nothing.
    settled: Option<Vec<Arc<Event>>>,
}

/// Numbers that a batch has, to be settled in any case: until then nothing above them becomes visible.
#[derive(Debug)]
#[must_use]
pub(crate) struct Numbers {
    pub(crate) taker: u64,
    pub(crate) first: Revision,
    pub(crate) last: Revision,
}

impl Numbers {
    /// Numbers that another process has given out.
    pub(crate) fn granted(taker: u64, first: Revision, count: usize) -> Numbers {
        Numbers { taker, first, last: last_of(first, count) }
    }
}

/// The last of so many numbers.
fn last_of(first: Revision, count: usize) -> Revision {
    // A batch is far smaller than that.
    Revision::new(first.previous().get().saturating_add(i64::try_from(count).unwrap_or(i64::MAX)))
}

impl Numbering {
    /// Gives out what comes after everything that is visible, all of which has happened.
    pub(crate) fn new(shared: Arc<Shared>) -> Numbering {
        let last = shared.published();
        let state = State { last, open: VecDeque::new(), takers: 0 };
        Numbering { shared, numbers: Mutex::new(state) }
    }

    /// The next `count` numbers, above all that anybody was told.
    ///
    /// Who only looks must not be told one of them as long as it is not certain that something at or above it stays: after
    /// a crash the number would be given to another one.
    pub(crate) fn take(&self, count: usize) -> Numbers {
        let mut state = self.numbers.lock();
        let first = state.last.next();
        let last = last_of(first, count);
        state.last = last;
        state.takers += 1;
        let taker = state.takers;
        state.open.push_back(Open { taker, settled: None });
        Numbers { taker, first, last }
    }

    /// Gives back what lies above `used`, where nobody has taken anything behind it: without a rival, revisions are dense.
    pub(crate) fn keep(&self, numbers: &mut Numbers, used: Revision) {
        let mut state = self.numbers.lock();
        if state.last == numbers.last {
            state.last = used;
        }
        numbers.last = used;
    }

    /// The batch is durable, with these events: what it has done becomes visible as soon as all below is settled.
    pub(crate) fn happened(&self, numbers: Numbers, events: Vec<Arc<Event>>) {
        self.shared.raise_newest(numbers.last);
        self.settle(&mut self.numbers.lock(), &numbers, events);
    }

    /// As [`Numbering::happened`], for a batch that another process has evaluated: these events are not in the index yet.
    pub(crate) fn happened_elsewhere(&self, mut numbers: Numbers, events: Vec<Arc<Event>>) {
        let Some(used) = events.last().map(|event| event.change.revision) else {
            return self.came_to_nothing(numbers);
        };
        self.shared.adopt(&events);
        self.keep(&mut numbers, used);
        self.happened(numbers, events);
    }

    /// The batch certainly never becomes durable, or has changed nothing.
    pub(crate) fn came_to_nothing(&self, numbers: Numbers) {
        let mut state = self.numbers.lock();
        if state.last == numbers.last {
            state.last = numbers.first.previous();
        }
        self.settle(&mut state, &numbers, Vec::new());
    }

    fn settle(&self, state: &mut State, numbers: &Numbers, events: Vec<Arc<Event>>) {
        if let Some(open) = state.open.iter_mut().find(|open| open.taker == numbers.taker) {
            open.settled = Some(events);
        }
        self.advance(state);
    }

    /// Makes visible what nothing can come before any more. Under the lock of the numbers until all is published, so that
    /// the order holds.
    fn advance(&self, state: &mut State) {
        if is_planted(PlantedBug::AheadOfOthers) {
            state.open.make_contiguous().sort_by_key(|open| open.settled.is_none());
        }
        while let Some(Open { settled: Some(_), .. }) = state.open.front() {
            let Some(events) = state.open.pop_front().and_then(|open| open.settled) else { break };
            if let Some(revision) = events.last().map(|event| event.change.revision) {
                let after = self.shared.published();
                self.shared.publish(Arc::new(EventBatch { after, revision, events }), &[]);
            }
        }
    }
}
