//! Reads a segment frame by frame, and judges what stands behind the last good one.

use std::io;

use crate::format::{
    BODY_LEN_MAX, FRAME_HEADER_LEN, FRAME_MAGIC, FrameHeader, FrameKind, SEGMENT_HEADER_LEN, SegmentHeader,
};
use crate::fs::File;

/// Bytes that are read at once.
const WINDOW: usize = 1 << 20;

/// Why a frame could not be read.
#[derive(Debug)]
pub(crate) enum WalkError {
    /// The bytes at the offset are no good frame.
    Bad { offset: u64, reason: &'static str },
    /// The file could not be read.
    Io(io::Error),
}

/// A position in a segment.
pub(crate) struct Walker<'f> {
    file: &'f dyn File,
    len: u64,
    header: SegmentHeader,
    /// Where the next frame begins.
    pub(crate) at: u64,
    /// The number that the next frame must have.
    pub(crate) seq: u64,
    /// The footer was read.
    pub(crate) sealed: bool,
    window: Vec<u8>,
    window_start: u64,
}

/// A frame that was read.
pub(crate) struct Frame<'w> {
    pub(crate) header: FrameHeader,
    /// Where its body begins in the segment.
    pub(crate) body_start: u64,
    pub(crate) body: &'w [u8],
}

/// Reads the header of a segment.
pub(crate) fn read_header(file: &dyn File) -> Result<SegmentHeader, WalkError> {
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(WalkError::Bad { offset: 0, reason: "the segment header is cut short" });
        }
        Err(error) => return Err(WalkError::Io(error)),
    }
    SegmentHeader::decode(&bytes).map_err(|damage| WalkError::Bad { offset: 0, reason: damage.0 })
}

impl<'f> Walker<'f> {
    /// Before the first frame.
    pub(crate) fn new(file: &'f dyn File, header: SegmentHeader) -> io::Result<Walker<'f>> {
        Ok(Walker {
            file,
            len: file.len()?,
            header,
            at: SEGMENT_HEADER_LEN as u64,
            seq: header.first_seq,
            sealed: false,
            window: Vec::new(),
            window_start: 0,
        })
    }

    /// The next frame, checked; `None` behind the footer (a power loss may have left allocated space there) and
    /// at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'_>>, WalkError> {
        let start = self.at;
        if start == self.len || self.sealed {
            return Ok(None);
        }
        let bad = |reason| Err(WalkError::Bad { offset: start, reason });
        if self.len - start < FRAME_HEADER_LEN as u64 {
            return bad("a frame header is cut short");
        }
        let mut head = [0; FRAME_HEADER_LEN];
        head.copy_from_slice(self.bytes(start, FRAME_HEADER_LEN).map_err(WalkError::Io)?);
        let header = match FrameHeader::decode(&head, &self.header) {
            Ok(header) => header,
            Err(damage) => return bad(damage.0),
        };
        if header.seq != self.seq {
            return bad("a frame is missing before this one");
        }
        let body_start = start + FRAME_HEADER_LEN as u64;
        let body_len = header.body_len as usize;
        if body_len > BODY_LEN_MAX || self.len - body_start < body_len as u64 {
            return bad("a frame is cut short");
        }
        let body = self.bytes(body_start, body_len).map_err(WalkError::Io)?;
        if let Err(damage) = header.check(body) {
            return bad(damage.0);
        }
        self.at = body_start + body_len as u64;
        self.seq += 1;
        self.sealed = header.kind == FrameKind::Footer;
        let from = (body_start - self.window_start) as usize;
        Ok(Some(Frame { header, body_start, body: &self.window[from..from + body_len] }))
    }

    /// The bytes at `offset`, which the caller knows to lie in the file.
    fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let window_end = self.window_start + self.window.len() as u64;
        if offset < self.window_start || offset + len as u64 > window_end {
            let size = (len.max(WINDOW) as u64).min(self.len - offset) as usize;
            self.window.resize(size, 0);
            self.window_start = offset;
            if let Err(error) = self.file.read_exact_at(&mut self.window, offset) {
                self.window.clear();
                return Err(error);
            }
        }
        let from = (offset - self.window_start) as usize;
        Ok(&self.window[from..from + len])
    }
}

/// What stands behind the last good frame of the last segment.
pub(crate) enum Tail {
    /// Nothing but zeros.
    Clean,
    /// The remains of a write that was never known to be durable, up to this offset.
    Torn { end: u64 },
    /// A later frame was written when the bad place was already durable: this is no torn write.
    Damaged { witness: u64 },
}

/// Judges the bytes from the first bad frame at `bad` on; the good frames before it end with number `seq - 1`.
pub(crate) fn judge_tail(file: &dyn File, header: &SegmentHeader, bad: u64, seq: u64) -> io::Result<Tail> {
    let len = file.len()?;
    let mut end = bad;
    let mut at = bad;
    let mut window = Vec::new();
    while at < len {
        let size = (WINDOW as u64).min(len - at) as usize;
        window.resize(size, 0);
        file.read_exact_at(&mut window, at)?;
        if let Some(last) = window.iter().rposition(|&byte| byte != 0) {
            end = at + last as u64 + 1;
            if let Some(found) = find_witness(&window, header, bad, seq) {
                return Ok(Tail::Damaged { witness: at + found as u64 });
            }
        }
        if size < WINDOW {
            break;
        }
        // The windows overlap, so that no frame header falls between two of them.
        at += (WINDOW - FRAME_HEADER_LEN) as u64;
    }
    Ok(if end == bad { Tail::Clean } else { Tail::Torn { end } })
}

/// A frame header that proves the place `bad` to have been durable once.
fn find_witness(window: &[u8], header: &SegmentHeader, bad: u64, seq: u64) -> Option<usize> {
    window.windows(FRAME_HEADER_LEN).position(|bytes| {
        if bytes[0] != FRAME_MAGIC[0] || &bytes[..4] != FRAME_MAGIC {
            return false;
        }
        let mut head = [0; FRAME_HEADER_LEN];
        head.copy_from_slice(bytes);
        FrameHeader::decode(&head, header).is_ok_and(|frame| frame.seq >= seq && frame.durable_end > bad)
    })
}
