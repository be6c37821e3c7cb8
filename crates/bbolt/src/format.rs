//! The bytes of pages. All numbers are little-endian, as on every machine that etcd supports.
//!
//! A page begins with its id (8 bytes), its kind (2), how many elements it has (2), and how many pages follow that
//! belong to it (4). Behind this header lie the elements, 16 bytes each, and behind them the keys and values.

use bytes::{Buf, BufMut, BytesMut};

/// The size of the pages that are written: that of a memory page where etcd usually runs.
pub const PAGE_BYTES: usize = 4096;
/// The smallest page that bbolt reads.
pub(crate) const PAGE_BYTES_MIN: usize = 1024;
/// The largest page that bbolt looks for.
pub(crate) const PAGE_BYTES_MAX: usize = 16 << 20;
/// bbolt takes no longer key.
pub(crate) const KEY_LEN_MAX: usize = 32768;
/// bbolt takes no longer value.
pub(crate) const VALUE_LEN_MAX: usize = (1 << 31) - 2;

pub(crate) const HEADER_BYTES: usize = 16;
pub(crate) const ELEMENT_BYTES: usize = 16;
/// Page id and sequence: what a leaf says of a bucket.
pub(crate) const BUCKET_BYTES: usize = 16;
/// Set in an element whose value is a bucket.
pub(crate) const IS_BUCKET: u32 = 1;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// What a meta page says: magic to checksum.
pub(crate) const META_BYTES: usize = 64;
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// What a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Kind {
    Branch = 1,
    Leaf = 2,
    Meta = 4,
    Freelist = 16,
}

impl Kind {
    pub(crate) fn from_flags(flags: u16) -> Option<Kind> {
        [Kind::Branch, Kind::Leaf, Kind::Meta, Kind::Freelist].into_iter().find(|&kind| kind as u16 == flags)
    }
}

/// The header of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: u64,
    /// The kind; an unknown one if the page is damaged.
    pub(crate) flags: u16,
    pub(crate) count: u16,
    /// How many more pages belong to this one.
    pub(crate) overflow: u32,
}

impl Header {
    pub(crate) fn put(self, to: &mut BytesMut) {
        to.put_u64_le(self.id);
        to.put_u16_le(self.flags);
        to.put_u16_le(self.count);
        to.put_u32_le(self.overflow);
    }

    pub(crate) fn take(mut from: &[u8]) -> Option<Header> {
        Some(Header {
            id: from.try_get_u64_le().ok()?,
            flags: from.try_get_u16_le().ok()?,
            count: from.try_get_u16_le().ok()?,
            overflow: from.try_get_u32_le().ok()?,
        })
    }
}

/// What a meta page says. The valid one with the higher transaction counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) page_bytes: u32,
    /// The root page of the bucket that holds the buckets.
    pub(crate) root: u64,
    pub(crate) sequence: u64,
    pub(crate) freelist: u64,
    /// The first page that is not in use, and neither is any behind it.
    pub(crate) page_count: u64,
    pub(crate) transaction: u64,
}

impl Meta {
    pub(crate) fn put(self, to: &mut BytesMut) {
        let start = to.len();
        to.put_u32_le(MAGIC);
        to.put_u32_le(VERSION);
        to.put_u32_le(self.page_bytes);
        to.put_u32_le(0);
        for number in [self.root, self.sequence, self.freelist, self.page_count, self.transaction] {
            to.put_u64_le(number);
        }
        let checksum = fnv_1a(to.get(start..).unwrap_or_default());
        to.put_u64_le(checksum);
    }

    /// What the meta page behind a header says; `None` when it is none, or damaged.
    pub(crate) fn take(from: &[u8]) -> Option<Meta> {
        let mut rest = from.get(..META_BYTES)?;
        let summed = fnv_1a(from.get(..META_BYTES - 8)?);
        if rest.get_u32_le() != MAGIC || rest.get_u32_le() != VERSION {
            return None;
        }
        let page_bytes = rest.get_u32_le();
        let _flags = rest.get_u32_le();
        let meta = Meta {
            page_bytes,
            root: rest.get_u64_le(),
            sequence: rest.get_u64_le(),
            freelist: rest.get_u64_le(),
            page_count: rest.get_u64_le(),
            transaction: rest.get_u64_le(),
        };
        let sizes = PAGE_BYTES_MIN..=PAGE_BYTES_MAX;
        let is_usable = page_bytes.is_power_of_two() && sizes.contains(&(page_bytes as usize));
        (rest.get_u64_le() == summed && is_usable).then_some(meta)
    }
}

fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}
