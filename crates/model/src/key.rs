use std::cmp::Ordering;
use std::fmt;

use bytes::Bytes;
use thiserror::Error;

/// A user's key: any bytes, at least one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

/// A key without a byte was given where one is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a key needs at least one byte")]
pub struct EmptyKey;

impl Key {
    /// The key with these bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Key, EmptyKey> {
        let bytes = bytes.into();
        if bytes.is_empty() { Err(EmptyKey) } else { Ok(Key(bytes)) }
    }

    /// The bytes, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The bytes, borrowed.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// The smallest key above this one: this key with a zero byte behind it.
    pub fn successor(&self) -> Key {
        let mut bytes = Vec::with_capacity(self.0.len() + 1);
        bytes.extend_from_slice(&self.0);
        bytes.push(0);
        Key(bytes.into())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// Where a range of keys ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeEnd {
    /// The range is the single key that it starts with.
    Single,
    /// The first key that is no longer in the range. It may lie at or before the start: the range is then empty.
    Before(Bytes),
    /// There is no end: every key from the start on.
    Unbounded,
}

/// A contiguous range of user keys, as every request of the API names one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    start: Bytes,
    end: RangeEnd,
}

impl KeyRange {
    /// The range that consists of one key.
    pub fn single(key: &Key) -> KeyRange {
        KeyRange { start: key.bytes().clone(), end: RangeEnd::Single }
    }

    /// Every key of the store.
    pub fn all() -> KeyRange {
        KeyRange { start: Bytes::from_static(&[0]), end: RangeEnd::Unbounded }
    }

    /// The keys from `start` on and before `end`.
    pub fn between(start: &Key, end: impl Into<Bytes>) -> KeyRange {
        KeyRange { start: start.bytes().clone(), end: RangeEnd::Before(end.into()) }
    }

    /// The keys before `end`.
    pub fn below(end: impl Into<Bytes>) -> KeyRange {
        KeyRange { start: Bytes::from_static(&[0]), end: RangeEnd::Before(end.into()) }
    }

    /// Every key from `start` on.
    pub fn from(start: &Key) -> KeyRange {
        KeyRange { start: start.bytes().clone(), end: RangeEnd::Unbounded }
    }

    /// The range in etcd's notation: an empty `range_end` means the single key, one zero byte means no end, and
    /// anything else is the first key behind the range.
    pub fn from_wire(key: impl Into<Bytes>, range_end: impl Into<Bytes>) -> Result<KeyRange, EmptyKey> {
        let (start, end) = (key.into(), range_end.into());
        if start.is_empty() {
            return Err(EmptyKey);
        }
        let end = match end.as_ref() {
            [] => RangeEnd::Single,
            [0] => RangeEnd::Unbounded,
            _ => RangeEnd::Before(end),
        };
        Ok(KeyRange { start, end })
    }

    /// The first key that can be in the range.
    pub fn start(&self) -> &Bytes {
        &self.start
    }

    /// Where the range ends.
    pub fn end(&self) -> &RangeEnd {
        &self.end
    }

    /// Whether the range is written as one single key.
    pub fn is_single(&self) -> bool {
        self.end == RangeEnd::Single
    }

    /// Whether no key can be in the range.
    pub fn is_empty(&self) -> bool {
        match &self.end {
            RangeEnd::Before(end) => *end <= self.start,
            RangeEnd::Single | RangeEnd::Unbounded => false,
        }
    }

    /// Whether `key` is in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == self.start,
            RangeEnd::Before(end) => key >= self.start.as_ref() && key < end.as_ref(),
            RangeEnd::Unbounded => key >= self.start.as_ref(),
        }
    }

    /// How `key` lies to the range's end: `Less` when the range can hold `key` or something after it.
    pub fn compare_to_end(&self, key: &[u8]) -> Ordering {
        match &self.end {
            RangeEnd::Single if key <= self.start.as_ref() => Ordering::Less,
            RangeEnd::Single => Ordering::Greater,
            RangeEnd::Before(end) => key.cmp(end),
            RangeEnd::Unbounded => Ordering::Less,
        }
    }

    /// The part of the range behind `key`; `None` when there can be nothing.
    pub fn rest_after(&self, key: &Key) -> Option<KeyRange> {
        if self.is_single() {
            return None;
        }
        self.starting_at(&key.successor())
    }

    /// The part of the range from `key` on, which lies at or behind its start; `None` when there can be nothing.
    pub fn starting_at(&self, key: &Key) -> Option<KeyRange> {
        if self.is_single() {
            return (self.start == key.0).then(|| self.clone());
        }
        let rest = KeyRange { start: key.0.clone(), end: self.end.clone() };
        (!rest.is_empty()).then_some(rest)
    }

    /// Whether some key can be in both ranges.
    pub fn overlaps(&self, other: &KeyRange) -> bool {
        !self.is_empty()
            && !other.is_empty()
            && self.compare_to_end(&other.start) == Ordering::Less
            && other.compare_to_end(&self.start) == Ordering::Less
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text.to_owned()).unwrap()
    }

    #[test]
    fn the_three_notations_of_etcd() {
        let single = KeyRange::from_wire("a", "").unwrap();
        assert!(single.contains(b"a") && !single.contains(b"a\0") && single.is_single());
        let from = KeyRange::from_wire("a", "\0").unwrap();
        assert!(from.contains(b"a") && from.contains(b"\xff\xff") && !from.contains(b"A"));
        let between = KeyRange::from_wire("a", "c").unwrap();
        assert!(between.contains(b"a") && between.contains(b"bzz") && !between.contains(b"c"));
        assert_eq!(KeyRange::from_wire("", "x"), Err(EmptyKey));
    }

    #[test]
    fn an_end_at_or_before_the_start_is_an_empty_range() {
        for end in ["a", "b"] {
            let range = KeyRange::between(&key("b"), end);
            assert!(range.is_empty());
            assert!(!range.contains(b"a") && !range.contains(b"b"));
            assert!(!range.overlaps(&KeyRange::all()));
        }
    }

    #[test]
    fn overlap_is_what_a_common_key_says() {
        let pods = KeyRange::between(&key("/registry/pods/"), "/registry/pods0");
        let templates = KeyRange::between(&key("/registry/podtemplates/"), "/registry/podtemplates0");
        assert!(!pods.overlaps(&templates));
        assert!(pods.overlaps(&KeyRange::single(&key("/registry/pods/x"))));
        assert!(!pods.overlaps(&KeyRange::single(&key("/registry/pods"))));
        assert!(pods.overlaps(&KeyRange::from(&key("/registry/pods/zzz"))));
        let (one, next) = (KeyRange::single(&key("a")), KeyRange::single(&key("a").successor()));
        assert!(!one.overlaps(&next) && one.overlaps(&one));
    }
}
