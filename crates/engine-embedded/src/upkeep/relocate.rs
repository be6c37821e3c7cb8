//! Rewriting segments: what is still needed of one is copied to the end of the log, then the segment is retired.

use engine::{CommitError, ReadError};
use tracing::{debug, warn};

use super::{Upkeep, Work, read_error};
use crate::format::{
    DELETION_VALUE_LEN, FRAME_HEADER_LEN, FrameKind, RecordKind, SEGMENT_HEADER_LEN, hint_name, record_len,
    segment_name,
};
use crate::hint::for_each_record;
use crate::queue::{Copy, CopyKind, Request};
use crate::shared::Counters;
use crate::state::State;
use crate::walk::{WalkError, Walker, read_header};

/// Bytes and records that are copied in one step: a commit that comes meanwhile waits for no more than that.
const STEP_BYTES: usize = 256 << 10;
const STEP_RECORDS: usize = 512;
/// A segment is worth rewriting on request when at least one part in this many of it is not needed.
const WORTH_DIVISOR: u64 = 10;

/// How the rewriting of a segment ended.
#[derive(Debug)]
enum Failure {
    /// The segment cannot be read.
    Read(WalkError),
    /// The log did not take the copies.
    Log(CommitError),
    /// The engine closes.
    Stopped,
    /// Records of it are still live although all were looked at.
    Incomplete,
}

impl Upkeep {
    /// Rewrites the worst segments until little enough is dead.
    pub(super) fn reclaim_worst(&self) {
        loop {
            let segment_bytes = self.shared.config.segment_bytes;
            let full = !self.shared.takes_new_data() || self.shared.signals.is_full();
            if !full && !self.shared.state.read().wants_reclaim(segment_bytes) {
                return;
            }
            let Some(victim) = self.worst(u32::MAX) else { return };
            if let Err(failure) = self.rewrite(victim) {
                self.give_up(victim, &failure);
                return;
            }
            if full {
                self.look_for_space();
            }
            self.urgent();
        }
    }

    /// Rewrites every segment of which a tenth or more is not needed, once. Damage is told once, whoever found it.
    pub(super) fn reclaim_all(&self) -> Result<(), ReadError> {
        let done = self.rewrite_all();
        match self.untold.take() {
            Some(damage) => Err(ReadError::Corrupt(damage)),
            None => done,
        }
    }

    fn rewrite_all(&self) -> Result<(), ReadError> {
        let active = {
            let state = self.shared.state.read();
            state
                .segments
                .iter()
                .find(|(_, segment)| !segment.sealed)
                .is_some_and(|(&id, segment)| is_worth(segment.len, state.needed(id)))
        };
        if active {
            self.ask(|answer| Request::Roll { answer }).map_err(|error| read_error(&error))?;
        }
        // Those that come into being meanwhile hold what is needed: looking at them again would not end.
        let last = self.shared.state.read().segments.keys().next_back().copied().unwrap_or(0);
        loop {
            let Some(victim) = self.worst(last) else { return Ok(()) };
            if let Err(failure) = self.rewrite(victim) {
                self.give_up(victim, &failure);
                return match failure {
                    Failure::Log(error) => Err(read_error(&error)),
                    Failure::Stopped => Err(ReadError::Closed("the engine was closed".to_owned())),
                    Failure::Read(WalkError::Io(error)) => Err(ReadError::Unavailable(error.to_string())),
                    // Told as damage by the caller, or logged.
                    Failure::Read(WalkError::Bad { .. }) | Failure::Incomplete => Ok(()),
                };
            }
            self.urgent();
        }
    }

    /// The complete segment, up to `last`, of which the largest part is not needed, if that is worth the work. On
    /// a full disk only one whose copies fit into the space that is left: half a copy would free nothing.
    fn worst(&self, last: u32) -> Option<u32> {
        let full = !self.shared.takes_new_data() || self.shared.signals.is_full();
        let ids = self.shared.state.read().existing();
        let mut worst: Option<(u64, u32)> = None;
        for id in ids.into_iter().filter(|&id| id <= last) {
            // The lock is taken for each, as there may be many.
            let state = self.shared.state.read();
            let Some(segment) = state.segments.get(&id).filter(|segment| segment.sealed && !segment.damaged)
            else {
                continue;
            };
            let needed = state.needed(id);
            if !is_worth(segment.len, needed) || (full && needed + needed / 64 > self.copy_room(&state)) {
                continue;
            }
            // In thousandths, so that an old segment goes before a slightly worse new one.
            let part = needed * 1000 / segment.len.max(1);
            if worst.is_none_or(|(least, _)| part < least) {
                worst = Some((part, id));
            }
        }
        worst.map(|(_, id)| id)
    }

    /// Bytes that can be copied without taking space from the file system.
    fn copy_room(&self, state: &State) -> u64 {
        let reserve = if self.shared.takes_new_data() { self.shared.config.reserve_bytes } else { 0 };
        let own = (SEGMENT_HEADER_LEN + 4 * FRAME_HEADER_LEN + 4 * state.segments.len()) as u64;
        // A step that does not fit into the rest of a segment goes into the next.
        state.room.max(reserve).saturating_sub(own)
    }

    /// Does what commits may soon wait for.
    fn urgent(&self) {
        while let Some(work) = self.shared.signals.take_urgent() {
            match work {
                Work::Spare => self.spare(),
                Work::Hint(segment) => self.hint(segment),
                Work::Stop | Work::Check | Work::Reclaim(_) | Work::Nothing => {}
            }
        }
    }

    fn give_up(&self, segment: u32, failure: &Failure) {
        match failure {
            Failure::Read(error) => self.report(segment, error, "the segment is not rewritten"),
            // Tried again and again while the disk is full; whoever wants to write is told.
            Failure::Log(CommitError::NoSpace(reason)) => {
                debug!(segment, reason, "could not rewrite a segment")
            }
            Failure::Log(error) => warn!(segment, %error, "could not rewrite a segment"),
            Failure::Stopped => {}
            Failure::Incomplete => {
                tracing::error!(segment, "a segment is kept: the index names records that it does not hold");
                if let Some(segment) = self.shared.state.write().segments.get_mut(&segment) {
                    segment.damaged = true;
                }
            }
        }
    }

    /// Copies what is needed of a segment, retires it, and removes its file.
    fn rewrite(&self, segment: u32) -> Result<(), Failure> {
        let Some(file) = self.shared.state.read().segments.get(&segment).map(|segment| segment.file.clone())
        else {
            return Ok(());
        };
        debug!(segment, "rewriting a segment");
        let header = read_header(file.as_ref()).map_err(Failure::Read)?;
        let mut walker =
            Walker::new(file.as_ref(), header).map_err(|error| Failure::Read(WalkError::Io(error)))?;
        let mut step = Step::default();
        while let Some(frame) = walker.next().map_err(Failure::Read)? {
            if !matches!(frame.header.kind, FrameKind::Batch | FrameKind::Relocation) {
                continue;
            }
            let mut candidates = Vec::new();
            for_each_record(&frame, |record, offset| candidates.push((record, offset)))
                .map_err(Failure::Read)?;
            for chunk in candidates.chunks(STEP_RECORDS) {
                let state = self.shared.state.read();
                for (record, offset) in chunk {
                    let from = (segment, *offset);
                    let kind = match record.kind {
                        RecordKind::Put if state.is_at(record.key, from) => {
                            CopyKind::Put { value: bytes::Bytes::copy_from_slice(record.value), from }
                        }
                        RecordKind::Deletion if state.exists_in(record.covers(), segment) => {
                            CopyKind::Deletion { covers: record.covers() }
                        }
                        RecordKind::Put | RecordKind::Deletion => continue,
                    };
                    step.add(Copy { seq: record.seq, key: bytes::Bytes::copy_from_slice(record.key), kind });
                }
                drop(state);
                if step.is_full() {
                    self.copy(segment, &mut step)?;
                }
            }
        }
        self.copy(segment, &mut step)?;
        let live = self.shared.state.read().segments.get(&segment).map_or(0, |segment| segment.live);
        if live != 0 {
            return Err(Failure::Incomplete);
        }
        self.ask(|answer| Request::Retire { segment, answer }).map_err(Failure::Log)?;
        Counters::add(&self.shared.counters.segments_retired, 1);
        self.remove(segment);
        Ok(())
    }

    fn copy(&self, segment: u32, step: &mut Step) -> Result<(), Failure> {
        if self.shared.signals.is_stopped() {
            return Err(Failure::Stopped);
        }
        if step.records.is_empty() {
            return Ok(());
        }
        let records = std::mem::take(&mut step.records);
        step.bytes = 0;
        self.ask(|answer| Request::Relocate { segment, records, answer }).map_err(Failure::Log)
    }

    /// Removes the files of a retired segment. Snapshots that need it have it open. What a crash leaves is
    /// removed at the next start.
    fn remove(&self, segment: u32) {
        let fs = &self.shared.fs;
        // The hint may not have been written yet.
        let _ = fs.remove(&hint_name(segment));
        if let Err(error) = fs.remove(&segment_name(segment)).and_then(|()| fs.sync_dir()) {
            warn!(segment, %error, "could not remove a retired segment");
        }
        self.shared.state.write().forget(0);
    }
}

/// Records that are copied together.
#[derive(Default)]
struct Step {
    records: Vec<Copy>,
    bytes: usize,
}

impl Step {
    fn add(&mut self, copy: Copy) {
        self.bytes += copy.key.len()
            + match &copy.kind {
                CopyKind::Put { value, .. } => value.len(),
                CopyKind::Deletion { .. } => DELETION_VALUE_LEN,
            };
        self.records.push(copy);
    }

    fn is_full(&self) -> bool {
        self.bytes >= STEP_BYTES || self.records.len() >= STEP_RECORDS
    }
}

/// Whether rewriting a segment gives back enough. What every segment needs for itself does not count.
fn is_worth(len: u64, needed: u64) -> bool {
    let own = (4 * FRAME_HEADER_LEN + record_len(0, 0)) as u64;
    len.saturating_sub(needed + own) > len / WORTH_DIVISOR
}
