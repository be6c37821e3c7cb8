use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

/// The keys of one cluster's records: all of them start with the cluster's prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpace {
    prefix: Bytes,
}

/// A prefix was given that could collide with a record's kind.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the key prefix {0:?} must be at most {PREFIX_LEN_MAX} printable ASCII characters")]
pub struct BadPrefix(pub String);

/// Long enough for a name and a path; every record pays for it.
const PREFIX_LEN_MAX: usize = 64;

/// The records from `start` on and before `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first key.
    pub start: Bytes,
    /// The first key behind the span.
    pub end: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Kind {
    Meta = 1,
    Log = 2,
    Index = 3,
    Object = 4,
    System = 5,
}

impl KeySpace {
    /// The key space under `prefix`. It must be printable ASCII: kinds are control characters, so that no
    /// cluster's records can be mistaken for those of one whose prefix begins the same.
    pub fn new(prefix: &str) -> Result<KeySpace, BadPrefix> {
        let printable = prefix.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if !printable || prefix.len() > PREFIX_LEN_MAX {
            return Err(BadPrefix(prefix.to_owned()));
        }
        Ok(KeySpace { prefix: Bytes::copy_from_slice(prefix.as_bytes()) })
    }

    /// The prefix that it was made with.
    pub fn prefix(&self) -> &str {
        // It is ASCII, as it was checked to be.
        std::str::from_utf8(&self.prefix).unwrap_or_default()
    }

    /// A key of `kind` with room for `length` bytes behind it.
    pub(crate) fn key(&self, kind: Kind, length: usize) -> BytesMut {
        let mut key = BytesMut::with_capacity(self.prefix.len() + 1 + length);
        key.extend_from_slice(&self.prefix);
        key.put_u8(kind as u8);
        key
    }

    /// Every key of `kind`.
    pub(crate) fn all(&self, kind: Kind) -> Span {
        let mut end = BytesMut::from(self.prefix.as_ref());
        end.put_u8(kind as u8 + 1);
        Span { start: self.key(kind, 0).freeze(), end: end.freeze() }
    }

    /// Every record of this space, of whatever kind.
    pub fn all_records(&self) -> Span {
        Span { start: self.all(Kind::Meta).start, end: self.all(Kind::System).end }
    }

    /// What follows the kind in `key`, if it is a key of this space and kind.
    pub(crate) fn strip(&self, kind: Kind, key: &Bytes) -> Option<Bytes> {
        let start = self.prefix.len() + 1;
        let (before, _) = key.split_at_checked(start)?;
        (before.strip_prefix(self.prefix.as_ref()) == Some(&[kind as u8])).then(|| key.slice(start..))
    }

    /// What a record's checksum covers of its key: everything but the prefix.
    pub(crate) fn sealed_part<'k>(&self, key: &'k [u8]) -> &'k [u8] {
        key.get(self.prefix.len()..).unwrap_or_default()
    }
}

/// Appends `key` so that the order of encoded keys is the order of keys whatever follows: a zero byte becomes
/// `00 ff`, and the end is `00 01`.
pub(crate) fn put_ordered(to: &mut BytesMut, key: &[u8]) {
    let mut rest = key;
    while let Some(zero) = rest.iter().position(|&byte| byte == 0) {
        let (before, after) = rest.split_at(zero);
        to.extend_from_slice(before);
        to.extend_from_slice(&[0, 0xff]);
        rest = after.get(1..).unwrap_or_default();
    }
    to.extend_from_slice(rest);
    to.extend_from_slice(&[0, 1]);
}

/// The key at the front of `encoded`, and what follows it.
pub(crate) fn take_ordered(encoded: &Bytes) -> Option<(Bytes, Bytes)> {
    let first_zero = encoded.iter().position(|&byte| byte == 0)?;
    if encoded.get(first_zero + 1) == Some(&1) {
        // No zero byte in the key, as in almost all: share the bytes instead of copying them.
        return Some((encoded.slice(..first_zero), encoded.slice(first_zero + 2..)));
    }
    let mut key = BytesMut::with_capacity(encoded.len());
    let mut at = 0;
    loop {
        match (encoded.get(at)?, encoded.get(at + 1)) {
            (0, Some(0xff)) => {
                key.put_u8(0);
                at += 2;
            }
            (0, Some(1)) => return Some((key.freeze(), encoded.slice(at + 2..))),
            (0, _) => return None,
            (&byte, _) => {
                key.put_u8(byte);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_prefix_that_could_collide_is_refused() {
        assert!(KeySpace::new("").is_ok() && KeySpace::new("clusters/blue/").is_ok());
        for bad in ["a\u{1}", "ü", &"x".repeat(65)] {
            assert_eq!(KeySpace::new(bad), Err(BadPrefix(bad.to_owned())));
        }
    }

    #[test]
    fn all_records_are_those_of_every_kind_and_of_no_other_space() {
        for prefix in ["", "a/"] {
            let space = KeySpace::new(prefix).unwrap();
            let all = space.all_records();
            for kind in [Kind::Meta, Kind::Log, Kind::Index, Kind::Object, Kind::System] {
                let of_kind = space.all(kind);
                assert!(all.start <= of_kind.start && of_kind.end <= all.end, "{kind:?} under {prefix:?}");
            }
            assert!(!(all.start..all.end).contains(&KeySpace::new("a/b").unwrap().all_records().start));
        }
    }

    #[test]
    fn one_prefix_that_begins_another_shares_no_key_with_it() {
        let (short, long) = (KeySpace::new("a").unwrap(), KeySpace::new("ab").unwrap());
        for kind in [Kind::Meta, Kind::Log, Kind::Index, Kind::Object, Kind::System] {
            let (inner, outer) = (long.all(kind), short.all(kind));
            assert!(inner.start >= outer.end || inner.end <= outer.start);
        }
    }

    proptest! {
        #[test]
        fn the_order_of_encoded_keys_is_the_order_of_keys(
            a in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], 0..12),
            b in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()], 0..12),
            tail_a: [u8; 8], tail_b: [u8; 8],
        ) {
            let encode = |key: &[u8], tail: &[u8]| {
                let mut bytes = BytesMut::new();
                put_ordered(&mut bytes, key);
                bytes.extend_from_slice(tail);
                bytes.freeze()
            };
            let (first, second) = (encode(&a, &tail_a), encode(&b, &tail_b));
            prop_assert_eq!(first.cmp(&second), (&a, tail_a).cmp(&(&b, tail_b)));
            prop_assert_eq!(take_ordered(&first), Some((Bytes::from(a), Bytes::copy_from_slice(&tail_a))));
        }
    }
}
