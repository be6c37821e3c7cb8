//! One record per live key with all that is known of it but its value: point look-ups, counts and key lists need
//! no more. Deleting a key deletes its record.

use bytes::{BufMut, Bytes, BytesMut};
use model::{Key, KeyMeta, KeyRange, LeaseId, RangeEnd, Revision};

use crate::codec::{Damaged, Reader, put_varint, seal, unseal};
use crate::keyspace::{KeySpace, Kind, Span};

const ENCODING: u8 = 1;

impl KeySpace {
    /// Where the index record of `key` is.
    pub fn index_key(&self, key: &[u8]) -> Bytes {
        let mut record = self.key(Kind::Index, key.len());
        record.extend_from_slice(key);
        record.freeze()
    }

    /// Every index record.
    pub fn index_span(&self) -> Span {
        self.all(Kind::Index)
    }

    /// The index records of the keys in `range`.
    pub fn index_span_of(&self, range: &KeyRange) -> Span {
        let start = self.index_key(range.start());
        let end = match range.end() {
            RangeEnd::Single => {
                let mut end = BytesMut::from(start.as_ref());
                end.put_u8(0);
                end.freeze()
            }
            RangeEnd::Before(end) => self.index_key(end).max(start.clone()),
            RangeEnd::Unbounded => self.all(Kind::Index).end,
        };
        Span { start, end }
    }

    /// The value of an index record.
    pub fn encode_index(&self, record_key: &[u8], meta: &KeyMeta) -> Bytes {
        let mut value = BytesMut::with_capacity(32);
        value.put_u8(ENCODING);
        put_meta(&mut value, meta);
        seal(self.sealed_part(record_key), value)
    }

    /// The user key and its facts that an index record holds.
    pub fn decode_index(&self, record_key: &Bytes, value: &Bytes) -> Result<(Key, KeyMeta), Damaged> {
        let read = || {
            let mut reader = Reader::new(unseal(self.sealed_part(record_key), value)?);
            if reader.u8()? != ENCODING {
                return Err("its encoding is unknown");
            }
            let meta = take_meta(&mut reader)?;
            reader.end()?;
            let key = self.strip(Kind::Index, record_key).ok_or("its key is no index key")?;
            Ok((Key::new(key).map_err(|_| "its key is empty")?, meta))
        };
        read().map_err(|reason| Damaged { kind: "index", key: record_key.escape_ascii().to_string(), reason })
    }
}

pub(crate) fn put_meta(to: &mut BytesMut, meta: &KeyMeta) {
    put_varint(to, meta.mod_revision.get().unsigned_abs());
    put_varint(to, meta.create_revision.get().unsigned_abs());
    put_varint(to, meta.version.unsigned_abs());
    // A client may choose any lease id but zero, negative ones too.
    put_varint(to, meta.lease.0.cast_unsigned());
    put_varint(to, meta.value_len.into());
}

pub(crate) fn take_meta(reader: &mut Reader) -> Result<KeyMeta, &'static str> {
    Ok(KeyMeta {
        mod_revision: Revision::new(reader.positive()?),
        create_revision: Revision::new(reader.positive()?),
        version: reader.positive()?,
        lease: LeaseId(reader.varint()?.cast_signed()),
        value_len: reader.u32()?,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn any_meta() -> impl Strategy<Value = KeyMeta> {
        (0..i64::MAX, 0..i64::MAX, 0..i64::MAX, any::<i64>(), any::<u32>()).prop_map(
            |(modified, created, version, lease, value_len)| KeyMeta {
                mod_revision: Revision::new(modified),
                create_revision: Revision::new(created),
                version,
                lease: LeaseId(lease),
                value_len,
            },
        )
    }

    pub(crate) fn any_key() -> impl Strategy<Value = Key> {
        proptest::collection::vec(any::<u8>(), 1..40).prop_map(|bytes| Key::new(bytes).unwrap())
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(key in any_key(), meta in any_meta()) {
            let space = KeySpace::new("p/").unwrap();
            let record = space.index_key(key.as_slice());
            let value = space.encode_index(&record, &meta);
            prop_assert_eq!(space.decode_index(&record, &value), Ok((key, meta)));
        }

        #[test]
        fn records_lie_in_the_order_of_their_keys(a in any_key(), b in any_key()) {
            let space = KeySpace::new("p/").unwrap();
            let (first, second) = (space.index_key(a.as_slice()), space.index_key(b.as_slice()));
            prop_assert_eq!(first.cmp(&second), a.cmp(&b));
            let span = space.index_span();
            prop_assert!(span.start <= first && first < span.end);
        }

        #[test]
        fn bytes_that_nobody_wrote_are_refused(key in any_key(), value: Vec<u8>) {
            let space = KeySpace::new("").unwrap();
            let _: Result<_, Damaged> = space.decode_index(&space.index_key(key.as_slice()), &value.into());
        }
    }
}
