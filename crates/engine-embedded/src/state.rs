//! What readers and the writer share: the index, the versions that open snapshots still need, and what each
//! segment holds. Behind one lock, which nobody holds for more than a bounded number of entries, nor while a
//! file is read or written.

mod scan;
#[cfg(test)]
mod tests;
mod undo;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use crate::format::record_len;
use crate::fs::File;
use crate::index::{Entry, Index};
use crate::log::Active;
pub(crate) use scan::Found;
use undo::Undo;

/// A batch with more changes than this is applied in steps of as many, between which readers may look (they see
/// the state before the batch).
pub(crate) const APPLY_STEP: usize = 512;
/// Different pairs of a segment's `deletions` that are told apart; more are counted together.
const DELETION_SPANS_MAX: usize = 4096;

/// What is shared under the lock.
pub(crate) struct State {
    pub(crate) index: Index,
    undo: Undo,
    /// The open snapshots: the last batch that they show, and how many show it.
    open: BTreeMap<u64, usize>,
    /// The last frame whose effects are all in the index: what a new snapshot shows.
    pub(crate) applied: u64,
    pub(crate) segments: BTreeMap<u32, Segment>,
    /// Segments whose records were partly copied to others, and that still exist: a deletion must cover them.
    pub(crate) partly_copied: std::collections::BTreeSet<u32>,
    /// Bytes written to the segments that exist, and of live records in them.
    total_bytes: u64,
    live_bytes: u64,
    /// Retired segments whose files are still open.
    retired: usize,
    /// Bytes that still go into the segment that is written to.
    pub(crate) room: u64,
    /// Why the engine no longer answers.
    pub(crate) closed: Option<String>,
}

/// A segment file and what it holds.
pub(crate) struct Segment {
    pub(crate) file: Arc<dyn File>,
    /// Bytes written to it.
    pub(crate) len: u64,
    /// Bytes of the records in it that are the newest of their keys.
    pub(crate) live: u64,
    /// Bytes of deletions in it, by the first and last segment they cover.
    pub(crate) deletions: HashMap<(u32, u32), u64>,
    /// No more is written to it.
    pub(crate) sealed: bool,
    /// The frame that retired it: the file is open only for snapshots that show less.
    pub(crate) retired: Option<u64>,
    /// Damage was found in it: it is left alone.
    pub(crate) damaged: bool,
}

/// One effect of a batch.
pub(crate) struct Change {
    pub(crate) key: Bytes,
    /// The record's new place, or `None` when it is deleted.
    pub(crate) entry: Option<Entry>,
    /// The bytes of a deletion's record, where it is, and what it covers.
    pub(crate) deletion: Option<Deletion>,
}

/// The record of a deletion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deletion {
    pub(crate) segment: u32,
    pub(crate) len: u64,
    pub(crate) covers: (u32, u32),
}

/// A record that was copied from one segment to another.
pub(crate) struct Move {
    pub(crate) key: Bytes,
    pub(crate) from: (u32, u32),
    pub(crate) to: (u32, u32),
}

impl Segment {
    pub(crate) fn new(file: Arc<dyn File>) -> Segment {
        Segment {
            file,
            len: 0,
            live: 0,
            deletions: HashMap::new(),
            sealed: false,
            retired: None,
            damaged: false,
        }
    }

    /// Counts the record of a deletion.
    pub(crate) fn add_deletion(&mut self, covers: (u32, u32), len: u64) {
        let known = self.deletions.contains_key(&covers) || self.deletions.len() < DELETION_SPANS_MAX;
        // Counted as covering everything, the record seems needed for longer than it is.
        *self.deletions.entry(if known { covers } else { (0, u32::MAX) }).or_default() += len;
    }
}

impl State {
    pub(crate) fn new(index: Index, segments: BTreeMap<u32, Segment>, applied: u64) -> State {
        State {
            index,
            undo: Undo::default(),
            open: BTreeMap::new(),
            applied,
            total_bytes: segments.values().map(|segment| segment.len).sum(),
            live_bytes: segments.values().map(|segment| segment.live).sum(),
            segments,
            partly_copied: Default::default(),
            retired: 0,
            room: 0,
            closed: None,
        }
    }

    /// Opens a snapshot of everything applied so far.
    pub(crate) fn open_snapshot(&mut self) -> u64 {
        *self.open.entry(self.applied).or_default() += 1;
        self.applied
    }

    /// Closes a snapshot.
    pub(crate) fn close_snapshot(&mut self, at: u64) {
        if let Some(count) = self.open.get_mut(&at) {
            *count -= 1;
            if *count == 0 {
                self.open.remove(&at);
            }
        }
    }

    /// Forgets up to `steps` versions, and all files, that no snapshot needs. Whether versions are left.
    pub(crate) fn forget(&mut self, steps: usize) -> bool {
        let oldest = self.open.keys().next().copied();
        let horizon = oldest.unwrap_or(self.applied);
        let rest = self.undo.forget(horizon, steps);
        if self.retired > 0 {
            self.segments.retain(|_, segment| match (segment.retired, oldest) {
                (Some(retired), Some(oldest)) => oldest < retired,
                (Some(_), None) => false,
                (None, _) => true,
            });
            self.retired = self.segments.values().filter(|segment| segment.retired.is_some()).count();
        }
        rest
    }

    /// The record of `key` in the snapshot `at`.
    pub(crate) fn get(&self, key: &[u8], at: u64) -> Option<Entry> {
        match self.undo.before(key, at) {
            Some(version) => version.clone(),
            None => self.index.get(key),
        }
    }

    /// Applies one change of the batch `seq`. With `keep`, the version before is kept in any case: the batch is
    /// applied in steps, and readers may come in between.
    pub(crate) fn apply(&mut self, seq: u64, change: &Change, keep: bool) {
        let key = &change.key;
        let old = match &change.entry {
            Some(entry) => {
                let old = self.index.insert(key, entry);
                if let Some(old) = &old {
                    let oldest = self.first_from(old.oldest);
                    if oldest < entry.oldest {
                        self.index.insert(key, &Entry { oldest, ..entry.clone() });
                    }
                }
                self.count_live(entry.segment, key, entry, true);
                old
            }
            None => self.index.remove(key),
        };
        if let Some(old) = &old {
            self.count_live(old.segment, key, old, false);
        }
        self.count_deletion(change);
        let newest = self.open.keys().next_back().copied();
        if keep || newest.is_some() {
            self.undo.push(seq, key, old, if keep { None } else { newest });
        }
    }

    /// Follows a record to its copy, unless it has changed since.
    pub(crate) fn relocate(&mut self, moved: &Move) {
        let Some(mut entry) = self.index.get(&moved.key) else { return };
        if (entry.segment, entry.offset) != moved.from {
            return;
        }
        self.count_live(entry.segment, &moved.key, &entry, false);
        // The copy that stays behind is covered by `partly_copied` until its segment is retired.
        if entry.oldest == entry.segment {
            entry.oldest = moved.to.0;
        }
        (entry.segment, entry.offset) = moved.to;
        self.count_live(entry.segment, &moved.key, &entry, true);
        self.index.insert(&moved.key, &entry);
    }

    fn count_live(&mut self, segment: u32, key: &[u8], entry: &Entry, add: bool) {
        let len = record_len(key.len(), entry.value_len as usize) as u64;
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.live = if add { segment.live + len } else { segment.live.saturating_sub(len) };
        }
        self.live_bytes = if add { self.live_bytes + len } else { self.live_bytes.saturating_sub(len) };
    }

    /// The first and last segment that a deletion of the record at `entry` must cover.
    pub(crate) fn cover(&self, entry: &Entry) -> (u32, u32) {
        let first = self.partly_copied.first().map_or(entry.oldest, |&first| first.min(entry.oldest));
        let last = self.partly_copied.last().map_or(entry.segment, |&last| last.max(entry.segment));
        (first, last)
    }

    /// Whether the newest version of `key` is the record at `place`.
    pub(crate) fn is_at(&self, key: &[u8], place: (u32, u32)) -> bool {
        self.index.get(key).is_some_and(|entry| (entry.segment, entry.offset) == place)
    }

    /// The first segment from `id` on that still exists on disk.
    fn first_from(&self, id: u32) -> u32 {
        self.segments.range(id..).find(|(_, segment)| segment.retired.is_none()).map_or(id, |(&id, _)| id)
    }

    /// Whether a segment of the span, besides `except`, still exists on disk.
    pub(crate) fn exists_in(&self, span: (u32, u32), except: u32) -> bool {
        self.segments
            .range(span.0..=span.1.max(span.0))
            .any(|(&id, segment)| id != except && segment.retired.is_none())
    }

    /// The bytes of a segment that rewriting it would not give back.
    pub(crate) fn needed(&self, id: u32) -> u64 {
        let Some(segment) = self.segments.get(&id) else { return 0 };
        let deletions: u64 = segment
            .deletions
            .iter()
            .filter(|(covers, _)| self.exists_in(**covers, id))
            .map(|(_, len)| len)
            .sum();
        segment.live + deletions
    }

    /// Counts the record of a deletion in its segment.
    pub(crate) fn count_deletion(&mut self, change: &Change) {
        if let Some(deletion) = change.deletion
            && let Some(segment) = self.segments.get_mut(&deletion.segment)
        {
            segment.add_deletion(deletion.covers, deletion.len);
        }
    }

    /// Adds the segment that is written to from now on.
    pub(crate) fn add_segment(&mut self, active: &Active) {
        self.segments.insert(active.header.segment, Segment::new(active.file.clone()));
        self.grow_segment(active.header.segment, active.end, active.sealed);
    }

    /// Notes how far a segment was written.
    pub(crate) fn grow_segment(&mut self, id: u32, len: u64, sealed: bool) {
        if let Some(segment) = self.segments.get_mut(&id) {
            self.total_bytes += len - segment.len.min(len);
            segment.len = len;
            segment.sealed = sealed;
        }
    }

    /// Notes that nothing of a segment is needed, but by the snapshots that show less than the frame `seq`.
    pub(crate) fn retire(&mut self, id: u32, seq: u64) {
        self.partly_copied.remove(&id);
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.retired = Some(seq);
            self.retired += 1;
            self.total_bytes = self.total_bytes.saturating_sub(segment.len);
            self.live_bytes = self.live_bytes.saturating_sub(segment.live);
        }
    }

    /// The segments that exist.
    pub(crate) fn existing(&self) -> Vec<u32> {
        self.segments.iter().filter(|(_, segment)| segment.retired.is_none()).map(|(&id, _)| id).collect()
    }

    /// Whether so much is dead that segments should be rewritten: the files are to stay within one and a half
    /// times what is live, and two segments.
    pub(crate) fn wants_reclaim(&self, segment_bytes: u64) -> bool {
        self.total_bytes > self.live_bytes + self.live_bytes / 2 + 2 * segment_bytes
    }

    /// Bytes written to the segments that exist, and bytes of live records in them.
    pub(crate) fn usage(&self) -> (u64, u64) {
        (self.total_bytes, self.live_bytes)
    }
}
