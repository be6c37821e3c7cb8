//! A block: a head of 17 bytes, and zstd behind it.
//!
//! | bytes | |
//! |---|---|
//! | 1 | kind |
//! | 4 | its number, from 0 |
//! | 4 | length of what it holds |
//! | 4 | length of that, compressed |
//! | 4 | CRC-32 of the bytes before this, and of the compressed ones behind it |
//!
//! Numbers are little-endian.

use std::io::{self, Read};

/// What one block holds is at most so long: one key with the largest value that a server takes (64 MiB) has to fit.
pub const BLOCK_BYTES_MAX: usize = 96 << 20;
/// And compressed: what cannot be made smaller gets a little longer.
const STORED_BYTES_MAX: usize = BLOCK_BYTES_MAX + (1 << 20);

const HEAD_LEN: usize = 17;

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Head = 1,
    Leases = 2,
    Keys = 3,
    End = 4,
}

impl Kind {
    fn from_number(number: u8) -> Option<Kind> {
        [Kind::Head, Kind::Leases, Kind::Keys, Kind::End].into_iter().find(|kind| *kind as u8 == number)
    }
}

/// The bytes of a block.
pub(crate) fn encode(kind: Kind, number: u32, content: &[u8]) -> io::Result<Vec<u8>> {
    let too_long = || io::Error::other("a record is too long for a backup");
    if content.len() > BLOCK_BYTES_MAX {
        return Err(too_long());
    }
    let stored = zstd::bulk::compress(content, zstd::DEFAULT_COMPRESSION_LEVEL)?;
    let mut block = Vec::with_capacity(HEAD_LEN + stored.len());
    block.push(kind as u8);
    block.extend_from_slice(&number.to_le_bytes());
    for length in [content.len(), stored.len()] {
        block.extend_from_slice(&u32::try_from(length).map_err(|_| too_long())?.to_le_bytes());
    }
    let sum = checksum(&block, &stored);
    block.extend_from_slice(&sum.to_le_bytes());
    block.extend_from_slice(&stored);
    Ok(block)
}

fn checksum(head: &[u8], stored: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(stored);
    hasher.finalize()
}

/// Why there is no next block.
#[derive(Debug)]
pub(crate) enum NoBlock {
    /// The file ends here, or within it.
    CutOff,
    Damaged(&'static str),
    Io(io::Error),
}

/// A block that was read, and how long it is in the file.
pub(crate) struct Block {
    pub(crate) kind: Kind,
    pub(crate) content: Vec<u8>,
    pub(crate) len: u64,
}

/// Reads the block with this number.
pub(crate) fn decode(from: &mut impl Read, number: u32) -> Result<Block, NoBlock> {
    let mut head = [0; HEAD_LEN];
    read_exact(from, &mut head)?;
    let word = |at: usize| {
        let bytes = head.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        u32::from_le_bytes(bytes.unwrap_or_default())
    };
    let (raw_len, stored_len) = (word(5) as usize, word(9) as usize);
    if raw_len > BLOCK_BYTES_MAX || stored_len > STORED_BYTES_MAX {
        return Err(NoBlock::Damaged("it says that it is longer than any block"));
    }
    // Read as it comes: what a damaged length asks for is not allocated before it is there.
    let mut stored = Vec::new();
    from.take(stored_len as u64).read_to_end(&mut stored).map_err(NoBlock::Io)?;
    if stored.len() < stored_len {
        return Err(NoBlock::CutOff);
    }
    let (covered, _) = head.split_at(HEAD_LEN - 4);
    if checksum(covered, &stored) != word(13) {
        return Err(NoBlock::Damaged("its checksum does not match"));
    }
    if word(1) != number {
        return Err(NoBlock::Damaged("it is not in its place: blocks are missing, or in another order"));
    }
    let kind = Kind::from_number(head[0]).ok_or(NoBlock::Damaged("it is of an unknown kind"))?;
    let content = zstd::bulk::decompress(&stored, raw_len).ok().filter(|content| content.len() == raw_len);
    let content = content.ok_or(NoBlock::Damaged("it does not decompress"))?;
    Ok(Block { kind, content, len: (HEAD_LEN + stored_len) as u64 })
}

fn read_exact(from: &mut impl Read, to: &mut [u8]) -> Result<(), NoBlock> {
    from.read_exact(to).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => NoBlock::CutOff,
        _ => NoBlock::Io(error),
    })
}
