//! Reads the files of a directory, and judges whether they are what was written.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use tracing::{info, warn};

use super::merge::{self, Run, RunSource};
use super::{at, corrupt};
use crate::config::Config;
use crate::error::OpenError;
use crate::format::{
    FrameKind, SEGMENT_HEADER_LEN, SegmentHeader, hint_name, listed_segments, parse_name, segment_name,
};
use crate::fs::{File, Fs};
use crate::hint::{self, Gather, Item, Summary};
use crate::index::Index;
use crate::log::Active;
use crate::state::Segment;
use crate::walk::{Tail, WalkError, Walker, judge_tail, read_header};

/// A segment that was read.
pub(super) struct Scanned {
    pub(super) items: Vec<Item>,
    /// The segments that existed when it was begun, and those retired in it.
    pub(super) manifest: Vec<u32>,
    pub(super) retired: Vec<u32>,
    pub(super) end: u64,
    pub(super) next_seq: u64,
    pub(super) sealed: bool,
    pub(super) marked: bool,
    /// What comes before it was durable, as a frame says that was written after the fsync.
    proven: u64,
}

/// A complete segment that was opened.
pub(super) struct Sealed {
    pub(super) segment: Segment,
    pub(super) run: Run,
    pub(super) header: SegmentHeader,
    /// The number of its last frame.
    pub(super) last_seq: u64,
}

/// Reads the files of a directory.
pub(super) struct Reader<'a> {
    pub(super) fs: &'a dyn Fs,
}

impl Reader<'_> {
    fn walk_error(&self, segment: u32, error: WalkError) -> OpenError {
        let name = segment_name(segment);
        match error {
            WalkError::Bad { offset, reason } => corrupt(self.fs, &name, offset, reason),
            WalkError::Io(source) => OpenError::Io { operation: "read", path: self.fs.path(&name), source },
        }
    }

    fn open_segment(&self, segment: u32) -> Result<(Arc<dyn File>, SegmentHeader), OpenError> {
        let name = segment_name(segment);
        let file = match self.fs.open(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(corrupt(self.fs, &name, 0, "the file is missing, although data in it is needed"));
            }
            other => at(self.fs, "open", &name, other)?,
        };
        let header = read_header(file.as_ref()).map_err(|error| self.walk_error(segment, error))?;
        if header.segment != segment {
            return Err(corrupt(self.fs, &name, 0, "the file holds another segment than its name says"));
        }
        Ok((file, header))
    }

    /// Reads all good frames of a segment; also answers what was found instead of the next.
    fn scan(
        &self,
        file: &dyn File,
        header: SegmentHeader,
    ) -> Result<(Scanned, Option<WalkError>), OpenError> {
        let failed = |error| self.walk_error(header.segment, error);
        let mut walker = Walker::new(file, header).map_err(|error| failed(WalkError::Io(error)))?;
        let mut gather = Gather::default();
        let (mut manifest, mut retired) = (None, Vec::new());
        let mut marked = true;
        let mut proven = SEGMENT_HEADER_LEN as u64;
        let mut bad = None;
        loop {
            let frame = match walker.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error @ WalkError::Io(_)) => return Err(failed(error)),
                Err(error) => {
                    bad = Some(error);
                    break;
                }
            };
            marked = false;
            proven = proven.max(frame.header.durable_end);
            match frame.header.kind {
                FrameKind::Batch | FrameKind::Relocation => gather.add(&frame).map_err(failed)?,
                FrameKind::Manifest => {
                    // It was durable before the file got its name.
                    proven = frame.body_start + frame.body.len() as u64;
                    manifest = Some(listed_segments(frame.body));
                    marked = true;
                }
                FrameKind::Retirement => retired.extend(listed_segments(frame.body)),
                FrameKind::Mark => marked = true,
                FrameKind::Footer => {}
            }
        }
        let Some(manifest) = manifest else {
            let error = bad.unwrap_or(WalkError::Bad { offset: 0, reason: "the manifest is missing" });
            return Err(failed(error));
        };
        let (end, next_seq, sealed) = (walker.at, walker.seq, walker.sealed);
        let items = gather.finish();
        Ok((Scanned { items, manifest, retired, end, next_seq, sealed, marked, proven }, bad))
    }

    /// Reads the segment that was written to last, and cuts off a write that was interrupted.
    pub(super) fn last_segment(&self, segment: u32, config: &Config) -> Result<(Active, Scanned), OpenError> {
        let (file, header) = self.open_segment(segment)?;
        let name = segment_name(segment);
        let (scanned, bad) = self.scan(file.as_ref(), header)?;
        let len = at(self.fs, "read", &name, file.len())?;
        if bad.is_some() || scanned.end < len {
            let tail = judge_tail(file.as_ref(), &header, scanned.end, scanned.next_seq);
            match at(self.fs, "read", &name, tail)? {
                Tail::Clean => {}
                Tail::Damaged { witness } => {
                    let reason = match bad {
                        Some(WalkError::Bad { reason, .. }) => reason,
                        _ => "there is data behind the footer",
                    };
                    let reason =
                        format!("{reason}; it was durable once, as the frame at offset {witness} shows");
                    return Err(corrupt(self.fs, &name, scanned.end, &reason));
                }
                Tail::Torn { end } if scanned.sealed => {
                    let reason = format!("there is data behind the footer, up to offset {end}");
                    return Err(corrupt(self.fs, &name, scanned.end, &reason));
                }
                Tail::Torn { end } => {
                    warn!(
                        file = %self.fs.path(&name).display(),
                        offset = scanned.end,
                        bytes = end - scanned.end,
                        "cut off a write that was interrupted; no acknowledged batch is lost"
                    );
                    at(self.fs, "cut", &name, clear(file.as_ref(), scanned.end, end))?;
                }
            }
        }
        // After a kill, complete batches may be there that no fsync covered: they are shown from now on. After a failed
        // fsync they may be in the system's cache alone and count as written there, so that an fsync would leave them
        // out: they have to be written again.
        at(self.fs, "write again", &name, write_again(file.as_ref(), scanned.proven, scanned.end))?;
        at(self.fs, "fsync", &name, file.sync_all())?;
        let dir = self.fs.sync_dir();
        dir.map_err(|source| OpenError::Io { operation: "fsync", path: config.dir.clone(), source })?;
        let active = Active {
            header,
            file,
            end: scanned.end,
            durable: scanned.end,
            capacity: if len > scanned.end { len } else { config.segment_bytes },
            allocated: len > scanned.end,
            sealed: scanned.sealed,
            marked: scanned.marked,
        };
        Ok((active, scanned))
    }

    /// Removes files of which the log says that nothing of them is needed.
    pub(super) fn remove_retired(
        &self,
        found: &BTreeSet<u32>,
        names: &[String],
        last: u32,
        scanned: &Scanned,
    ) -> Result<(), OpenError> {
        let needed =
            |id: &u32| *id == last || (scanned.manifest.contains(id) && !scanned.retired.contains(id));
        for id in found.iter().filter(|id| !needed(id)) {
            info!(segment = id, "removing a segment that was retired before the last stop");
            at(self.fs, "remove", &segment_name(*id), self.fs.remove(&segment_name(*id)))?;
        }
        for name in names {
            if parse_name(name, "hint").is_some_and(|id| !needed(&id)) {
                at(self.fs, "remove", name, self.fs.remove(name))?;
            }
        }
        Ok(())
    }

    /// Opens a segment that is not the last: it must be complete.
    pub(super) fn sealed_segment(&self, id: u32) -> Result<Sealed, OpenError> {
        let (file, header) = self.open_segment(id)?;
        let len = at(self.fs, "read", &segment_name(id), file.len())?;
        let mut segment = Segment::new(file.clone());
        segment.sealed = true;
        if let Ok((summary, reader)) = hint::open(self.fs, header) {
            if len < summary.end {
                return Err(corrupt(
                    self.fs,
                    &segment_name(id),
                    len,
                    "the file is shorter than when it was completed",
                ));
            }
            segment.len = summary.end;
            self.trim(id, file.as_ref(), len, summary.end);
            let run = Run { segment: id, source: RunSource::Hint(reader) };
            return Ok(Sealed { segment, run, header, last_seq: summary.last_seq });
        }
        let (items, Summary { end, last_seq, .. }) = self.rescan(id, file.as_ref(), header)?;
        segment.len = end;
        self.trim(id, file.as_ref(), len, end);
        // Where the hint can be written, the list of keys need not stay in memory until the index is built.
        let source = match hint::open(self.fs, header) {
            Ok((_, reader)) => RunSource::Hint(reader),
            Err(_) => RunSource::Items(items),
        };
        Ok(Sealed { segment, run: Run { segment: id, source }, header, last_seq })
    }

    /// Gives back the space behind a footer, where a crash came before that.
    fn trim(&self, id: u32, file: &dyn File, len: u64, end: u64) {
        if len > end
            && let Err(error) = file.set_len(end)
        {
            warn!(segment = id, %error, "could not give back unused space of a segment");
        }
    }

    /// Reads a complete segment and makes its hint again.
    fn rescan(
        &self,
        id: u32,
        file: &dyn File,
        header: SegmentHeader,
    ) -> Result<(Vec<Item>, Summary), OpenError> {
        info!(segment = id, "reading a whole segment: its hint is missing or damaged");
        let (scanned, bad) = self.scan(file, header)?;
        if let Some(bad) = bad {
            return Err(self.walk_error(id, bad));
        }
        if !scanned.sealed {
            return Err(corrupt(
                self.fs,
                &segment_name(id),
                scanned.end,
                "the file ends before the segment does",
            ));
        }
        let summary = Summary { header, end: scanned.end, last_seq: scanned.next_seq - 1 };
        if let Err(error) = hint::write(self.fs, &summary, &scanned.items) {
            warn!(file = %self.fs.path(&hint_name(id)).display(), %error, "could not write a hint");
        }
        Ok((scanned.items, summary))
    }

    /// Builds the index; a hint that turns out to be damaged is replaced by its segment.
    pub(super) fn index(
        &self,
        mut runs: Vec<Run>,
        segments: &mut BTreeMap<u32, Segment>,
    ) -> Result<Index, OpenError> {
        loop {
            let bad = match merge::merge(&mut runs, segments) {
                Ok(index) => return Ok(index),
                Err(bad) => bad,
            };
            for segment in segments.values_mut() {
                segment.live = 0;
                segment.deletions.clear();
            }
            for run in &mut runs {
                let rescan = run.segment == bad;
                if !rescan && matches!(run.source, RunSource::Items(_)) {
                    continue;
                }
                let (file, header) = self.open_segment(run.segment)?;
                run.source = match hint::open(self.fs, header) {
                    Ok((_, reader)) if !rescan => RunSource::Hint(reader),
                    _ => RunSource::Items(self.rescan(run.segment, file.as_ref(), header)?.0),
                };
            }
        }
    }
}

/// Writes a part of a file as it is read.
fn write_again(file: &dyn File, start: u64, end: u64) -> io::Result<()> {
    let mut bytes = vec![0; end.saturating_sub(start).min(64 << 10) as usize];
    let mut offset = start;
    while offset < end {
        let len = (end - offset).min(bytes.len() as u64) as usize;
        file.read_exact_at(&mut bytes[..len], offset)?;
        file.write_all_at(&bytes[..len], offset)?;
        offset += len as u64;
    }
    Ok(())
}

/// Overwrites a torn write with zeros, which keeps the space that the file has; cuts the file if that fails.
fn clear(file: &dyn File, start: u64, end: u64) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut offset = start;
    while offset < end {
        let len = (end - offset).min(ZEROS.len() as u64);
        if file.write_all_at(&ZEROS[..len as usize], offset).is_err() {
            return file.set_len(start);
        }
        offset += len;
    }
    Ok(())
}
