//! The file of a backup: any bytes, and blocks with right checksums and any content. What is read to its end is written
//! again to the same records.

use ::backup::{Head, Reader, Record, Writer, fuzzing::file};
use proto::mvccpb::KeyValue;

/// The first byte says whether the others are a file, or blocks: each its kind, two bytes of length, and content.
pub fn check(input: &[u8]) {
    let Some((is_file, rest)) = input.split_first() else { return };
    let made = if is_file % 2 == 0 { rest.to_vec() } else { file(&blocks(rest)) };
    let Some((head, records)) = read(&made) else { return };
    let mut writer = Writer::begin(Vec::new(), &head).expect("memory takes everything");
    let (leases, keys): (Vec<_>, Vec<_>) =
        records.iter().partition(|record| matches!(record, Record::Lease(..)));
    for record in leases {
        if let Record::Lease(lease, ttl_secs) = record {
            writer.lease(lease.0, *ttl_secs).expect("leases come first");
        }
    }
    writer.end_leases().expect("memory takes everything");
    for record in keys {
        if let Record::Key(key, meta, value) = record {
            let key_value = KeyValue {
                key: key.bytes().clone(),
                create_revision: meta.create_revision.get(),
                mod_revision: meta.mod_revision.get(),
                version: meta.version,
                value: value.clone(),
                lease: meta.lease.0,
            };
            writer.key(&key_value).expect("what is read is in order");
        }
    }
    let (again, _) = writer.finish().expect("memory takes everything");
    assert_eq!(read(&again), Some((head, records)));
}

fn blocks(mut rest: &[u8]) -> Vec<(u8, &[u8])> {
    let mut blocks = Vec::new();
    while let [kind, low, high, behind @ ..] = rest {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(behind.len());
        let (content, next) = behind.split_at(len);
        blocks.push((*kind, content));
        rest = next;
    }
    blocks
}

fn read(file: &[u8]) -> Option<(Head, Vec<Record>)> {
    let mut reader = Reader::open(file).ok()?;
    let mut records = Vec::new();
    loop {
        match reader.next_record() {
            Ok(Some(record)) => records.push(record),
            Ok(None) => return Some((reader.head().clone(), records)),
            Err(_) => {
                assert!(reader.left().len <= file.len() as u64, "whole blocks are in the file");
                return None;
            }
        }
    }
}
