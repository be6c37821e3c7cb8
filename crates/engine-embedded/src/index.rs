//! The ordered index of all live records: keys and where their records are, packed into leaves.
//!
//! Two levels: a map from the lowest key that a leaf may hold to the leaf. The first leaf's is the empty key and
//! never goes, so every key has its leaf.

mod entry;
mod leaf;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

pub(crate) use entry::{Entry, INLINE_BYTES_MAX, put_varint, take_varint};
pub(crate) use leaf::shared_len;
use leaf::{LEAF_ENTRIES_MAX, LEAF_ENTRIES_MIN, Leaf};

/// The ordered map from keys to entries.
pub(crate) struct Index {
    leaves: BTreeMap<Box<[u8]>, Leaf>,
    len: usize,
}

impl Index {
    pub(crate) fn new() -> Index {
        Index { leaves: BTreeMap::from([(Box::default(), Leaf::default())]), len: 0 }
    }

    /// The number of entries.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that the index takes, not counting what the allocator adds. Walks the leaves.
    pub(crate) fn memory(&self) -> usize {
        self.leaves.iter().map(|(low, leaf)| low.len() + size_of::<Box<[u8]>>() + leaf.memory()).sum()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<Entry> {
        let (_, leaf) = self.leaves.range::<[u8], _>(up_to(key)).next_back()?;
        leaf.find(key).ok().map(|at| Entry::decode(leaf.payload(at)))
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.leaves.range::<[u8], _>(up_to(key)).next_back().is_some_and(|(_, leaf)| leaf.find(key).is_ok())
    }

    /// Sets the entry of `key` and returns the one before.
    pub(crate) fn insert(&mut self, key: &[u8], entry: &Entry) -> Option<Entry> {
        let mut payload = Vec::with_capacity(16 + INLINE_BYTES_MAX);
        entry.encode(&mut payload);
        let (_, leaf) = self.leaves.range_mut::<[u8], _>(up_to(key)).next_back()?;
        match leaf.find(key) {
            Ok(at) => {
                let old = Entry::decode(leaf.payload(at));
                leaf.replace(at, &payload);
                Some(old)
            }
            Err(at) => {
                leaf.insert(at, key, &payload);
                self.len += 1;
                if leaf.is_overfull() {
                    // Keys that arrive in order (a log's slots) fill their leaf and then begin another, instead
                    // of leaving every leaf half full.
                    let middle = if at + 1 == leaf.len() { at } else { leaf.len() / 2 };
                    let (low, right) = leaf.split(middle);
                    self.leaves.insert(low, right);
                }
                None
            }
        }
    }

    /// Removes `key` and returns its entry.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let (low, leaf) = self.leaves.range_mut::<[u8], _>(up_to(key)).next_back()?;
        let at = leaf.find(key).ok()?;
        let old = Entry::decode(leaf.payload(at));
        leaf.remove(at);
        self.len -= 1;
        if leaf.len() == 0 && !low.is_empty() {
            // The leaf before takes over its keys.
            let low = low.clone();
            self.leaves.remove(&low);
        } else if leaf.len() < LEAF_ENTRIES_MIN {
            self.join_at(key);
        }
        Some(old)
    }

    /// Joins the leaf of `key` with the one behind it if that saves one.
    fn join_at(&mut self, key: &[u8]) {
        let mut behind = self.leaves.range::<[u8], _>((Bound::Excluded(key), Bound::Unbounded));
        let Some((next_low, next)) = behind.next() else { return };
        let Some((_, leaf)) = self.leaves.range::<[u8], _>(up_to(key)).next_back() else { return };
        if !leaf.fits_with(next) {
            return;
        }
        let next_low = next_low.clone();
        let Some(next) = self.leaves.remove(&next_low) else { return };
        if let Some((_, leaf)) = self.leaves.range_mut::<[u8], _>(up_to(key)).next_back() {
            leaf.join(&next);
        }
    }

    /// Visits the entries from `start` up to before `end`, lowest first.
    pub(crate) fn ascend(
        &self,
        start: Bound<&[u8]>,
        end: Option<&[u8]>,
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) {
        let from = match start {
            Bound::Included(key) | Bound::Excluded(key) => key,
            Bound::Unbounded => &[],
        };
        let Some((low, _)) = self.leaves.range::<[u8], _>(up_to(from)).next_back() else { return };
        let mut key = Vec::new();
        for (index, (_, leaf)) in
            self.leaves.range::<[u8], _>((Bound::Included(low.as_ref()), Bound::Unbounded)).enumerate()
        {
            let first = if index > 0 {
                0
            } else {
                match leaf.find(from) {
                    Ok(at) if matches!(start, Bound::Excluded(_)) => at + 1,
                    Ok(at) | Err(at) => at,
                }
            };
            for at in first..leaf.len() {
                leaf.key_into(at, &mut key);
                if end.is_some_and(|end| key.as_slice() >= end) || visit(&key, leaf.payload(at)).is_break() {
                    return;
                }
            }
        }
    }

    /// Visits the entries before `end` down to `start`, highest first.
    pub(crate) fn descend(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) {
        let upper = end.map_or(Bound::Unbounded, Bound::Included);
        let mut key = Vec::new();
        for (index, (_, leaf)) in self.leaves.range::<[u8], _>((Bound::Unbounded, upper)).rev().enumerate() {
            let behind = match end {
                Some(end) if index == 0 => leaf.find(end).unwrap_or_else(|at| at),
                _ => leaf.len(),
            };
            for at in (0..behind).rev() {
                leaf.key_into(at, &mut key);
                if key.as_slice() < start || visit(&key, leaf.payload(at)).is_break() {
                    return;
                }
            }
        }
    }

    /// The lowest keys of the leaves that begin inside of the span: each about as far from the next in entries.
    pub(crate) fn leaf_bounds(&self, start: &[u8], end: Option<&[u8]>) -> Vec<&[u8]> {
        if end.is_some_and(|end| end <= start) {
            return Vec::new();
        }
        let upper = end.map_or(Bound::Unbounded, Bound::Excluded);
        self.leaves.range::<[u8], _>((Bound::Excluded(start), upper)).map(|(low, _)| low.as_ref()).collect()
    }
}

/// The span of all leaf bounds that can have `key` in their leaf.
fn up_to(key: &[u8]) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (Bound::Unbounded, Bound::Included(key))
}

/// A leaf of a built index has this many entries: some room is left, so that the first inserts do not split every
/// leaf.
const BUILT_ENTRIES: usize = LEAF_ENTRIES_MAX * 7 / 8;
/// And no more than this many bytes of keys and payloads, or one entry.
const BUILT_BYTES: usize = 12 << 10;

/// Builds an index from keys in ascending order.
pub(crate) struct Builder {
    index: Index,
    /// The lowest key that the next leaf may hold.
    low: Box<[u8]>,
    /// The keys and payloads of the next leaf, and where each key and payload ends.
    bytes: Vec<u8>,
    ends: Vec<(usize, usize)>,
    /// The last key of the leaf before.
    last: Vec<u8>,
}

impl Builder {
    pub(crate) fn new() -> Builder {
        Builder {
            index: Index::new(),
            low: Box::default(),
            bytes: Vec::new(),
            ends: Vec::new(),
            last: Vec::new(),
        }
    }

    /// Adds an entry whose key is above all those added before.
    pub(crate) fn push(&mut self, key: &[u8], entry: &Entry) {
        if self.ends.is_empty() && self.index.len > 0 {
            self.low = key[..(shared_len(&self.last, key) + 1).min(key.len())].into();
        }
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        entry.encode(&mut self.bytes);
        self.ends.push((key_end, self.bytes.len()));
        self.index.len += 1;
        if self.ends.len() >= BUILT_ENTRIES || self.bytes.len() >= BUILT_BYTES {
            self.last.clear();
            self.last.extend_from_slice(key);
            self.flush();
        }
    }

    fn flush(&mut self) {
        let low = std::mem::take(&mut self.low);
        self.index.leaves.insert(low, Leaf::from_sorted(&self.bytes, &self.ends));
        self.bytes.clear();
        self.ends.clear();
    }

    pub(crate) fn finish(mut self) -> Index {
        if !self.ends.is_empty() {
            self.flush();
        }
        self.index
    }
}
