use std::cmp::Ordering;

use super::entry::{put_varint, take_varint};

/// A leaf is split when it has more entries. Larger leaves share their prefix better; smaller ones cost less to
/// change, as a change moves half a leaf's bytes.
pub(crate) const LEAF_ENTRIES_MAX: usize = 64;
/// A leaf is split when it has more bytes, so that long keys do not make changes slow.
const LEAF_BYTES_MAX: usize = 16 << 10;
/// A leaf with fewer entries is joined with its neighbour if the two fit well into one.
pub(crate) const LEAF_ENTRIES_MIN: usize = 16;

/// A sorted run of keys, each with opaque bytes (its payload), packed: the prefix that all keys share is stored
/// once, at the front of `data`; entry `i` is at `offsets[i]`: the length of the rest of its key, that rest, and
/// its payload up to the next entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leaf {
    prefix_len: usize,
    offsets: Vec<u32>,
    data: Vec<u8>,
}

impl Leaf {
    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Bytes of memory that the leaf takes.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Leaf>() + self.offsets.capacity() * size_of::<u32>() + self.data.capacity()
    }

    pub(crate) fn is_overfull(&self) -> bool {
        self.len() > LEAF_ENTRIES_MAX || (self.data.len() > LEAF_BYTES_MAX && self.len() > 1)
    }

    /// Whether this leaf and `next` fit into one with room to spare.
    pub(crate) fn fits_with(&self, next: &Leaf) -> bool {
        self.len() + next.len() <= LEAF_ENTRIES_MAX * 3 / 4
            && self.data.len() + next.data.len() <= LEAF_BYTES_MAX / 2
    }

    fn prefix(&self) -> &[u8] {
        &self.data[..self.prefix_len]
    }

    fn span(&self, at: usize) -> (usize, usize) {
        let end = self.offsets.get(at + 1).map_or(self.data.len(), |&offset| offset as usize);
        (self.offsets[at] as usize, end)
    }

    /// The rest of the key of entry `at`, and its payload.
    fn entry(&self, at: usize) -> (&[u8], &[u8]) {
        let (start, end) = self.span(at);
        let mut bytes = &self.data[start..end];
        let suffix_len = take_varint(&mut bytes) as usize;
        bytes.split_at(suffix_len)
    }

    /// The payload of entry `at`.
    pub(crate) fn payload(&self, at: usize) -> &[u8] {
        self.entry(at).1
    }

    /// Writes the key of entry `at` into `key`.
    pub(crate) fn key_into(&self, at: usize, key: &mut Vec<u8>) {
        key.clear();
        key.extend_from_slice(self.prefix());
        key.extend_from_slice(self.entry(at).0);
    }

    fn key(&self, at: usize) -> Vec<u8> {
        let mut key = Vec::new();
        self.key_into(at, &mut key);
        key
    }

    /// The position of `key`, or the position at which it would be inserted.
    pub(crate) fn find(&self, key: &[u8]) -> Result<usize, usize> {
        let prefix = self.prefix();
        let head = &key[..key.len().min(prefix.len())];
        match head.cmp(prefix) {
            Ordering::Less => return Err(0),
            Ordering::Greater => return Err(self.len()),
            Ordering::Equal => {}
        }
        let suffix = &key[prefix.len()..];
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.entry(middle).0.cmp(suffix) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// Inserts an entry at the position that `find` named.
    pub(crate) fn insert(&mut self, at: usize, key: &[u8], payload: &[u8]) {
        if self.offsets.is_empty() {
            self.data.clear();
            self.data.extend_from_slice(key);
            self.prefix_len = key.len();
        } else {
            let shared = shared_len(self.prefix(), key);
            if shared < self.prefix_len {
                self.rebuild(shared);
            }
        }
        let mut encoded = Vec::with_capacity(key.len() - self.prefix_len + payload.len() + 2);
        encode(&mut encoded, &key[self.prefix_len..], payload);
        let start = self.offsets.get(at).map_or(self.data.len(), |&offset| offset as usize);
        self.offsets.insert(at, start as u32);
        self.splice(at, start, start, &encoded);
    }

    /// Replaces the payload of entry `at`.
    pub(crate) fn replace(&mut self, at: usize, payload: &[u8]) {
        let (_, end) = self.span(at);
        let start = end - self.payload(at).len();
        self.splice(at, start, end, payload);
    }

    /// Removes entry `at`.
    pub(crate) fn remove(&mut self, at: usize) {
        let (start, end) = self.span(at);
        self.splice(at, start, end, &[]);
        self.offsets.remove(at);
    }

    /// Puts `bytes` in the place of `start..end`, which lies in entry `at`, and moves the offsets behind it.
    fn splice(&mut self, at: usize, start: usize, end: usize, bytes: &[u8]) {
        let old_len = self.data.len();
        let tail_len = old_len - end;
        let new_len = old_len - (end - start) + bytes.len();
        if new_len > old_len {
            // Growth in small exact steps: most leaves are near their final size, and doubling would cost more
            // memory than the entries.
            if new_len > self.data.capacity() {
                self.data.reserve_exact(new_len - old_len + 128);
            }
            self.data.resize(new_len, 0);
        }
        self.data.copy_within(end..end + tail_len, start + bytes.len());
        self.data.truncate(new_len);
        self.data[start..start + bytes.len()].copy_from_slice(bytes);
        for offset in &mut self.offsets[at + 1..] {
            *offset = (*offset as usize + bytes.len() - (end - start)) as u32;
        }
    }

    /// Stores the entries again with a shared prefix of `prefix_len`, which is at most what all keys share.
    fn rebuild(&mut self, prefix_len: usize) {
        let mut rebuilt = Leaf::default();
        rebuilt.data.reserve_exact(self.data.len() + self.len() * self.prefix_len.saturating_sub(prefix_len));
        if self.len() > 0 {
            rebuilt.data.extend_from_slice(&self.key(0)[..prefix_len]);
            rebuilt.prefix_len = prefix_len;
        }
        rebuilt.extend(self, 0..self.len());
        *self = rebuilt;
    }

    /// Appends entries of `other`, whose keys all start with this leaf's prefix and sort behind its entries.
    fn extend(&mut self, other: &Leaf, range: std::ops::Range<usize>) {
        let mut key = Vec::new();
        for at in range {
            other.key_into(at, &mut key);
            self.offsets.push(self.data.len() as u32);
            encode(&mut self.data, &key[self.prefix_len..], other.payload(at));
        }
    }

    /// A leaf of keys and payloads that stand in `bytes` in ascending order, each ending as `ends` says.
    pub(crate) fn from_sorted(bytes: &[u8], ends: &[(usize, usize)]) -> Leaf {
        let mut leaf = Leaf::default();
        let starts = || std::iter::once(0).chain(ends.iter().map(|&(_, end)| end));
        let (Some(&(first_end, _)), Some(&(last_end, _)), Some(last_start)) =
            (ends.first(), ends.last(), starts().nth(ends.len().saturating_sub(1)))
        else {
            return leaf;
        };
        leaf.prefix_len = shared_len(&bytes[..first_end], &bytes[last_start..last_end]);
        leaf.data
            .reserve_exact(bytes.len() + 3 * ends.len() + leaf.prefix_len - leaf.prefix_len * ends.len());
        leaf.data.extend_from_slice(&bytes[..leaf.prefix_len]);
        leaf.offsets.reserve_exact(ends.len());
        for (start, &(key_end, end)) in starts().zip(ends) {
            leaf.offsets.push(leaf.data.len() as u32);
            encode(&mut leaf.data, &bytes[start + leaf.prefix_len..key_end], &bytes[key_end..end]);
        }
        leaf
    }

    /// The entries of the range as a leaf of their own, with the longest prefix.
    fn slice(&self, range: std::ops::Range<usize>) -> Leaf {
        let mut leaf = Leaf::default();
        if range.is_empty() {
            return leaf;
        }
        let first = self.key(range.start);
        leaf.prefix_len = shared_len(&first, &self.key(range.end - 1));
        leaf.data.extend_from_slice(&first[..leaf.prefix_len]);
        leaf.offsets.reserve_exact(range.len());
        leaf.extend(self, range);
        leaf.data.shrink_to_fit();
        leaf
    }

    /// Keeps the entries before `at`, and returns the others with a key that separates the two: greater than all
    /// that stay, at most the first that goes.
    pub(crate) fn split(&mut self, at: usize) -> (Box<[u8]>, Leaf) {
        let (last, first) = (self.key(at - 1), self.key(at));
        let separator = first[..(shared_len(&last, &first) + 1).min(first.len())].into();
        let right = self.slice(at..self.len());
        *self = self.slice(0..at);
        (separator, right)
    }

    /// Appends all entries of `next`, which sort behind this leaf's.
    pub(crate) fn join(&mut self, next: &Leaf) {
        if next.len() == 0 {
            return;
        }
        if self.len() == 0 {
            *self = next.clone();
            return;
        }
        let shared = shared_len(&self.key(0), &next.key(next.len() - 1));
        self.rebuild(shared);
        self.extend(next, 0..next.len());
    }
}

fn encode(out: &mut Vec<u8>, suffix: &[u8], payload: &[u8]) {
    put_varint(out, suffix.len() as u64);
    out.extend_from_slice(suffix);
    out.extend_from_slice(payload);
}

/// The number of bytes that two keys share at their start.
pub(crate) fn shared_len(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}
