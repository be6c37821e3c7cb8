//! Which partition which user keys belong to.

use bytes::{BufMut, Bytes, BytesMut};
use model::{Key, KeyRange};

use crate::codec::{Damaged, Reader, put_varint, seal, unseal};
use crate::keyspace::KeySpace;
use crate::log::PartitionId;

/// The partitions of the user keys, in the order of their keys; together they cover all keys, each once.
///
/// Partition 1 begins before every key. A store without this record has that one alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMap {
    /// Each with its first key; that of the first is empty.
    partitions: Vec<(PartitionId, Bytes)>,
}

/// A cluster has at most so many partitions of user keys: a batch over all of them is one engine batch, and every process
/// follows every log.
pub const PARTITIONS_MAX: usize = 1024;

/// Why keys cannot be split like this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSplits {
    /// Not in order.
    #[error("split keys must ascend: {:?} does not come before {:?}", .0.bytes(), .1.bytes())]
    Order(Key, Key),
    /// Too many.
    #[error("{0} split keys are too many: there may be {max} partitions", max = PARTITIONS_MAX)]
    Number(usize),
}

impl Default for PartitionMap {
    fn default() -> PartitionMap {
        PartitionMap { partitions: vec![(PartitionId::FIRST, Bytes::new())] }
    }
}

impl PartitionMap {
    /// Partitions that are split before each of these keys.
    pub fn split_at(splits: &[Key]) -> Result<PartitionMap, BadSplits> {
        if splits.len() >= PARTITIONS_MAX {
            return Err(BadSplits::Number(splits.len()));
        }
        let pairs = splits.iter().zip(splits.iter().skip(1));
        for (key, next) in pairs {
            if key >= next {
                return Err(BadSplits::Order(key.clone(), next.clone()));
            }
        }
        let starts = std::iter::once(Bytes::new()).chain(splits.iter().map(|key| key.bytes().clone()));
        let partitions = (PartitionId::FIRST.0..).map(PartitionId).zip(starts);
        Ok(PartitionMap { partitions: partitions.collect() })
    }

    /// The partitions, in the order of their keys.
    pub fn ids(&self) -> impl Iterator<Item = PartitionId> {
        self.partitions.iter().map(|(id, _)| *id)
    }

    /// How many there are; at least one.
    pub fn count(&self) -> usize {
        self.partitions.len()
    }

    /// The place in the order of the partition that `key` belongs to.
    pub fn position(&self, key: &[u8]) -> usize {
        // The first one's start is empty, and below every key.
        self.partitions.partition_point(|(_, start)| start.as_ref() <= key).saturating_sub(1)
    }

    /// The keys of the partition at this place.
    pub fn range(&self, position: usize) -> KeyRange {
        let start = self.partitions.get(position).and_then(|(_, start)| Key::new(start.clone()).ok());
        let end = self.partitions.get(position + 1).map(|(_, start)| start.clone());
        match (start, end) {
            (None, None) => KeyRange::all(),
            (None, Some(end)) => KeyRange::below(end),
            (Some(start), None) => KeyRange::from(&start),
            (Some(start), Some(end)) => KeyRange::between(&start, end),
        }
    }

    /// The places of the partitions that may have keys in `range`: neighbours.
    pub fn overlapping(&self, range: &KeyRange) -> std::ops::Range<usize> {
        if range.is_empty() {
            return 0..0;
        }
        let first = self.position(range.start());
        let starts_inside = |(_, start): &&(PartitionId, Bytes)| range.compare_to_end(start).is_lt();
        let behind = self.partitions.iter().skip(first + 1).take_while(starts_inside).count();
        first..first + 1 + behind
    }

    /// The keys that the partitions begin with, but for the first.
    pub fn splits(&self) -> impl Iterator<Item = &Bytes> {
        self.partitions.iter().skip(1).map(|(_, start)| start)
    }

    /// The partition at this place.
    pub fn id(&self, position: usize) -> Option<PartitionId> {
        self.partitions.get(position).map(|(id, _)| *id)
    }
}

impl KeySpace {
    /// Where the [`PartitionMap`] is.
    pub fn partitions_key(&self) -> Bytes {
        self.meta("partitions")
    }

    /// The value of the record of the partitions.
    pub fn encode_partitions(&self, map: &PartitionMap) -> Bytes {
        let mut value = BytesMut::with_capacity(64);
        value.put_u8(ENCODING);
        put_varint(&mut value, map.partitions.len() as u64);
        for (id, start) in &map.partitions {
            put_varint(&mut value, id.0.into());
            put_varint(&mut value, start.len() as u64);
            value.extend_from_slice(start);
        }
        seal(self.sealed_part(&self.partitions_key()), value)
    }

    /// What the record of the partitions says.
    pub fn decode_partitions(&self, value: &Bytes) -> Result<PartitionMap, Damaged> {
        let key = self.partitions_key();
        let read = || {
            let mut reader = Reader::new(unseal(self.sealed_part(&key), value)?);
            if reader.u8()? != ENCODING {
                return Err("its encoding is unknown");
            }
            let count = reader.varint()?;
            let mut partitions: Vec<(PartitionId, Bytes)> = Vec::new();
            for _ in 0..count {
                let id = reader.u32()?;
                let start = reader.bytes()?;
                if partitions.last().is_some_and(|(_, before)| *before >= start) {
                    return Err("its keys are not in order");
                }
                partitions.push((PartitionId(id), start));
            }
            reader.end()?;
            match partitions.first() {
                Some((_, start)) if start.is_empty() => Ok(PartitionMap { partitions }),
                _ => Err("it does not begin before every key"),
            }
        };
        read().map_err(|reason| Damaged { kind: "meta", key: key.escape_ascii().to_string(), reason })
    }
}

const ENCODING: u8 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text.to_owned()).unwrap()
    }

    proptest! {
        #[test]
        fn a_map_reads_back_and_every_key_belongs_to_the_partition_whose_range_holds_it(
            splits in proptest::collection::btree_set("[a-f]{1,3}", 0..6),
            keys in proptest::collection::vec("[a-f]{1,3}", 1..20),
            (start, end) in ("[a-f]{1,3}", "[a-f]{1,3}"),
        ) {
            let splits: Vec<Key> = splits.iter().map(|split| key(split)).collect();
            let map = PartitionMap::split_at(&splits).unwrap();
            let space = KeySpace::new("blue").unwrap();
            prop_assert_eq!(space.decode_partitions(&space.encode_partitions(&map)), Ok(map.clone()));
            prop_assert_eq!(map.count(), splits.len() + 1);
            let range = KeyRange::between(&key(&start), end);
            let overlapping = map.overlapping(&range);
            for name in keys {
                let inside: Vec<_> =
                    (0..map.count()).filter(|&place| map.range(place).contains(name.as_bytes())).collect();
                prop_assert_eq!(inside, vec![map.position(name.as_bytes())]);
                if range.contains(name.as_bytes()) {
                    prop_assert!(overlapping.contains(&map.position(name.as_bytes())));
                }
            }
            for place in overlapping {
                prop_assert!(map.range(place).overlaps(&range));
            }
        }
    }

    #[test]
    fn splits_that_do_not_ascend_are_refused() {
        let refused = PartitionMap::split_at(&[key("b"), key("a")]).unwrap_err();
        assert_eq!(refused, BadSplits::Order(key("b"), key("a")));
        assert!(PartitionMap::split_at(&[key("a"), key("a")]).is_err());
        let many: Vec<Key> = (0..PARTITIONS_MAX).map(|number| key(&format!("{number:08}"))).collect();
        assert_eq!(PartitionMap::split_at(&many), Err(BadSplits::Number(PARTITIONS_MAX)));
    }

    #[test]
    fn a_map_that_leaves_keys_out_is_damage() {
        let space = KeySpace::new("blue").unwrap();
        let map = PartitionMap { partitions: vec![(PartitionId(1), "a".into())] };
        assert!(space.decode_partitions(&space.encode_partitions(&map)).is_err());
        let map = PartitionMap { partitions: vec![] };
        assert!(space.decode_partitions(&space.encode_partitions(&map)).is_err());
    }
}
