//! The writer's end of the segment log: what is staged for the active segment, how it becomes durable, and how a
//! new segment begins. Owned by the writer thread alone.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::{Clock, PlantedBug, Random, is_planted};
use engine::CommitError;
use tracing::warn;

use crate::format::{
    FRAME_HEADER_LEN, FrameKind, FramePlace, FrameWriter, SEGMENT_HEADER_LEN, SegmentHeader, segment_name,
};
use crate::fs::{File, Fs, is_no_space};

/// The file that is set aside for emptying a full disk.
pub(crate) const RESERVE_NAME: &str = "RESERVE";
/// How the name of the next segment begins until it gets its own.
pub(crate) const SPARE_PREFIX: &str = "spare-";
/// How the names of files end that no longer matter when the directory is opened.
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";
/// On a disk that is nearly full a segment may be smaller than configured, down to this part of it.
const SPARE_DIVISOR_MAX: u64 = 16;

/// The segment that is written to.
pub(crate) struct Active {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<dyn File>,
    /// Where the next frame goes.
    pub(crate) end: u64,
    /// Everything before it was fsynced.
    pub(crate) durable: u64,
    /// Frames may be written up to here.
    pub(crate) capacity: u64,
    /// The space up to `capacity` was taken from the file system.
    pub(crate) allocated: bool,
    /// The footer is written.
    pub(crate) sealed: bool,
    /// A frame behind the last batch says that it is durable.
    pub(crate) marked: bool,
}

/// A file with space for the next segment.
pub(crate) struct Spare {
    pub(crate) name: String,
    pub(crate) file: Arc<dyn File>,
    pub(crate) len: u64,
}

/// Why the log did not take what was staged.
pub(crate) enum Failure {
    /// It is certain that nothing of it is in the log.
    Refused(CommitError),
    /// It is unknown; the log must not be written to again.
    Broken(String),
}

/// The active segment and what is staged for it.
pub(crate) struct Log {
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    segment_bytes: u64,
    pub(crate) active: Active,
    /// Frames behind `active.end` that are not written yet.
    buffer: Vec<u8>,
    /// The number of the next frame, and of the first that is not durable.
    next_seq: u64,
    settled_seq: u64,
    /// The bug is planted: nothing is fsynced.
    fsyncs_nothing: bool,
}

/// What a log needs to know of its surroundings.
pub(crate) struct LogParts {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) segment_bytes: u64,
}

impl Log {
    pub(crate) fn new(parts: LogParts, active: Active, next_seq: u64) -> Log {
        let LogParts { fs, clock, random, segment_bytes } = parts;
        Log {
            fs,
            clock,
            random,
            segment_bytes,
            active,
            buffer: Vec::new(),
            next_seq,
            settled_seq: next_seq,
            fsyncs_nothing: is_planted(PlantedBug::AckBeforeFsync),
        }
    }

    /// Whether a frame of `len` bytes goes into the active segment, with room left for the footer.
    pub(crate) fn fits(&mut self, len: usize) -> Result<bool, CommitError> {
        let end = self.active.end + (self.buffer.len() + len + FRAME_HEADER_LEN) as u64;
        if self.active.sealed || end > self.active.capacity {
            return Ok(false);
        }
        if !self.active.allocated {
            self.active
                .file
                .allocate(self.active.capacity)
                .map_err(|error| self.refusal("extend", &error))?;
            self.active.allocated = true;
        }
        Ok(true)
    }

    /// Bytes that still go into the active segment, besides what is staged.
    pub(crate) fn room(&self) -> u64 {
        let used = self.active.end + (self.buffer.len() + FRAME_HEADER_LEN) as u64;
        if self.active.sealed { 0 } else { self.active.capacity.saturating_sub(used) }
    }

    /// The number that the next frame gets.
    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Bytes that are staged.
    pub(crate) fn staged(&self) -> usize {
        self.buffer.len()
    }

    /// Stages a frame. `fill` writes its records; it is told the segment and the position of the buffer's start
    /// in it.
    pub(crate) fn stage<T>(
        &mut self,
        kind: FrameKind,
        fill: impl FnOnce(&mut FrameWriter<'_>, u32, u64) -> T,
    ) -> T {
        let segment = self.active.header.segment;
        let mut frame = FrameWriter::begin(&mut self.buffer);
        let filled = fill(&mut frame, segment, self.active.end);
        frame.end(
            kind,
            FramePlace {
                segment,
                salt: self.active.header.salt,
                seq: self.next_seq,
                durable_end: self.active.durable,
            },
        );
        self.next_seq += 1;
        filled
    }

    /// Makes everything staged durable. Answers how long the fsync took.
    pub(crate) fn flush(&mut self) -> Result<Duration, Failure> {
        self.write()?;
        let begun = self.clock.now();
        if !self.fsyncs_nothing
            && let Err(error) = self.active.file.sync_data()
        {
            // After a failed fsync the kernel may have dropped the pages and report success the next time.
            return Err(Failure::Broken(self.describe("fsync", &error)));
        }
        self.active.durable = self.active.end;
        self.settled_seq = self.next_seq;
        self.active.marked = false;
        Ok(self.clock.now().saturating_sub(begun))
    }

    /// Writes everything staged, without making it durable.
    fn write(&mut self) -> Result<(), Failure> {
        let written = self.active.file.write_all_at(&self.buffer, self.active.end);
        if let Err(error) = written {
            let refusal = self.refusal("write to", &error);
            self.roll_back(&error)?;
            return Err(Failure::Refused(refusal));
        }
        self.active.end += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Takes back what a failed write may have left behind the end.
    fn roll_back(&mut self, cause: &io::Error) -> Result<(), Failure> {
        self.buffer.clear();
        self.next_seq = self.settled_seq;
        let cut = self.active.file.set_len(self.active.end).and_then(|()| self.active.file.sync_all());
        self.active.allocated = false;
        cut.map_err(|error| {
            let cause = self.describe("write to", cause);
            Failure::Broken(format!("{cause}, and then {}", self.describe("truncate", &error)))
        })
    }

    /// Writes a frame that says how far the segment is durable, so that damage to the last batch cannot pass
    /// for a write that was cut off. It is not made durable itself: that comes with what follows.
    pub(crate) fn mark(&mut self) -> Result<(), Failure> {
        if self.active.marked || self.active.sealed || !matches!(self.fits(FRAME_HEADER_LEN), Ok(true)) {
            self.active.marked = true;
            return Ok(());
        }
        self.stage(FrameKind::Mark, |_, _, _| ());
        self.write()?;
        self.settled_seq = self.next_seq;
        self.active.marked = true;
        Ok(())
    }

    /// Stages the footer: the next flush completes the segment.
    pub(crate) fn stage_footer(&mut self) {
        self.stage(FrameKind::Footer, |_, _, _| ());
    }

    /// After the flush of a footer: gives back the space behind it.
    pub(crate) fn seal(&mut self) {
        self.active.sealed = true;
        if let Err(error) = self.active.file.set_len(self.active.end) {
            warn!(segment = self.active.header.segment, %error, "could not give back unused space of a segment");
        }
    }

    /// The file of a new segment that has room for a frame of `len` bytes besides its own.
    pub(crate) fn allocate_spare(&self, len: usize, segments: usize) -> Result<Spare, CommitError> {
        allocate_spare(self.fs.as_ref(), self.segment_bytes, spare_len(len, segments))
            .map_err(|error| self.refusal("allocate a segment file for", &error))
    }

    /// Whether a spare has room for a frame of `len` bytes.
    pub(crate) fn is_enough(&self, spare: &Spare, len: usize, segments: usize) -> bool {
        spare.len >= spare_len(len, segments)
    }

    /// Makes `spare` the active segment; the one before must be sealed. `segments` are those that exist.
    pub(crate) fn begin_segment(&mut self, spare: Spare, segments: &[u32]) -> Result<(), Failure> {
        let Some(segment) = self.active.header.segment.checked_add(1) else {
            let text = "there is no number left for another segment file".to_owned();
            return Err(Failure::Refused(CommitError::Unavailable(text)));
        };
        let active = begin_segment(
            self.fs.as_ref(),
            spare,
            SegmentHeader { segment, salt: self.random.next_u64() as u32, first_seq: self.next_seq },
            segments,
        )?;
        self.active = active;
        self.next_seq += 1;
        self.settled_seq = self.next_seq;
        Ok(())
    }

    fn describe(&self, operation: &str, error: &io::Error) -> String {
        let path = self.fs.path(&segment_name(self.active.header.segment));
        format!("could not {operation} {}: {error}", path.display())
    }

    fn refusal(&self, operation: &str, error: &io::Error) -> CommitError {
        refusal(error, self.describe(operation, error))
    }
}

fn refusal(error: &io::Error, text: String) -> CommitError {
    if is_no_space(error) {
        CommitError::NoSpace(format!("{text}; delete or compact data, or give the data directory more space"))
    } else {
        CommitError::Unavailable(text)
    }
}

/// The length of a segment that holds its own frames and one of `len` bytes.
fn spare_len(len: usize, segments: usize) -> u64 {
    (SEGMENT_HEADER_LEN + FRAME_HEADER_LEN + 4 * segments + len + FRAME_HEADER_LEN) as u64
}

/// Numbers the spare files of this process: one may be prepared while another is about to get its final name.
static SPARES: AtomicU64 = AtomicU64::new(0);

/// Takes space for a segment: as configured, or less on a disk that is nearly full, but at least `len_min`.
pub(crate) fn allocate_spare(fs: &dyn Fs, segment_bytes: u64, len_min: u64) -> io::Result<Spare> {
    let name = format!("{SPARE_PREFIX}{}{TEMPORARY_SUFFIX}", SPARES.fetch_add(1, Ordering::Relaxed));
    let file = fs.create(&name)?;
    let mut divisor = 1;
    loop {
        let len = (segment_bytes / divisor).max(len_min);
        match file.allocate(len) {
            Ok(()) => return Ok(Spare { name, file, len }),
            Err(error) => {
                let smaller = segment_bytes / (divisor * 2) >= len_min && divisor < SPARE_DIVISOR_MAX;
                if !is_no_space(&error) || !smaller {
                    drop(file);
                    // What was allocated of it must not be missing elsewhere.
                    let _ = fs.remove(&name);
                    return Err(error);
                }
                file.set_len(0)?;
                divisor *= 2;
            }
        }
    }
}

/// Writes the header and the manifest of a new segment and gives it its name, durably.
pub(crate) fn begin_segment(
    fs: &dyn Fs,
    spare: Spare,
    header: SegmentHeader,
    segments: &[u32],
) -> Result<Active, Failure> {
    let SegmentHeader { segment, salt, first_seq } = header;
    let mut bytes = header.encode().to_vec();
    let mut frame = FrameWriter::begin(&mut bytes);
    frame.segments(segments.iter().copied());
    frame.end(FrameKind::Manifest, FramePlace { segment, salt, seq: first_seq, durable_end: 0 });
    let name = segment_name(segment);
    let refuse = |error: io::Error| {
        let text = format!("could not begin {}: {error}", fs.path(&name).display());
        Failure::Refused(refusal(&error, text))
    };
    spare.file.write_all_at(&bytes, 0).map_err(refuse)?;
    spare.file.sync_all().map_err(refuse)?;
    fs.rename(&spare.name, &name).map_err(refuse)?;
    fs.sync_dir().map_err(|error| {
        Failure::Broken(format!("could not fsync the directory of {}: {error}", fs.path(&name).display()))
    })?;
    let end = bytes.len() as u64;
    Ok(Active {
        header,
        file: spare.file,
        end,
        durable: end,
        capacity: spare.len,
        allocated: true,
        sealed: false,
        marked: true,
    })
}
