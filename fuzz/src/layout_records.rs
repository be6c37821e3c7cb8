//! Every record of the store: what is read is what was written, byte by byte, or it is refused.
//!
//! An input is a byte for the kind of record, one for the length of its key, the key behind the prefix, and the value
//! without its checksum. The checksum is added here, as `docs/key-layout.md` describes it: damage is noticed by it, and
//! what lies behind it must be safe all the same.

use bytes::Bytes;
use layout::KeySpace;
use layout::log::PartitionId;
use layout::meta::Identity;
use layout::object::{Object, encode_key_only, key_of, meta_of, value_of, without_value};
use layout::system::SystemRecord;
use prost::Message;
use proto::mvccpb::KeyValue;

const PREFIX: &str = "blue/";

/// Reads the input as a record, and compares what is written of it again.
pub fn check(input: &[u8]) {
    let (Some((&kind, rest)), Ok(space)) = (input.split_first(), KeySpace::new(PREFIX)) else { return };
    let Some((&len, rest)) = rest.split_first() else { return };
    let (key, value) = rest.split_at(usize::from(len).min(rest.len()));
    let key = Bytes::from([PREFIX.as_bytes(), key].concat());
    match kind % 8 {
        0 => log(&space, &key, value),
        1 => index(&space, &key, value),
        2 => object(&space, &key, value),
        3 => system(&space, &key, value),
        4 => identity(&space, value),
        5 => compacted(&space, value),
        6 => reclaimed(&space, key.len() as u32, value),
        _ => key_value(&Bytes::copy_from_slice(value)),
    }
}

/// The value with its checksum, and one with a wrong checksum.
fn sealed(key: &[u8], value: &[u8]) -> (Bytes, Bytes) {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(value);
    hasher.update(&key[PREFIX.len()..]);
    let sum = hasher.finalize();
    let with = |sum: u32| Bytes::from([value, &sum.to_le_bytes()].concat());
    (with(sum), with(!sum))
}

fn log(space: &KeySpace, key: &Bytes, value: &[u8]) {
    if let Ok((partition, slot)) = space.decode_log_key(key) {
        assert_eq!(space.log_key(partition, slot), key);
    }
    let (right, wrong) = sealed(key, value);
    assert!(space.decode_log(key, &wrong).is_err());
    if let Ok(record) = space.decode_log(key, &right) {
        assert_eq!(space.encode_log(key, &record), right, "{record:?}");
    }
}

fn index(space: &KeySpace, key: &Bytes, value: &[u8]) {
    let (right, wrong) = sealed(key, value);
    assert!(space.decode_index(key, &wrong).is_err());
    if let Ok((user_key, meta)) = space.decode_index(key, &right) {
        assert_eq!(space.index_key(user_key.as_slice()), key);
        assert_eq!(space.encode_index(key, &meta), right, "{meta:?}");
    }
}

fn object(space: &KeySpace, key: &Bytes, value: &[u8]) {
    if let Ok((user_key, revision)) = space.decode_object_key(key) {
        assert_eq!(space.object_key(user_key.as_slice(), revision), key);
    }
    let (right, wrong) = sealed(key, value);
    assert!(space.decode_object(key, &wrong).is_err());
    match space.decode_object(key, &right) {
        Ok(Object::Put(message)) => {
            assert_eq!(message, value[1..]);
            key_value(&message);
        }
        Ok(Object::Tombstone) => assert_eq!(space.encode_tombstone(key), right),
        Err(_) => {}
    }
}

/// What reads the parts of a stored `KeyValue` agrees with the generated decoder on all that is written.
fn key_value(message: &Bytes) {
    let (key, value, meta) = (key_of(message), value_of(message), meta_of(message));
    let _: Result<_, _> = without_value(message);
    let Ok(read) = KeyValue::decode(message.clone()) else { return };
    let is_written = read.encode_to_vec() == message.as_ref()
        && !read.key.is_empty()
        && read.create_revision >= 0
        && read.mod_revision >= 0
        && read.version >= 0;
    if !is_written {
        return;
    }
    assert_eq!(key.as_ref(), Ok(&read.key));
    assert_eq!(value.as_ref(), Ok(&read.value));
    let meta = meta.expect("what is written has its facts");
    let facts = (meta.create_revision.get(), meta.mod_revision.get(), meta.version, meta.lease.0);
    assert_eq!(facts, (read.create_revision, read.mod_revision, read.version, read.lease));
    assert_eq!(meta.value_len as usize, read.value.len());
    let bare = KeyValue { value: Bytes::new(), ..read.clone() };
    assert_eq!(without_value(message), Ok(bare.encode_to_vec().into()));
    let key_only = KeyValue { lease: 0, ..bare };
    assert_eq!(encode_key_only(&read.key, &meta), key_only.encode_to_vec());
    let space = KeySpace::new(PREFIX).expect("it is printable");
    let record_key = space.object_key(&read.key, meta.mod_revision);
    let record = space.encode_put(&record_key, &read.key, &meta, &read.value);
    assert_eq!(space.decode_object(&record_key, &record), Ok(Object::Put(message.clone())));
}

fn system(space: &KeySpace, key: &Bytes, value: &[u8]) {
    let (right, wrong) = sealed(key, value);
    assert!(space.decode_system(key, &wrong).is_err());
    match space.decode_system(key, &right) {
        Ok(SystemRecord::Lease(id, lease)) => {
            assert_eq!(space.lease_key(id), key);
            assert_eq!(space.encode_lease(key, lease), right, "{lease:?}");
        }
        Ok(SystemRecord::Alarm(alarm)) => {
            assert_eq!(space.alarm_key(alarm), key);
            assert_eq!(space.encode_alarm(key), right);
        }
        Err(_) => {}
    }
}

fn identity(space: &KeySpace, value: &[u8]) {
    let (right, wrong) = sealed(&space.identity_key(), value);
    assert!(space.decode_identity(&wrong).is_err());
    if let Ok(identity) = space.decode_identity(&right) {
        // A format that does not fit is told as the highest there is: newer than ours in any case.
        let Identity { format, .. } = identity;
        assert!(format == u32::MAX || space.encode_identity(identity) == right, "{identity:?}");
    }
}

fn compacted(space: &KeySpace, value: &[u8]) {
    let (right, wrong) = sealed(&space.compacted_key(), value);
    assert!(space.decode_compacted(&wrong).is_err());
    if let Ok(revision) = space.decode_compacted(&right) {
        assert_eq!(space.encode_compacted(revision), right, "{revision:?}");
    }
}

fn reclaimed(space: &KeySpace, partition: u32, value: &[u8]) {
    let partition = PartitionId(partition);
    let (right, wrong) = sealed(&space.reclaimed_key(partition), value);
    assert!(space.decode_reclaimed(partition, &wrong).is_err());
    if let Ok(reclaimed) = space.decode_reclaimed(partition, &right) {
        assert_eq!(space.encode_reclaimed(partition, reclaimed), right, "{reclaimed:?}");
    }
}
