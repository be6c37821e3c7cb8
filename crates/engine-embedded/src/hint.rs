//! Hint files: for a complete segment, the sorted list of the newest record of each key in it, so that a start
//! reads keys and positions only. A hint repeats what its segment says; one that is missing or damaged is made
//! again from the segment.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::format::{
    FORMAT_VERSION, FrameKind, Record, RecordKind, SegmentHeader, hint_name, u32_at, u64_at,
};
use crate::fs::{File, Fs};
use crate::index::{INLINE_BYTES_MAX, put_varint, shared_len, take_varint};
use crate::log::TEMPORARY_SUFFIX;
use crate::walk::{Frame, WalkError};

const HINT_MAGIC: &[u8; 8] = b"ORLOPHNT";
const HINT_HEADER_LEN: usize = 48;
const BLOCK_HEADER_LEN: usize = 8;
/// A block is written when it has reached this size. Each has a checksum and can be read alone.
const BLOCK_BYTES: usize = 64 << 10;
/// The largest block that is believed: one entry may be larger than a block by its key.
const BLOCK_BYTES_MAX: usize = (1 << 30) + BLOCK_BYTES;
/// How the name begins under which a hint is written before it is complete.
pub(crate) const HINT_PREFIX: &str = "hint-";

/// The newest record of a key in one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) key: Vec<u8>,
    pub(crate) seq: u64,
    pub(crate) kind: ItemKind,
}

/// What that record does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ItemKind {
    Put { offset: u32, value_len: u32, inline: Option<Bytes> },
    Deletion { first: u32, last: u32 },
}

impl Default for ItemKind {
    fn default() -> ItemKind {
        ItemKind::Deletion { first: 0, last: 0 }
    }
}

/// The records of a segment, gathered frame by frame.
#[derive(Default)]
pub(crate) struct Gather(Vec<(Item, u32)>);

impl Gather {
    /// Adds the records of a frame.
    pub(crate) fn add(&mut self, frame: &Frame<'_>) -> Result<(), WalkError> {
        if !matches!(frame.header.kind, FrameKind::Batch | FrameKind::Relocation) {
            return Ok(());
        }
        for_each_record(frame, |record, offset| {
            let kind = match record.kind {
                RecordKind::Put => ItemKind::Put {
                    offset,
                    value_len: record.value.len() as u32,
                    inline: (record.value.len() <= INLINE_BYTES_MAX)
                        .then(|| Bytes::copy_from_slice(record.value)),
                },
                RecordKind::Deletion => {
                    let (first, last) = record.covers();
                    ItemKind::Deletion { first, last }
                }
            };
            self.0.push((Item { key: record.key.to_vec(), seq: record.seq, kind }, offset));
        })
    }

    /// The newest record of each key, sorted.
    pub(crate) fn finish(mut self) -> Vec<Item> {
        // The newest first among equals, which are then dropped.
        self.0.sort_unstable_by(|(one, one_offset), (other, other_offset)| {
            one.key.cmp(&other.key).then((other.seq, other_offset).cmp(&(one.seq, one_offset)))
        });
        self.0.dedup_by(|(later, _), (kept, _)| later.key == kept.key);
        self.0.into_iter().map(|(item, _)| item).collect()
    }
}

/// Hands each record of a frame to `each`, with its position in the segment.
pub(crate) fn for_each_record<'a>(
    frame: &Frame<'a>,
    mut each: impl FnMut(Record<'a>, u32),
) -> Result<(), WalkError> {
    let mut at = 0;
    let body: &'a [u8] = frame.body;
    for _ in 0..frame.header.count {
        let position = frame.body_start + at as u64;
        match (Record::decode(&body[at..]), u32::try_from(position)) {
            (Ok((record, _)), _) if record.seq > frame.header.seq => {
                return Err(WalkError::Bad {
                    offset: position,
                    reason: "a record was committed later than its frame was written",
                });
            }
            (Ok((record, len)), Ok(offset)) => {
                each(record, offset);
                at += len;
            }
            (Err(damage), _) => return Err(WalkError::Bad { offset: position, reason: damage.0 }),
            (_, Err(_)) => {
                return Err(WalkError::Bad {
                    offset: position,
                    reason: "a record lies beyond the largest segment",
                });
            }
        }
    }
    Ok(())
}

/// What a hint says about its segment as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) header: SegmentHeader,
    /// Where the segment ends.
    pub(crate) end: u64,
    /// The number of its last frame.
    pub(crate) last_seq: u64,
}

/// Writes the hint of a segment.
pub(crate) fn write(fs: &dyn Fs, summary: &Summary, items: &[Item]) -> io::Result<()> {
    let name = format!("{HINT_PREFIX}{}{TEMPORARY_SUFFIX}", summary.header.segment);
    let file = fs.create(&name)?;
    let written = write_to(file.as_ref(), summary, items);
    drop(file);
    if let Err(error) = written {
        let _ = fs.remove(&name);
        return Err(error);
    }
    // Not fsynced: after a power loss its checksums tell, and it is made again.
    fs.rename(&name, &hint_name(summary.header.segment))
}

fn write_to(file: &dyn File, summary: &Summary, items: &[Item]) -> io::Result<()> {
    let mut header = [0; HINT_HEADER_LEN];
    header[..8].copy_from_slice(HINT_MAGIC);
    header[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&summary.header.segment.to_le_bytes());
    header[16..20].copy_from_slice(&summary.header.salt.to_le_bytes());
    header[20..28].copy_from_slice(&summary.end.to_le_bytes());
    header[28..36].copy_from_slice(&summary.last_seq.to_le_bytes());
    header[36..44].copy_from_slice(&(items.len() as u64).to_le_bytes());
    let crc = crc32fast::hash(&header[..44]);
    header[44..].copy_from_slice(&crc.to_le_bytes());
    file.write_all_at(&header, 0)?;
    let mut at = HINT_HEADER_LEN as u64;
    let mut block = vec![0; BLOCK_HEADER_LEN];
    let mut key: &[u8] = &[];
    for item in items {
        encode(&mut block, key, item);
        key = &item.key;
        if block.len() >= BLOCK_BYTES {
            at = write_block(file, at, &mut block)?;
            key = &[];
        }
    }
    if block.len() > BLOCK_HEADER_LEN {
        write_block(file, at, &mut block)?;
    }
    Ok(())
}

fn write_block(file: &dyn File, at: u64, block: &mut Vec<u8>) -> io::Result<u64> {
    let (header, body) = block.split_at_mut(BLOCK_HEADER_LEN);
    header[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    header[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    file.write_all_at(block, at)?;
    let end = at + block.len() as u64;
    block.truncate(BLOCK_HEADER_LEN);
    Ok(end)
}

fn encode(out: &mut Vec<u8>, before: &[u8], item: &Item) {
    let shared = shared_len(before, &item.key);
    put_varint(out, shared as u64);
    put_varint(out, (item.key.len() - shared) as u64);
    out.extend_from_slice(&item.key[shared..]);
    put_varint(out, item.seq);
    match &item.kind {
        ItemKind::Deletion { first, last } => {
            put_varint(out, 0);
            put_varint(out, u64::from(*first));
            put_varint(out, u64::from(*last));
        }
        ItemKind::Put { offset, value_len, inline } => {
            put_varint(out, if inline.is_some() { 2 } else { 1 });
            put_varint(out, u64::from(*offset));
            put_varint(out, u64::from(*value_len));
            if let Some(value) = inline {
                out.extend_from_slice(value);
            }
        }
    }
}

/// Why a hint cannot be used.
#[derive(Debug)]
pub(crate) struct BadHint;

/// Reads a hint item by item.
pub(crate) struct HintReader {
    file: Arc<dyn File>,
    len: u64,
    at: u64,
    items_left: u64,
    block: Vec<u8>,
    block_at: usize,
    key: Vec<u8>,
    /// The last key of the block before; none before the first.
    last_of_block: Option<Vec<u8>>,
}

/// Opens the hint of the segment with this header.
pub(crate) fn open(fs: &dyn Fs, header: SegmentHeader) -> Result<(Summary, HintReader), BadHint> {
    let file = fs.open(&hint_name(header.segment)).map_err(|_| BadHint)?;
    let mut bytes = [0; HINT_HEADER_LEN];
    file.read_exact_at(&mut bytes, 0).map_err(|_| BadHint)?;
    let matches = &bytes[..8] == HINT_MAGIC
        && crc32fast::hash(&bytes[..44]) == u32_at(&bytes, 44)
        && u32_at(&bytes, 8) == FORMAT_VERSION
        && u32_at(&bytes, 12) == header.segment
        && u32_at(&bytes, 16) == header.salt;
    if !matches {
        return Err(BadHint);
    }
    let summary = Summary { header, end: u64_at(&bytes, 20), last_seq: u64_at(&bytes, 28) };
    let reader = HintReader {
        len: file.len().map_err(|_| BadHint)?,
        file,
        at: HINT_HEADER_LEN as u64,
        items_left: u64_at(&bytes, 36),
        block: Vec::new(),
        block_at: 0,
        key: Vec::new(),
        last_of_block: None,
    };
    Ok((summary, reader))
}

impl HintReader {
    /// Replaces `item` by the next one; `false` when there is none.
    pub(crate) fn next(&mut self, item: &mut Item) -> Result<bool, BadHint> {
        if self.items_left == 0 {
            return Ok(false);
        }
        if self.block_at == self.block.len() {
            if !self.block.is_empty() {
                self.last_of_block = Some(std::mem::take(&mut self.key));
            }
            self.read_block()?;
        }
        let mut bytes = &self.block[self.block_at..];
        let shared = take_varint(&mut bytes) as usize;
        let suffix = take(&mut bytes)?;
        // Each key once, in order: the merge of the hints, and with it every search, goes by that.
        let ascends = match (self.block_at, &self.last_of_block) {
            (0, Some(last)) => suffix > last.as_slice(),
            (0, None) => true,
            _ => self.key.get(shared..).is_some_and(|before| suffix > before),
        };
        if shared > self.key.len() || !ascends {
            return Err(BadHint);
        }
        self.key.truncate(shared);
        self.key.extend_from_slice(suffix);
        item.key.clear();
        item.key.extend_from_slice(&self.key);
        item.seq = take_varint(&mut bytes);
        let kind = take_varint(&mut bytes);
        let mut number = || u32::try_from(take_varint(&mut bytes)).map_err(|_| BadHint);
        let (first, second) = (number()?, number()?);
        item.kind = match kind {
            0 => ItemKind::Deletion { first, last: second },
            1 => ItemKind::Put { offset: first, value_len: second, inline: None },
            2 => {
                let (value, rest) = bytes.split_at_checked(second as usize).ok_or(BadHint)?;
                bytes = rest;
                let inline = Some(Bytes::copy_from_slice(value));
                ItemKind::Put { offset: first, value_len: second, inline }
            }
            _ => return Err(BadHint),
        };
        self.block_at = self.block.len() - bytes.len();
        self.items_left -= 1;
        Ok(true)
    }

    fn read_block(&mut self) -> Result<(), BadHint> {
        let mut header = [0; BLOCK_HEADER_LEN];
        self.file.read_exact_at(&mut header, self.at).map_err(|_| BadHint)?;
        let len = u32_at(&header, 0) as usize;
        let start = self.at + BLOCK_HEADER_LEN as u64;
        if len == 0 || len > BLOCK_BYTES_MAX || start + len as u64 > self.len {
            return Err(BadHint);
        }
        self.block.resize(len, 0);
        self.file.read_exact_at(&mut self.block, start).map_err(|_| BadHint)?;
        if crc32fast::hash(&self.block) != u32_at(&header, 4) {
            return Err(BadHint);
        }
        self.at = start + len as u64;
        self.block_at = 0;
        Ok(())
    }
}

fn take<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], BadHint> {
    let len = take_varint(bytes) as usize;
    let (taken, rest) = bytes.split_at_checked(len).ok_or(BadHint)?;
    *bytes = rest;
    Ok(taken)
}
