#![allow(clippy::unwrap_used, reason = "a test whose equipment breaks has failed")]

use std::io::Cursor;

use proptest::prelude::*;
use proto::mvccpb::KeyValue;

use crate::{Head, ReadError, Reader, Record, VERSION, Writer};

const HEAD: Head = Head { cluster_id: 7, revision: 1000, keys: 3 };

fn key_value(key: &[u8], value: &[u8]) -> KeyValue {
    let (key, value) = (key.to_vec().into(), value.to_vec().into());
    KeyValue { key, create_revision: 5, mod_revision: 9, version: 2, value, lease: -3 }
}

fn written(leases: &[i64], keys: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::begin(Vec::new(), &HEAD).unwrap();
    leases.iter().for_each(|lease| writer.lease(*lease, 60).unwrap());
    writer.end_leases().unwrap();
    keys.iter().for_each(|(key, value)| writer.key(&key_value(key, value)).unwrap());
    writer.finish().unwrap().0
}

fn read(file: &[u8]) -> Result<Vec<Record>, ReadError> {
    let mut reader = Reader::open(Cursor::new(file))?;
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push(record);
    }
    Ok(records)
}

/// Keys with values of which a block holds some only.
fn many() -> Vec<(Vec<u8>, Vec<u8>)> {
    (0..40u32).map(|number| (number.to_be_bytes().to_vec(), number.to_be_bytes().repeat(30_000))).collect()
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        leases: Vec<(std::num::NonZeroI64, u8)>,
        keys in proptest::collection::btree_map(proptest::collection::vec(any::<u8>(), 1..9), any::<Vec<u8>>(), 0..20),
    ) {
        let leases: Vec<i64> = leases.iter().map(|(lease, _)| lease.get()).collect();
        let keys: Vec<_> = keys.into_iter().collect();
        let records = read(&written(&leases, &keys)).unwrap();
        prop_assert_eq!(records.len(), leases.len() + keys.len());
        for (record, lease) in records.iter().zip(&leases) {
            prop_assert!(matches!(record, Record::Lease(id, 60) if id.0 == *lease));
        }
        for (record, (key, value)) in records[leases.len()..].iter().zip(&keys) {
            prop_assert!(matches!(record, Record::Key(k, meta, v) if k.as_slice() == key && v == value
                && meta.version == 2 && meta.lease.0 == -3 && meta.value_len as usize == value.len()));
        }
    }

    #[test]
    fn any_bytes_are_read_without_trust(bytes: Vec<u8>, is_begun: bool) {
        let begin = written(&[], &[]);
        let file = if is_begun { [&begin[..12], &bytes].concat() } else { bytes };
        prop_assert!(read(&file).is_err());
    }
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_no_backup() {
    let file = written(&[1, 2], &[(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())]);
    for len in 0..file.len() {
        let error = read(&file[..len]).unwrap_err();
        assert!(matches!(error, ReadError::CutOff { .. } | ReadError::Stranger(_)), "{len}: {error}");
    }
    assert!(matches!(read(&[&file[..], b"x"].concat()), Err(ReadError::Damaged { .. })));
}

#[test]
fn a_bit_that_flips_anywhere_is_noticed() {
    let file = written(&[1], &[(b"a".to_vec(), b"1".to_vec())]);
    for bit in 0..file.len() * 8 {
        let mut file = file.clone();
        file[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&file).is_err(), "bit {bit}");
    }
}

#[test]
fn blocks_that_are_missing_or_in_another_order_are_noticed() {
    let file = written(&[], &many());
    let mut reader = Reader::open(Cursor::new(&file)).unwrap();
    let mut ends = vec![reader.left().len as usize];
    while reader.next_record().unwrap().is_some() {
        let end = reader.left().len as usize;
        if ends.last() != Some(&end) {
            ends.push(end);
        }
    }
    assert!(ends.len() > 4, "{ends:?}");
    let without_one = [&file[..ends[0]], &file[ends[1]..]].concat();
    let swapped =
        [&file[..ends[0]], &file[ends[1]..ends[2]], &file[ends[0]..ends[1]], &file[ends[2]..]].concat();
    for file in [without_one, swapped] {
        let error = read(&file).unwrap_err().to_string();
        assert!(error.contains("it is not in its place"), "{error}");
    }
}

#[test]
fn a_backup_that_broke_off_anywhere_is_gone_on_with() {
    let (leases, keys) = ([5], many());
    let whole = written(&leases, &keys);
    let all = read(&whole).unwrap();
    for cut in (0..whole.len()).step_by(whole.len() / 17) {
        let mut reader = match Reader::open(Cursor::new(&whole[..cut])) {
            Ok(reader) => reader,
            Err(ReadError::CutOff { .. } | ReadError::Stranger(_)) => continue,
            Err(error) => panic!("{error}"),
        };
        while let Ok(Some(_)) = reader.next_record() {}
        let left = reader.left().clone();
        let file = whole[..left.len as usize].to_vec();
        let mut writer = Writer::resume(file, &left);
        if left.totals.leases < 1 {
            continue;
        }
        for (key, value) in keys.iter().filter(|(key, _)| *key > left.last_key) {
            writer.key(&key_value(key, value)).unwrap();
        }
        let (file, totals) = writer.finish().unwrap();
        assert_eq!((totals.keys, totals.leases), (40, 1), "{cut}");
        assert_eq!(read(&file).unwrap(), all, "{cut}");
    }
}

#[test]
fn what_is_no_backup_is_told_what_it_is() {
    for (file, expected) in [
        (&b""[..], "it is no backup of orlop: it is too short"),
        (&[0; 4096][..], "it is no backup of orlop; a snapshot of etcdctl is restored with `orlop import"),
    ] {
        let error = Reader::open(Cursor::new(file)).err().unwrap().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
    let mut newer = written(&[], &[]);
    newer[8] = 2;
    let error = read(&newer).unwrap_err();
    assert!(matches!(error, ReadError::Newer(newer) if newer == VERSION + 1), "{error}");
}

#[test]
fn keys_and_leases_that_are_not_in_their_order_are_not_written() {
    let mut writer = Writer::begin(Vec::new(), &HEAD).unwrap();
    assert!(writer.key(&key_value(b"a", b"")).is_err());
    writer.end_leases().unwrap();
    writer.key(&key_value(b"b", b"")).unwrap();
    assert!(writer.key(&key_value(b"b", b"")).is_err());
    assert!(writer.lease(1, 60).is_err());
}
