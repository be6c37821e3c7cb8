//! The bytes of a segment file: a header, then frames, one behind the other. A frame is written as a whole and
//! carries a checksum; each record in it carries its own, so that it can be checked when it is read alone.
//! All numbers are little-endian.

use thiserror::Error;

/// The version of everything in a data directory.
pub(crate) const FORMAT_VERSION: u32 = 1;

pub(crate) const SEGMENT_HEADER_LEN: usize = 32;
pub(crate) const FRAME_HEADER_LEN: usize = 44;
pub(crate) const RECORD_HEADER_LEN: usize = 21;
/// The value of a deletion: the first and the last segment that can hold an older version.
pub(crate) const DELETION_VALUE_LEN: usize = 8;
/// The largest body of a frame, so that every position in a segment fits 32 bits.
pub(crate) const BODY_LEN_MAX: usize = 1 << 30;

/// No store gets to frames with a higher number: one that has it was not written here, and nothing could follow it.
pub(crate) const SEQ_MAX: u64 = 1 << 62;

const SEGMENT_MAGIC: &[u8; 8] = b"ORLOPSEG";
pub(crate) const FRAME_MAGIC: &[u8; 4] = b"\xf5OrF";

/// What stands at the start of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) segment: u32,
    /// Goes into the checksum of every frame header, so that bytes of another segment, or of a value that looks
    /// like a frame, are never taken for a frame of this one.
    pub(crate) salt: u32,
    /// The number of the segment's first frame.
    pub(crate) first_seq: u64,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FrameKind {
    /// The records of one committed batch.
    Batch = 1,
    /// Records of an older segment, copied with the numbers they were committed under.
    Relocation = 2,
    /// The first frame of a segment: all segments that exist besides it.
    Manifest = 3,
    /// Names a segment of which nothing is needed any more.
    Retirement = 4,
    /// Nothing; its header says how far the segment is known to be durable.
    Mark = 5,
    /// The last frame: the segment is complete.
    Footer = 6,
}

/// What stands at the start of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: FrameKind,
    /// The number of records in it.
    pub(crate) count: u32,
    /// Its number: one more than that of the frame before, over all segments.
    pub(crate) seq: u64,
    /// Everything in this segment before this position was durable before the frame was written.
    pub(crate) durable_end: u64,
    pub(crate) body_len: u32,
    body_crc: u32,
}

/// What a record does to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RecordKind {
    Put = 1,
    Deletion = 2,
}

/// One record, in the bytes that it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) kind: RecordKind,
    /// The number of the batch that committed it.
    pub(crate) seq: u64,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

/// Bytes that are not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub(crate) struct Damage(pub(crate) &'static str);

/// The bytes that a record takes in a segment.
pub(crate) fn record_len(key_len: usize, value_len: usize) -> usize {
    RECORD_HEADER_LEN + key_len + value_len
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_LEN] {
        let mut bytes = [0; SEGMENT_HEADER_LEN];
        bytes[..8].copy_from_slice(SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.segment.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.salt.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.first_seq.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; SEGMENT_HEADER_LEN]) -> Result<SegmentHeader, Damage> {
        if &bytes[..8] != SEGMENT_MAGIC {
            return Err(Damage("it does not begin as a segment file does"));
        }
        if crc32fast::hash(&bytes[..28]) != u32_at(bytes, 28) {
            return Err(Damage("the checksum of the segment header does not match"));
        }
        if u32_at(bytes, 8) != FORMAT_VERSION {
            return Err(Damage("the segment has another format version than its directory"));
        }
        let first_seq = u64_at(bytes, 20);
        if first_seq > SEQ_MAX {
            return Err(Damage("the segment begins with a number that no store gets to"));
        }
        Ok(SegmentHeader { segment: u32_at(bytes, 12), salt: u32_at(bytes, 16), first_seq })
    }
}

impl FrameHeader {
    /// Reads the header of a frame of the segment with this header.
    pub(crate) fn decode(
        bytes: &[u8; FRAME_HEADER_LEN],
        segment: &SegmentHeader,
    ) -> Result<FrameHeader, Damage> {
        if &bytes[..4] != FRAME_MAGIC {
            return Err(Damage("no frame begins here"));
        }
        let mut hasher = crc32fast::Hasher::new_with_initial(segment.salt);
        hasher.update(&bytes[..40]);
        if hasher.finalize() != u32_at(bytes, 40) {
            return Err(Damage("the checksum of a frame header does not match"));
        }
        if u32_at(bytes, 8) != segment.segment {
            return Err(Damage("a frame belongs to another segment"));
        }
        let seq = u64_at(bytes, 16);
        if seq > SEQ_MAX {
            return Err(Damage("a frame has a number that no store gets to"));
        }
        let kind = match bytes[4] {
            1 => FrameKind::Batch,
            2 => FrameKind::Relocation,
            3 => FrameKind::Manifest,
            4 => FrameKind::Retirement,
            5 => FrameKind::Mark,
            6 => FrameKind::Footer,
            _ => return Err(Damage("a frame is of an unknown kind")),
        };
        Ok(FrameHeader {
            kind,
            count: u32_at(bytes, 12),
            seq,
            durable_end: u64_at(bytes, 24),
            body_len: u32_at(bytes, 32),
            body_crc: u32_at(bytes, 36),
        })
    }

    /// Checks the body that was read with this header.
    pub(crate) fn check(&self, body: &[u8]) -> Result<(), Damage> {
        if crc32fast::hash(body) != self.body_crc {
            return Err(Damage("the checksum of a frame does not match"));
        }
        Ok(())
    }
}

/// A frame that is being appended to a buffer.
pub(crate) struct FrameWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    count: u32,
}

/// Where a frame goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FramePlace {
    pub(crate) segment: u32,
    pub(crate) salt: u32,
    pub(crate) seq: u64,
    pub(crate) durable_end: u64,
}

impl<'a> FrameWriter<'a> {
    pub(crate) fn begin(out: &'a mut Vec<u8>) -> FrameWriter<'a> {
        let start = out.len();
        out.resize(start + FRAME_HEADER_LEN, 0);
        FrameWriter { out, start, count: 0 }
    }

    /// Appends a record and returns the position in the buffer at which it starts.
    pub(crate) fn record(&mut self, record: Record<'_>) -> usize {
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        self.out.push(record.kind as u8);
        self.out.extend_from_slice(&(record.key.len() as u32).to_le_bytes());
        self.out.extend_from_slice(&(record.value.len() as u32).to_le_bytes());
        self.out.extend_from_slice(&record.seq.to_le_bytes());
        self.out.extend_from_slice(record.key);
        self.out.extend_from_slice(record.value);
        let crc = crc32fast::hash(&self.out[start + 4..]);
        self.out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        self.count += 1;
        start
    }

    /// Appends a list of segments, the body of a manifest or a retirement.
    pub(crate) fn segments(&mut self, segments: impl IntoIterator<Item = u32>) {
        for segment in segments {
            self.out.extend_from_slice(&segment.to_le_bytes());
        }
    }

    pub(crate) fn end(self, kind: FrameKind, place: FramePlace) {
        let (header, body) = self.out[self.start..].split_at_mut(FRAME_HEADER_LEN);
        header[..4].copy_from_slice(FRAME_MAGIC);
        header[4] = kind as u8;
        header[8..12].copy_from_slice(&place.segment.to_le_bytes());
        header[12..16].copy_from_slice(&self.count.to_le_bytes());
        header[16..24].copy_from_slice(&place.seq.to_le_bytes());
        header[24..32].copy_from_slice(&place.durable_end.to_le_bytes());
        header[32..36].copy_from_slice(&(body.len() as u32).to_le_bytes());
        header[36..40].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        let mut hasher = crc32fast::Hasher::new_with_initial(place.salt);
        hasher.update(&header[..40]);
        header[40..44].copy_from_slice(&hasher.finalize().to_le_bytes());
    }
}

impl<'a> Record<'a> {
    /// Reads and checks the record at the start of `bytes`; returns it and its length.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<(Record<'a>, usize), Damage> {
        let Some((header, rest)) = bytes.split_at_checked(RECORD_HEADER_LEN) else {
            return Err(Damage("a record is cut short"));
        };
        let (key_len, value_len) = (u32_at(header, 5) as usize, u32_at(header, 9) as usize);
        let len = RECORD_HEADER_LEN + key_len + value_len;
        let Some(checked) = bytes.get(4..len) else {
            return Err(Damage("a record is cut short, or its lengths are damaged"));
        };
        if crc32fast::hash(checked) != u32_at(header, 0) {
            return Err(Damage("the checksum of a record does not match"));
        }
        let kind = match header[4] {
            1 => RecordKind::Put,
            2 if value_len == DELETION_VALUE_LEN => RecordKind::Deletion,
            _ => return Err(Damage("a record is of an unknown kind")),
        };
        let (key, value) = rest[..key_len + value_len].split_at(key_len);
        Ok((Record { kind, seq: u64_at(header, 13), key, value }, len))
    }

    /// The segments that a deletion covers.
    pub(crate) fn covers(&self) -> (u32, u32) {
        (u32_at(self.value, 0), u32_at(self.value, 4))
    }
}

/// The value of a deletion that covers the segments from `first` to `last`.
pub(crate) fn deletion_value(first: u32, last: u32) -> [u8; DELETION_VALUE_LEN] {
    let mut value = [0; DELETION_VALUE_LEN];
    value[..4].copy_from_slice(&first.to_le_bytes());
    value[4..].copy_from_slice(&last.to_le_bytes());
    value
}

/// The segments listed in the body of a manifest or a retirement.
pub(crate) fn listed_segments(body: &[u8]) -> Vec<u32> {
    body.chunks_exact(4).map(|bytes| u32_at(bytes, 0)).collect()
}

/// The number at `at`, where the caller knows there to be one.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

/// The number at `at`, where the caller knows there to be one.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

/// The file name of a segment.
pub(crate) fn segment_name(segment: u32) -> String {
    format!("{segment:010}.seg")
}

/// The file name of a segment's hint.
pub(crate) fn hint_name(segment: u32) -> String {
    format!("{segment:010}.hint")
}

/// The segment that a file name with this extension names.
pub(crate) fn parse_name(name: &str, extension: &str) -> Option<u32> {
    let (number, found) = name.split_once('.')?;
    (found == extension && number.len() == 10).then(|| number.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_no_store_gets_to_is_damage_although_its_checksum_is_right() {
        let mut header = SegmentHeader { segment: 1, salt: 5, first_seq: SEQ_MAX };
        assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
        let frame = |seq| {
            let mut bytes = Vec::new();
            let place = FramePlace { segment: 1, salt: 5, seq, durable_end: 0 };
            FrameWriter::begin(&mut bytes).end(FrameKind::Mark, place);
            FrameHeader::decode(bytes.as_slice().try_into().unwrap(), &header).map(|frame| frame.seq)
        };
        assert_eq!(frame(SEQ_MAX), Ok(SEQ_MAX));
        for number in [SEQ_MAX + 1, u64::MAX] {
            assert!(frame(number).unwrap_err().0.contains("no store gets to"));
        }
        header.first_seq = u64::MAX;
        assert!(SegmentHeader::decode(&header.encode()).unwrap_err().0.contains("no store gets to"));
    }
}
