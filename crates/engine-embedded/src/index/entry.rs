use bytes::Bytes;

/// Values of at most this many bytes are kept in the index itself: reading a million small records then costs no
/// file access, and the location beside it would take a third of that anyway.
pub(crate) const INLINE_BYTES_MAX: usize = 40;

/// Where the newest version of a record is, and its value when that is small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The segment file of the record.
    pub(crate) segment: u32,
    /// Where the record starts in it.
    pub(crate) offset: u32,
    /// The length of its value.
    pub(crate) value_len: u32,
    /// No segment before this one has an older version of the record that a later deletion must cover.
    pub(crate) oldest: u32,
    /// The value, when it has at most `INLINE_BYTES_MAX` bytes.
    pub(crate) inline: Option<Bytes>,
}

const FLAG_INLINE: u64 = 1;
const FLAG_OLDEST: u64 = 2;
const FLAG_BITS: u32 = 2;

impl Entry {
    /// Appends the entry to `out`.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut flags = 0;
        if self.inline.is_some() {
            flags |= FLAG_INLINE;
        }
        if self.oldest != self.segment {
            flags |= FLAG_OLDEST;
        }
        put_varint(out, u64::from(self.value_len) << FLAG_BITS | flags);
        put_varint(out, u64::from(self.segment));
        put_varint(out, u64::from(self.offset));
        if self.oldest != self.segment {
            put_varint(out, u64::from(self.segment.saturating_sub(self.oldest)));
        }
        if let Some(value) = &self.inline {
            out.extend_from_slice(value);
        }
    }

    /// Reads an entry that `encode` wrote. The bytes come from memory that only this crate writes, so they are
    /// not doubted: what is not there reads as zero.
    pub(crate) fn decode(mut bytes: &[u8]) -> Entry {
        let head = take_varint(&mut bytes);
        let segment = take_u32(&mut bytes);
        let offset = take_u32(&mut bytes);
        let value_len = u32::try_from(head >> FLAG_BITS).unwrap_or(u32::MAX);
        let oldest =
            if head & FLAG_OLDEST != 0 { segment.saturating_sub(take_u32(&mut bytes)) } else { segment };
        let inline = (head & FLAG_INLINE != 0).then(|| Bytes::copy_from_slice(bytes));
        Entry { segment, offset, value_len, oldest, inline }
    }
}

/// Appends a number in groups of 7 bits, lowest first.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number as u8) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number that `put_varint` wrote off the front of `bytes`; what is missing reads as zero.
pub(crate) fn take_varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let Some((&byte, rest)) = bytes.split_first() else { break };
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

fn take_u32(bytes: &mut &[u8]) -> u32 {
    u32::try_from(take_varint(bytes)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_as_it_was_written() {
        for inline in [None, Some(Bytes::new()), Some(Bytes::from_static(b"value"))] {
            for (segment, oldest, offset) in [(0, 0, 0), (7, 3, u32::MAX), (u32::MAX, 0, 300)] {
                let value_len = inline.as_ref().map_or(70_000, |value| value.len() as u32);
                let entry = Entry { segment, offset, value_len, oldest, inline: inline.clone() };
                let mut bytes = Vec::new();
                entry.encode(&mut bytes);
                assert_eq!(Entry::decode(&bytes), entry);
            }
        }
    }

    #[test]
    fn numbers_read_back_as_they_were_written() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            let mut rest = bytes.as_slice();
            assert_eq!((take_varint(&mut rest), rest.len()), (number, 0));
        }
    }
}
