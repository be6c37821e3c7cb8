use std::fs::File;
use std::io::Write as _;

use bytes::Bytes;
use model::{Key, KeyMeta, LeaseId, Revision};
use proptest::prelude::*;
use prost::Message;
use proto::mvccpb::KeyValue;

use crate::{Catalogue, Facts, Member, OpenError, Record, Snapshot, Version, WriteError, Writer};

fn facts(revision: i64, leases: &[(i64, i64)]) -> Facts {
    Facts {
        revision: Revision::new(revision),
        leases: leases.iter().map(|&(lease, ttl)| (LeaseId(lease), ttl)).collect(),
        member: Member { id: 7, name: "a \"member\"".to_owned(), client_urls: vec!["http://a:1".to_owned()] },
        term: 3,
    }
}

fn key_value(key: &Key, version: &Version) -> Bytes {
    let meta = &version.meta;
    let key_value = KeyValue {
        key: key.as_slice().to_vec().into(),
        create_revision: meta.create_revision.get(),
        mod_revision: meta.mod_revision.get(),
        version: meta.version,
        value: version.value.to_vec().into(),
        lease: meta.lease.0,
    };
    key_value.encode_to_vec().into()
}

/// The file of these records, which are in order, taken in pieces of `piece` bytes.
fn file_of(facts: &Facts, records: &[Record], piece: usize) -> Vec<u8> {
    let mut catalogue = Catalogue::default();
    for record in records.iter().rev() {
        let key = record.key.as_ref().unwrap();
        match &record.version {
            Some(version) => catalogue.add(key, &version.meta),
            None => catalogue.add_deleted(key, record.revision),
        }
    }
    let mut writer = Writer::new(facts, catalogue).unwrap();
    let find = |(key, revision): &(Bytes, Revision)| {
        let named =
            |record: &&Record| record.revision == *revision && record.key.as_ref().unwrap().bytes() == key;
        let record = records.iter().find(named).unwrap();
        key_value(record.key.as_ref().unwrap(), record.version.as_ref().unwrap())
    };
    let mut file = Vec::new();
    loop {
        let wanted = writer.wanted(3, 1000);
        match wanted.is_empty() {
            true => writer.finish().unwrap(),
            false => writer.give(wanted.iter().map(find)).unwrap(),
        }
        while let Some(piece) = writer.take(piece) {
            file.extend_from_slice(&piece);
        }
        if wanted.is_empty() {
            break;
        }
    }
    assert_eq!(file.len() as u64, writer.file_len());
    file.extend_from_slice(&writer.checksum());
    file
}

fn on_disk(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn put(key: &str, revision: i64, value: &[u8], lease: i64) -> Record {
    let meta = KeyMeta {
        create_revision: Revision::new(2),
        mod_revision: Revision::new(revision),
        version: 300,
        lease: LeaseId(lease),
        value_len: u32::try_from(value.len()).unwrap(),
    };
    let version = Some(Version { meta, value: Bytes::copy_from_slice(value) });
    Record { revision: Revision::new(revision), key: Some(Key::new(key.to_owned()).unwrap()), version }
}

fn deleted(key: &str, revision: i64) -> Record {
    Record { revision: Revision::new(revision), key: Some(Key::new(key.to_owned()).unwrap()), version: None }
}

#[test]
fn everything_reads_back() {
    let records = [
        put("z", 2, b"", 0),
        put("b", 5, &[1; 9000], -1),
        put("a", 9, b"one", 77),
        deleted("c", 9),
        put("d", 9, b"two", 0),
        deleted("e", 9),
    ];
    let leases = [(77, 60), (-1, 9_000_000_000)];
    let file = file_of(&facts(9, &leases), &records, 4096);
    let snapshot = Snapshot::open(on_disk(&file)).unwrap();
    assert!(snapshot.is_checked() && !snapshot.has_auth().unwrap());
    assert_eq!(snapshot.records().unwrap().map(Result::unwrap).collect::<Vec<_>>(), records);
    assert_eq!(snapshot.compacted().unwrap(), Some(Revision::new(9)));
    let leases = leases.map(|(lease, ttl)| (LeaseId(lease), ttl));
    assert_eq!(snapshot.leases().unwrap(), leases);
    // Without its checksum it is as good: a file of etcd's own has none.
    let bare = Snapshot::open(on_disk(&file[..file.len() - 32])).unwrap();
    assert!(!bare.is_checked() && bare.records().unwrap().count() == records.len());
}

#[test]
fn an_empty_store_has_a_snapshot_too_and_nothing_compacted() {
    let snapshot = Snapshot::open(on_disk(&file_of(&facts(1, &[]), &[], 32))).unwrap();
    assert_eq!(snapshot.records().unwrap().count(), 0);
    assert_eq!(snapshot.compacted().unwrap(), None);
}

#[test]
fn a_flipped_byte_anywhere_is_noticed_by_the_checksum() {
    let file = file_of(&facts(2, &[]), &[put("a", 2, b"one", 0)], 4096);
    for place in (0..file.len()).step_by(97).chain([file.len() - 1]) {
        let mut file = file.clone();
        file[place] ^= 4;
        assert!(matches!(Snapshot::open(on_disk(&file)), Err(OpenError::Checksum)), "at {place}");
    }
}

#[test]
fn a_version_of_another_length_than_was_said_is_refused() {
    let Record { key, version, .. } = put("a", 2, b"one", 0);
    let mut catalogue = Catalogue::default();
    catalogue.add(&key.unwrap(), &version.unwrap().meta);
    let mut writer = Writer::new(&facts(2, &[]), catalogue).unwrap();
    let other = writer.give([Bytes::from_static(b"short")]);
    assert_eq!(other, Err(WriteError::Length("a".to_owned(), Revision::new(2))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn lengths_are_known_before_the_values(
        key in proptest::collection::vec(any::<u8>(), 1..300), value_len in 0..20_000_usize,
        created in 1..i64::MAX, version in 1..i64::MAX, lease: i64,
    ) {
        let key = Key::new(key).unwrap();
        let revision = Revision::new(created);
        let meta = KeyMeta {
            create_revision: revision, mod_revision: revision, version, lease: LeaseId(lease),
            value_len: u32::try_from(value_len).unwrap(),
        };
        let version = Version { meta, value: vec![1; value_len].into() };
        let said = crate::schema::key_value_len(key.as_slice().len(), &meta);
        prop_assert_eq!(said, key_value(&key, &version).len());
    }
}
