use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use proptest::prelude::*;

use crate::{EntryError, Layout, PAGE_BYTES, Planner, ReadError, Reader, Writer};

type Bucket = BTreeMap<Vec<u8>, Vec<u8>>;
type Buckets = BTreeMap<Vec<u8>, Bucket>;

fn planned(buckets: &Buckets) -> Layout {
    let mut planner = Planner::new();
    for (name, entries) in buckets {
        planner.bucket(name).unwrap();
        for (key, value) in entries {
            planner.entry(key, value.len()).unwrap();
        }
    }
    planner.finish().unwrap()
}

/// The file, taken in pieces of `piece` bytes.
fn written(buckets: &Buckets, piece: usize) -> Vec<u8> {
    let layout = planned(buckets);
    let mut writer = Writer::new(layout);
    let mut file = Vec::new();
    let mut take = |writer: &mut Writer| {
        while writer.ready_len() >= piece {
            file.extend_from_slice(&writer.take(piece));
        }
    };
    for (name, entries) in buckets {
        writer.bucket(name).unwrap();
        for (key, value) in entries {
            writer.entry(key, Bytes::copy_from_slice(value)).unwrap();
            take(&mut writer);
        }
    }
    writer.finish().unwrap();
    take(&mut writer);
    file.extend_from_slice(&writer.take(usize::MAX));
    assert_eq!(file.len() as u64, layout.file_len());
    file
}

fn on_disk(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn read(bytes: &[u8], name: &[u8]) -> Result<Option<Bucket>, ReadError> {
    let reader = Reader::open(on_disk(bytes), bytes.len() as u64)?;
    let Some(entries) = reader.bucket(name)? else { return Ok(None) };
    entries
        .map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn numbered(count: u32, value_len: usize) -> Bucket {
    (0..count).map(|number| (number.to_be_bytes().to_vec(), vec![7; value_len])).collect()
}

#[test]
fn a_tree_of_several_levels_reads_back() {
    // 17 bytes of key as etcd has them, some 120 children to a branch: so two levels of branches.
    let entries: Bucket = (0..20_000_u32)
        .map(|number| ([[9; 13].as_slice(), &number.to_be_bytes()].concat(), vec![1; 500]))
        .collect();
    let buckets = Buckets::from([(b"key".to_vec(), entries), (b"empty".to_vec(), Bucket::new())]);
    let file = written(&buckets, 32 << 10);
    for (name, entries) in &buckets {
        assert!(read(&file, name).unwrap().as_ref() == Some(entries), "{}", name.escape_ascii());
    }
    assert!(read(&file, b"none").unwrap().is_none());
}

#[test]
fn a_value_longer_than_a_page_overflows_into_the_next_ones() {
    let mut entries = numbered(5, 10);
    entries.insert(vec![0, 0, 0, 2, 1], vec![3; 3 * PAGE_BYTES]);
    let buckets = Buckets::from([(b"b".to_vec(), entries.clone())]);
    assert_eq!(read(&written(&buckets, 1), b"b").unwrap(), Some(entries));
}

#[test]
fn what_does_not_come_in_order_or_was_not_planned_is_refused() {
    let mut planner = Planner::new();
    assert!(matches!(planner.entry(b"a", 1), Err(EntryError::NotPlanned(_))));
    planner.bucket(b"b").unwrap();
    planner.entry(b"b", 1).unwrap();
    assert_eq!(planner.entry(b"b", 1), Err(EntryError::Order("b".to_owned())));
    assert_eq!(planner.entry(b"", 1), Err(EntryError::KeyLen(0)));
    planner.bucket(b"a").unwrap();
    assert_eq!(planner.finish(), Err(EntryError::Order("a".to_owned())));

    let mut writer = Writer::new(planned(&Buckets::from([(b"b".to_vec(), numbered(300, 30))])));
    writer.bucket(b"b").unwrap();
    assert!(matches!(writer.finish(), Err(EntryError::NotPlanned(_))));
}

#[test]
fn a_file_that_is_cut_off_or_is_something_else_is_named_as_that() {
    let file = written(&Buckets::from([(b"b".to_vec(), numbered(1000, 30))]), 4096);
    let open = |bytes: &[u8]| Reader::open(on_disk(bytes), bytes.len() as u64).unwrap_err();
    let needs = file.len() as u64;
    for has in [file.len() - 1, file.len() / 2, 3 * PAGE_BYTES] {
        let error = open(&file[..has]);
        assert!(
            matches!(error, ReadError::Truncated { needs: n, has: h } if (n, h) == (needs, has as u64)),
            "{error}"
        );
    }
    for no_file in [&b""[..], b"hello", &[0; 10_000]] {
        assert!(matches!(open(no_file), ReadError::NotBbolt));
    }
}

#[test]
fn the_second_page_counts_when_the_first_is_damaged() {
    let entries = numbered(1000, 30);
    let mut file = written(&Buckets::from([(b"b".to_vec(), entries.clone())]), 4096);
    file[20] ^= 1;
    assert_eq!(read(&file, b"b").unwrap(), Some(entries));
}

#[test]
fn a_page_that_leads_back_to_itself_ends_in_an_error() {
    let file = written(&Buckets::from([(b"b".to_vec(), numbered(1000, 300))]), 4096);
    let branch = file.chunks(PAGE_BYTES).position(|page| page[8..10] == [1, 0]).unwrap();
    let on_disk = on_disk(&file);
    // The page of its first element.
    on_disk.write_all_at(&(branch as u64).to_le_bytes(), (branch * PAGE_BYTES + 16 + 8) as u64).unwrap();
    let reader = Reader::open(on_disk, file.len() as u64).unwrap();
    let error = reader.bucket(b"b").unwrap().unwrap().find_map(Result::err).unwrap();
    assert_eq!(error.to_string(), format!("page {branch} is damaged: it leads too deep"));
}

fn any_buckets() -> impl Strategy<Value = Buckets> {
    let bytes = |lens| proptest::collection::vec(any::<u8>(), lens);
    let value = prop_oneof![8 => bytes(0..100), 1 => bytes(0..9000)];
    let bucket = proptest::collection::btree_map(bytes(1..40), value, 0..200);
    proptest::collection::btree_map(bytes(1..10), bucket, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_written_reads_back(buckets in any_buckets(), piece in 1..10_000_usize) {
        let file = written(&buckets, piece);
        for (name, entries) in &buckets {
            let back = read(&file, name).unwrap();
            prop_assert_eq!(back.as_ref(), Some(entries));
        }
    }

    #[test]
    fn flipped_bytes_are_an_error_or_entries_and_never_more(
        buckets in any_buckets(), flips in proptest::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..20),
    ) {
        let mut file = written(&buckets, 4096);
        for (place, flip) in flips {
            let place = place.index(file.len());
            file[place] ^= flip;
        }
        for name in buckets.keys() {
            if let Ok(Some(entries)) = read(&file, name) {
                prop_assert!(entries.len() <= file.len());
            }
        }
    }
}
