use std::cmp::Ordering;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use engine::{Direction, KeySpan};

use super::State;
use crate::index::Entry;

/// A record that a scan found.
pub(crate) struct Found {
    pub(crate) key: Bytes,
    pub(crate) entry: Entry,
}

/// A bounded step of a scan.
pub(crate) struct Step {
    pub(crate) found: Vec<Found>,
    /// The span behind this step; `None` when the span was read to its end.
    pub(crate) rest: Option<KeySpan>,
}

/// Merges the index with what it was before, in one direction.
struct Merge<'a, I: Iterator<Item = (&'a Bytes, &'a Option<Entry>)>> {
    older: std::iter::Peekable<I>,
    ahead: Ordering,
    records_max: usize,
    /// Entries that may still be looked at.
    looks: usize,
    found: Vec<Found>,
    /// The last key that was looked at.
    last: Option<Bytes>,
}

impl<'a, I: Iterator<Item = (&'a Bytes, &'a Option<Entry>)>> Merge<'a, I> {
    fn is_full(&self) -> bool {
        self.found.len() >= self.records_max || self.looks == 0
    }

    fn look(&mut self, key: Bytes, entry: Option<Entry>) {
        self.looks -= 1;
        self.last = Some(key.clone());
        if let Some(entry) = entry {
            self.found.push(Found { key, entry });
        }
    }

    /// Takes the older versions that come before `key` (all, without one).
    fn catch_up(&mut self, key: Option<&[u8]>) -> ControlFlow<()> {
        while let Some((older, entry)) = self.older.peek().copied() {
            if key.is_some_and(|key| older.as_ref().cmp(key) != self.ahead) {
                break;
            }
            if self.is_full() {
                return ControlFlow::Break(());
            }
            self.older.next();
            self.look(older.clone(), entry.clone());
        }
        ControlFlow::Continue(())
    }

    fn visit(&mut self, key: &[u8], payload: &[u8]) -> ControlFlow<()> {
        self.catch_up(Some(key))?;
        if self.is_full() {
            return ControlFlow::Break(());
        }
        let same = self.older.next_if(|(older, _)| older.as_ref() == key);
        let entry = same.map_or_else(|| Some(Entry::decode(payload)), |(_, entry)| entry.clone());
        self.look(Bytes::copy_from_slice(key), entry);
        ControlFlow::Continue(())
    }
}

impl State {
    /// The records of the span in the snapshot `at`, at most `records_max`, looking at no more than `looks`
    /// entries.
    pub(crate) fn scan(
        &self,
        at: u64,
        span: &KeySpan,
        direction: Direction,
        (records_max, looks): (usize, usize),
    ) -> Step {
        if span.end.as_ref().is_some_and(|end| *end <= span.start) {
            return Step { found: Vec::new(), rest: None };
        }
        let end = span.end.as_deref();
        let start_bound = Bound::Included(span.start.as_ref());
        let end_bound = end.map_or(Bound::Unbounded, Bound::Excluded);
        match direction {
            Direction::Forward => {
                let older = self.undo.range(start_bound, end_bound, at).peekable();
                let mut merge =
                    Merge { older, ahead: Ordering::Less, records_max, looks, found: Vec::new(), last: None };
                let mut broken = ControlFlow::Continue(());
                self.index.ascend(start_bound, end, |key, payload| {
                    broken = merge.visit(key, payload);
                    broken
                });
                let ended = broken.is_continue() && merge.catch_up(None).is_continue();
                let rest = (!ended).then(|| KeySpan {
                    start: merge.last.map_or_else(|| span.start.clone(), |last| successor(&last)),
                    end: span.end.clone(),
                });
                Step { found: merge.found, rest }
            }
            Direction::Backward => {
                let older = self.undo.range(start_bound, end_bound, at).rev().peekable();
                let mut merge = Merge {
                    older,
                    ahead: Ordering::Greater,
                    records_max,
                    looks,
                    found: Vec::new(),
                    last: None,
                };
                let mut broken = ControlFlow::Continue(());
                self.index.descend(&span.start, end, |key, payload| {
                    broken = merge.visit(key, payload);
                    broken
                });
                let ended = broken.is_continue() && merge.catch_up(None).is_continue();
                let rest = (!ended).then(|| KeySpan {
                    start: span.start.clone(),
                    end: merge.last.or_else(|| span.end.clone()),
                });
                Step { found: merge.found, rest }
            }
        }
    }
}

/// The lowest key above `key`.
fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}
