//! One record per version of a key: the encoded etcd `KeyValue`, ready to be spliced into a response, or a
//! tombstone. Never overwritten, so it can be cached for ever.

use bytes::{BufMut, Bytes, BytesMut};
use model::{Key, KeyMeta, KeyRange, LeaseId, RangeEnd, Revision};

use crate::codec::{CHECKSUM_LEN, Damaged, put_varint, seal, unseal};
use crate::keyspace::{KeySpace, Kind, Span, put_ordered, take_ordered};

const PUT: u8 = 1;
const TOMBSTONE: u8 = 2;

/// What an object record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A version of the key: the protobuf encoding of etcd's `mvccpb.KeyValue`.
    Put(Bytes),
    /// The key was deleted at this revision.
    Tombstone,
}

impl KeySpace {
    /// Where the object of `key` at `revision` is.
    pub fn object_key(&self, key: &[u8], revision: Revision) -> Bytes {
        let mut record = self.key(Kind::Object, key.len() + 10);
        put_ordered(&mut record, key);
        record.put_u64(revision.get().unsigned_abs());
        record.freeze()
    }

    /// The object records of all keys in `range`, every revision of each.
    pub fn object_span(&self, range: &KeyRange) -> Span {
        let at = |key: &[u8]| {
            let mut record = self.key(Kind::Object, key.len() + 2);
            put_ordered(&mut record, key);
            record.freeze()
        };
        let start = at(range.start());
        let end = match range.end() {
            RangeEnd::Single => {
                let mut end = BytesMut::from(start.as_ref());
                // The end mark of a key is 00 01, so that 00 02 lies behind all of its revisions.
                end.truncate(start.len() - 1);
                end.put_u8(2);
                end.freeze()
            }
            RangeEnd::Before(end) => at(end).max(start.clone()),
            RangeEnd::Unbounded => self.all(Kind::Object).end,
        };
        Span { start, end }
    }

    /// The key and revision that an object record's key names.
    pub fn decode_object_key(&self, record_key: &Bytes) -> Result<(Key, Revision), Damaged> {
        let read = || {
            let encoded = self.strip(Kind::Object, record_key).ok_or("its key is no object key")?;
            let (key, revision) = take_ordered(&encoded).ok_or("its key has no end mark")?;
            let revision = <[u8; 8]>::try_from(revision.as_ref()).map_err(|_| "its key has no revision")?;
            let revision =
                i64::try_from(u64::from_be_bytes(revision)).map_err(|_| "its revision is too large")?;
            Ok((Key::new(key).map_err(|_| "its key is empty")?, Revision::new(revision)))
        };
        read().map_err(|reason| damaged(record_key, reason))
    }

    /// The value of the object record of a put.
    pub fn encode_put(&self, record_key: &[u8], key: &[u8], meta: &KeyMeta, value: &[u8]) -> Bytes {
        let mut record = BytesMut::with_capacity(1 + key_value_len_max(key, value) + CHECKSUM_LEN);
        record.put_u8(PUT);
        put_key_value(&mut record, key, meta, value);
        seal(self.sealed_part(record_key), record)
    }

    /// The value of the object record of a deletion.
    pub fn encode_tombstone(&self, record_key: &[u8]) -> Bytes {
        let mut record = BytesMut::with_capacity(1 + CHECKSUM_LEN);
        record.put_u8(TOMBSTONE);
        seal(self.sealed_part(record_key), record)
    }

    /// What an object record holds. The `KeyValue` shares the record's bytes.
    pub fn decode_object(&self, record_key: &[u8], value: &Bytes) -> Result<Object, Damaged> {
        let read = || {
            let record = unseal(self.sealed_part(record_key), value)?;
            match record.first() {
                Some(&PUT) => Ok(Object::Put(record.slice(1..))),
                Some(&TOMBSTONE) if record.len() == 1 => Ok(Object::Tombstone),
                _ => Err("its encoding is unknown"),
            }
        };
        read().map_err(|reason| damaged(record_key, reason))
    }
}

/// The `KeyValue` in the value of a put's object record that was just encoded here.
pub fn key_value_of(sealed_put: &Bytes) -> Bytes {
    sealed_put.slice(1..sealed_put.len() - CHECKSUM_LEN)
}

fn damaged(record_key: &[u8], reason: &'static str) -> Damaged {
    Damaged { kind: "object", key: record_key.escape_ascii().to_string(), reason }
}

// The wire format of mvccpb.KeyValue: field numbers and types as in etcd's `kv.proto`, default values left out,
// fields in the order of their numbers, as every protobuf library writes them.
const FIELD_KEY: u8 = field(1, WIRE_BYTES);
const FIELD_CREATE_REVISION: u8 = field(2, WIRE_VARINT);
const FIELD_MOD_REVISION: u8 = field(3, WIRE_VARINT);
const FIELD_VERSION: u8 = field(4, WIRE_VARINT);
const FIELD_VALUE: u8 = field(5, WIRE_BYTES);
const FIELD_LEASE: u8 = field(6, WIRE_VARINT);
const WIRE_VARINT: u8 = 0;
const WIRE_BYTES: u8 = 2;

const fn field(number: u8, wire_type: u8) -> u8 {
    number << 3 | wire_type
}

/// The `KeyValue` as a list of keys returns it: without its value and, as etcd does it since 3.7, without its
/// lease.
pub fn encode_key_only(key: &[u8], meta: &KeyMeta) -> Bytes {
    let mut message = BytesMut::with_capacity(key_value_len_max(key, &[]));
    put_key_value(&mut message, key, &KeyMeta { lease: LeaseId::NONE, ..*meta }, &[]);
    message.freeze()
}

/// An encoded `KeyValue` with everything but its value.
pub fn without_value(key_value: &Bytes) -> Result<Bytes, &'static str> {
    let (key, meta) = (key_of(key_value)?, meta_of(key_value)?);
    let mut message = BytesMut::with_capacity(key_value_len_max(&key, &[]));
    put_key_value(&mut message, &key, &meta, &[]);
    Ok(message.freeze())
}

/// The key in an encoded `KeyValue`, sharing its bytes.
pub fn key_of(key_value: &Bytes) -> Result<Bytes, &'static str> {
    let mut reader = crate::codec::Reader::new(key_value.clone());
    match reader.u8() {
        Ok(FIELD_KEY) => reader.bytes(),
        _ => Err("it does not begin with its key"),
    }
}

/// The `KeyValue` of a deletion in a watch event: the key, and the revision that deleted it.
pub fn encode_deleted(key: &[u8], revision: Revision) -> Bytes {
    let mut message = BytesMut::with_capacity(key_value_len_max(key, &[]));
    put_bytes(&mut message, FIELD_KEY, key);
    put_number(&mut message, FIELD_MOD_REVISION, revision.get());
    message.freeze()
}

/// The value in an encoded `KeyValue`, sharing its bytes.
pub fn value_of(key_value: &Bytes) -> Result<Bytes, &'static str> {
    let mut reader = crate::codec::Reader::new(key_value.clone());
    loop {
        let Ok(tag) = reader.u8() else {
            return Ok(Bytes::new());
        };
        match tag & 7 {
            WIRE_VARINT => drop(reader.varint()?),
            WIRE_BYTES if tag == FIELD_VALUE => return reader.bytes(),
            WIRE_BYTES => drop(reader.bytes()?),
            _ => return Err("it has a field that no KeyValue has"),
        }
    }
}

/// The facts that an encoded `KeyValue` states about its version.
pub fn meta_of(key_value: &Bytes) -> Result<KeyMeta, &'static str> {
    let mut reader = crate::codec::Reader::new(key_value.clone());
    let (mut created, mut modified, mut version, mut lease, mut value_len) = (0, 0, 0, 0, 0);
    while let Ok(tag) = reader.u8() {
        match tag {
            FIELD_KEY => drop(reader.bytes()?),
            FIELD_CREATE_REVISION => created = reader.positive()?,
            FIELD_MOD_REVISION => modified = reader.positive()?,
            FIELD_VERSION => version = reader.positive()?,
            FIELD_VALUE => value_len = reader.bytes()?.len(),
            FIELD_LEASE => lease = reader.varint()?.cast_signed(),
            _ => return Err("it has a field that no KeyValue has"),
        }
    }
    Ok(KeyMeta {
        create_revision: Revision::new(created),
        mod_revision: Revision::new(modified),
        version,
        lease: LeaseId(lease),
        value_len: u32::try_from(value_len).map_err(|_| "its value is too long")?,
    })
}

fn key_value_len_max(key: &[u8], value: &[u8]) -> usize {
    // Two lengths of at most 5 bytes, four numbers of at most 10, six tags.
    key.len() + value.len() + 2 * 5 + 4 * 10 + 6
}

fn put_key_value(to: &mut BytesMut, key: &[u8], meta: &KeyMeta, value: &[u8]) {
    put_bytes(to, FIELD_KEY, key);
    put_number(to, FIELD_CREATE_REVISION, meta.create_revision.get());
    put_number(to, FIELD_MOD_REVISION, meta.mod_revision.get());
    put_number(to, FIELD_VERSION, meta.version);
    put_bytes(to, FIELD_VALUE, value);
    put_number(to, FIELD_LEASE, meta.lease.0);
}

fn put_number(to: &mut BytesMut, tag: u8, number: i64) {
    if number != 0 {
        to.put_u8(tag);
        put_varint(to, number.cast_unsigned());
    }
}

fn put_bytes(to: &mut BytesMut, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        to.put_u8(tag);
        put_varint(to, bytes.len() as u64);
        to.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests;
