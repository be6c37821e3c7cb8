//! Checks what is to be written and stages its frames.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use engine::{BatchClass, CommitError, Write};

use super::{Pending, Writer};
use crate::format::{
    BODY_LEN_MAX, DELETION_VALUE_LEN, FRAME_HEADER_LEN, FrameKind, Record, RecordKind, deletion_value,
    record_len,
};
use crate::index::{Entry, INLINE_BYTES_MAX};
use crate::log::{RESERVE_NAME, Spare};
use crate::queue::{Answer, Commit, Copy, CopyKind};
use crate::shared::Counters;
use crate::state::{Change, Deletion, Move};

/// This part of the reserve is kept for copies: without them nothing would be freed.
const COPY_SHARE_DIVISOR: u64 = 4;

impl Writer {
    /// Checks a batch and stages it; answers at once only when it is refused for want of space.
    pub(super) fn stage_commit(&mut self, commit: Commit) {
        if let Some(reason) = &self.broken {
            let _ = commit.answer.send(Err(CommitError::Closed(reason.clone())));
            return;
        }
        if let Some(key) = self.conflict(&commit.batch.writes) {
            self.pending.push(Pending::Conflict { commit, key });
            return;
        }
        let len = FRAME_HEADER_LEN + commit.batch.writes.iter().map(write_len).sum::<usize>();
        let purpose = match commit.batch.class {
            BatchClass::Normal => Purpose::Data,
            BatchClass::Reclaim => Purpose::Freeing,
        };
        if let Err(error) = self.make_room(len, purpose) {
            let _ = commit.answer.send(Err(error));
            return;
        }
        let plans = self.plan(&commit.batch.writes);
        let seq = self.log.next_seq();
        let changes = if plans.is_empty() { Vec::new() } else { self.stage_records(seq, plans) };
        for change in &changes {
            self.overlay.insert(change.key.clone(), change.entry.clone());
        }
        self.pending.push(Pending::Commit { commit, seq, changes });
    }

    /// The first key that the batch inserts although it exists.
    fn conflict(&self, writes: &[Write]) -> Option<Bytes> {
        let state = self.shared.state.read();
        writes.iter().find_map(|write| {
            let Write::Insert(key, _) = write else { return None };
            let exists = match self.overlay.get(key) {
                Some(entry) => entry.is_some(),
                None => state.index.contains(key),
            };
            exists.then(|| key.clone())
        })
    }

    /// The records that the batch becomes: a deletion of nothing becomes none.
    fn plan(&self, writes: &[Write]) -> Vec<(Bytes, Plan)> {
        let state = self.shared.state.read();
        let plan = |write: &Write| match write {
            Write::Put(key, value) | Write::Insert(key, value) => {
                Some((key.clone(), Plan::Put(value.clone())))
            }
            Write::Delete(key) => {
                let covers = match self.overlay.get(key) {
                    Some(entry) => {
                        // What the staged batches replaced is covered as well.
                        let entry = entry.as_ref()?;
                        let older = state.index.get(key).map(|older| state.cover(&older));
                        let (first, last) = state.cover(entry);
                        older.map_or((first, last), |older| (first.min(older.0), last.max(older.1)))
                    }
                    None => state.cover(&state.index.get(key)?),
                };
                Some((key.clone(), Plan::Delete(covers)))
            }
        };
        writes.iter().filter_map(plan).collect()
    }

    fn stage_records(&mut self, seq: u64, plans: Vec<(Bytes, Plan)>) -> Vec<Change> {
        self.log.stage(FrameKind::Batch, |frame, segment, base| {
            let mut changes = Vec::with_capacity(plans.len());
            for (key, plan) in plans {
                changes.push(match plan {
                    Plan::Put(value) => {
                        let record = Record { kind: RecordKind::Put, seq, key: &key, value: &value };
                        let offset = offset(base, frame.record(record));
                        // Copied, so that a small value does not keep a whole request in memory.
                        let inline =
                            (value.len() <= INLINE_BYTES_MAX).then(|| Bytes::copy_from_slice(&value));
                        let value_len = value.len() as u32;
                        let entry = Entry { segment, offset, value_len, oldest: segment, inline };
                        Change { key, entry: Some(entry), deletion: None }
                    }
                    Plan::Delete(covers) => {
                        let value = deletion_value(covers.0, covers.1);
                        frame.record(Record { kind: RecordKind::Deletion, seq, key: &key, value: &value });
                        let len = record_len(key.len(), value.len()) as u64;
                        Change { key, entry: None, deletion: Some(Deletion { segment, len, covers }) }
                    }
                });
            }
            changes
        })
    }

    /// Stages copies of the records that are still needed.
    pub(super) fn stage_relocation(&mut self, from: u32, records: Vec<Copy>, answer: Answer<()>) {
        let len = FRAME_HEADER_LEN + records.iter().map(copy_len).sum::<usize>();
        if let Err(error) = self.make_room(len, Purpose::Copy) {
            let _ = answer.send(Err(error));
            return;
        }
        let state = self.shared.state.read();
        let needed: Vec<_> = records
            .into_iter()
            .filter(|copy| match &copy.kind {
                CopyKind::Put { from, .. } => {
                    !self.overlay.contains_key(&copy.key)
                        && state
                            .index
                            .get(&copy.key)
                            .is_some_and(|entry| (entry.segment, entry.offset) == *from)
                }
                CopyKind::Deletion { .. } => true,
            })
            .collect();
        drop(state);
        let seq = self.log.next_seq();
        let (mut moves, mut deletions) = (Vec::new(), Vec::new());
        if !needed.is_empty() {
            let before = self.log.staged();
            self.log.stage(FrameKind::Relocation, |frame, segment, base| {
                for Copy { seq, key, kind } in needed {
                    match kind {
                        CopyKind::Put { value, from } => {
                            let record = Record { kind: RecordKind::Put, seq, key: &key, value: &value };
                            let to = (segment, offset(base, frame.record(record)));
                            moves.push(Move { key, from, to });
                        }
                        CopyKind::Deletion { covers } => {
                            let value = deletion_value(covers.0, covers.1);
                            frame.record(Record {
                                kind: RecordKind::Deletion,
                                seq,
                                key: &key,
                                value: &value,
                            });
                            let len = record_len(key.len(), value.len()) as u64;
                            let deletion = Some(Deletion { segment, len, covers });
                            deletions.push(Change { key, entry: None, deletion });
                        }
                    }
                }
            });
            Counters::add(&self.shared.counters.relocated_bytes, (self.log.staged() - before) as u64);
        }
        self.pending.push(Pending::Relocation { answer, seq, from, moves, deletions });
    }

    /// Stages the word that nothing of a segment is needed.
    pub(super) fn stage_retirement(&mut self, segment: u32, answer: Answer<()>) {
        if let Err(error) = self.make_room(FRAME_HEADER_LEN + 4, Purpose::Copy) {
            let _ = answer.send(Err(error));
            return;
        }
        let seq = self.log.next_seq();
        self.log.stage(FrameKind::Retirement, |frame, _, _| frame.segments([segment]));
        self.pending.push(Pending::Retirement { answer, seq, segment });
    }

    /// Makes sure that a frame of `len` bytes can be staged, beginning a new segment if it must.
    fn make_room(&mut self, len: usize, purpose: Purpose) -> Result<(), CommitError> {
        if len > BODY_LEN_MAX {
            return Err(CommitError::Unavailable(format!(
                "the batch takes {len} bytes, more than the {BODY_LEN_MAX} that the embedded engine writes at once"
            )));
        }
        if !self.shared.takes_new_data() {
            self.check_reserve(len, purpose)?;
        }
        match self.log.fits(len) {
            Ok(true) => Ok(()),
            Ok(false) => self.roll(len, purpose),
            Err(_) if purpose != Purpose::Data => self.roll(len, purpose),
            Err(error) => Err(error),
        }
    }

    /// Who may still write while the reserve is in use, or could not be set aside: new data not at all, what
    /// frees space only while enough is left to copy what is live out of a mostly dead segment.
    fn check_reserve(&self, len: usize, purpose: Purpose) -> Result<(), CommitError> {
        let kept = self.shared.config.reserve_bytes / COPY_SHARE_DIVISOR;
        let text = match purpose {
            Purpose::Data => {
                "its reserve is in use or could not be set aside; reads, deletions and compaction \
                              still work and free space"
            }
            Purpose::Freeing if self.log.room() < len as u64 + kept => {
                "its reserve is used up; give the data directory more space"
            }
            Purpose::Freeing | Purpose::Copy => return Ok(()),
        };
        let dir = self.shared.config.dir.display();
        Err(CommitError::NoSpace(format!("the disk of {dir} is full: {text}")))
    }

    /// Begins a new segment with room for a frame of `len` bytes.
    pub(super) fn roll(&mut self, len: usize, purpose: Purpose) -> Result<(), CommitError> {
        if let Some(reason) = &self.broken {
            return Err(CommitError::Closed(reason.clone()));
        }
        let spare = self.take_spare(len, purpose)?;
        if !self.log.active.sealed
            && let Err(error) = self.finish(true)
        {
            self.give_back(spare);
            // Whoever was staged was told; what needs the room was not written yet.
            return Err(not_written(error));
        }
        let sealed = self.log.active.header.segment;
        let segments = self.shared.state.read().existing();
        let name = spare.name.clone();
        let begun = self.log.begin_segment(spare, &segments);
        if let Err(failure) = begun {
            // It may be partly written, and a spare or a reserve must be empty.
            let _ = self.shared.fs.remove(&name);
            // The batch itself was not written yet.
            return Err(not_written(self.after(failure)));
        }
        self.shared.state.write().add_segment(&self.log.active);
        self.shared.signals.hint(sealed);
        Ok(())
    }

    /// A file for the next segment: the one prepared, a new one, or, to free space, the reserve.
    fn take_spare(&self, len: usize, purpose: Purpose) -> Result<Spare, CommitError> {
        let segments = self.shared.state.read().segments.len() + 1;
        // Held while a file is allocated, so that the upkeep thread does not allocate another.
        let mut prepared = self.shared.spare.lock();
        if let Some(spare) = prepared.take() {
            if self.log.is_enough(&spare, len, segments) {
                return Ok(spare);
            }
            let _ = self.shared.fs.remove(&spare.name);
        }
        let refusal = match self.log.allocate_spare(len, segments) {
            Ok(spare) => return Ok(spare),
            Err(refusal) => refusal,
        };
        self.shared.signals.disk_full();
        if purpose != Purpose::Data && self.shared.reserve_ready.swap(false, Ordering::AcqRel) {
            let reserve = self.shared.fs.open(RESERVE_NAME).ok().and_then(|file| {
                let len = file.len().ok()?;
                Some(Spare { name: RESERVE_NAME.to_owned(), file, len })
            });
            if let Some(reserve) = reserve.filter(|reserve| self.log.is_enough(reserve, len, segments)) {
                return Ok(reserve);
            }
        }
        Err(refusal)
    }

    /// Keeps a file that did not become a segment for the next time.
    fn give_back(&self, spare: Spare) {
        if spare.name == RESERVE_NAME {
            self.shared.reserve_ready.store(true, Ordering::Release);
        } else {
            *self.shared.spare.lock() = Some(spare);
        }
    }
}

/// What a failure means for a batch that was not even staged.
fn not_written(error: CommitError) -> CommitError {
    match error {
        CommitError::Undetermined(reason) => CommitError::Closed(reason),
        refusal => refusal,
    }
}

/// What space is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// New data.
    Data,
    /// A batch that frees space or keeps the store alive.
    Freeing,
    /// Copies out of a segment that is about to be deleted.
    Copy,
}

/// What a write becomes.
enum Plan {
    Put(Bytes),
    Delete((u32, u32)),
}

fn write_len(write: &Write) -> usize {
    match write {
        Write::Put(key, value) | Write::Insert(key, value) => record_len(key.len(), value.len()),
        Write::Delete(key) => record_len(key.len(), DELETION_VALUE_LEN),
    }
}

fn copy_len(copy: &Copy) -> usize {
    match &copy.kind {
        CopyKind::Put { value, .. } => record_len(copy.key.len(), value.len()),
        CopyKind::Deletion { .. } => record_len(copy.key.len(), DELETION_VALUE_LEN),
    }
}

/// A position in a segment, which fits 32 bits because segments and frames are limited to a third of that.
fn offset(base: u64, position: usize) -> u32 {
    u32::try_from(base + position as u64).unwrap_or(u32::MAX)
}
