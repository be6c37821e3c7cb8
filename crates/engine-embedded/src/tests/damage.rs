//! Damage to files: found and named, never skipped.

use bytes::Bytes;
use engine::{Engine, ReadError};

use super::{dump, open, put};
use crate::format::{FrameKind, FramePlace, FrameWriter, SEGMENT_HEADER_LEN, SegmentHeader};
use crate::fs::sim::SimFs;
use crate::{EmbeddedEngine, OpenError};

/// A directory with several complete segments and a last one, cleanly closed; and what it holds.
async fn filled() -> (SimFs, Vec<(Bytes, Bytes)>) {
    let fs = SimFs::default();
    let engine = open(&fs).unwrap();
    for number in 0..60u8 {
        let len = if number.is_multiple_of(3) { 20 } else { 700 };
        engine.commit(put(&format!("key {number:03}"), vec![number; len])).await.unwrap();
    }
    let records = dump(&engine).await;
    // A reclaim waits for the hints that are being written.
    engine.reclaim().await.unwrap();
    engine.close().await;
    (fs, records)
}

/// The names of a kind of file, in order.
fn named(fs: &SimFs, end: &str) -> Vec<String> {
    fs.names().into_iter().filter(|name| name.ends_with(end)).collect()
}

/// Reads everything; `Err` names the damage that was found.
async fn read_all(engine: &EmbeddedEngine, records: &[(Bytes, Bytes)]) -> Result<(), ReadError> {
    let snapshot = engine.snapshot().await?;
    for (key, value) in records {
        assert_eq!(snapshot.get(key).await?.as_ref(), Some(value), "a record is lost or changed silently");
    }
    Ok(())
}

#[tokio::test]
async fn a_flipped_byte_anywhere_in_a_segment_is_found_and_named() {
    let (original, records) = filled().await;
    let segments = named(&original, ".seg");
    assert!(segments.len() >= 3, "{segments:?}");
    for (number, name) in segments.iter().enumerate() {
        let content = original.content(name);
        let end = content.iter().rposition(|&byte| byte != 0).unwrap() + 1;
        let is_last = number == segments.len() - 1;
        // Each byte would take minutes; the step is prime, so that all parts of frames and records are hit.
        for at in (0..end).step_by(if is_last { 7 } else { 37 }) {
            let fs = original.after_kill();
            let mut content = content.clone();
            content[at] ^= 0x10;
            fs.set_content(name, content);
            let found = match open(&fs) {
                Err(error @ OpenError::Corrupt { .. }) => error.to_string(),
                Err(other) => panic!("{other}"),
                Ok(engine) => match read_all(&engine, &records).await {
                    Err(ReadError::Corrupt(text)) => text,
                    Err(other) => panic!("{other}"),
                    // Not a record: a manifest, a footer or a hint said the same. The mark that a clean stop
                    // leaves behind the last batch says nothing more itself.
                    Ok(()) => continue,
                },
            };
            assert!(found.contains(name.as_str()) && found.contains("offset"), "{found}");
        }
    }
}

#[tokio::test]
async fn without_hints_a_flipped_byte_in_a_complete_segment_is_found_at_once() {
    let (original, _) = filled().await;
    for name in named(&original, ".hint") {
        crate::fs::Fs::remove(&original, &name).unwrap();
    }
    let name = &named(&original, ".seg")[0];
    let content = original.content(name);
    for at in (0..content.len()).step_by(61) {
        let fs = original.after_kill();
        let mut content = content.clone();
        content[at] ^= 1;
        fs.set_content(name, content);
        let error = open(&fs).err().expect("the damage is found");
        assert!(
            error.to_string().starts_with(&format!("the data file data/{name} is damaged at offset ")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_damaged_hint_is_made_again() {
    let (original, records) = filled().await;
    let hints = named(&original, ".hint");
    assert!(hints.len() >= 2, "{hints:?}");
    let name = &hints[1];
    let content = original.content(name);
    for at in 0..content.len() {
        let fs = original.after_kill();
        let mut damaged = content.clone();
        damaged[at] ^= 0x04;
        fs.set_content(name, damaged);
        let engine = open(&fs).unwrap();
        read_all(&engine, &records).await.unwrap();
        assert_eq!(fs.content(name), content, "{at}");
    }
    for len in (0..content.len()).step_by(11) {
        let fs = original.after_kill();
        fs.set_content(name, content[..len].to_vec());
        let engine = open(&fs).unwrap();
        read_all(&engine, &records).await.unwrap();
    }
}

#[tokio::test]
async fn a_missing_segment_is_found_and_named() {
    let (original, _) = filled().await;
    let segments = named(&original, ".seg");
    for name in &segments[..segments.len() - 1] {
        let fs = original.after_kill();
        crate::fs::Fs::remove(&fs, name).unwrap();
        let error = open(&fs).err().unwrap();
        assert!(error.to_string().contains(&format!("data/{name}")), "{error}");
        assert!(error.to_string().contains("missing"), "{error}");
    }
    let fs = original.after_kill();
    segments.iter().for_each(|name| crate::fs::Fs::remove(&fs, name).unwrap());
    assert!(open(&fs).err().unwrap().to_string().contains("all segment files are missing"));
    let fs = original.after_kill();
    crate::fs::Fs::remove(&fs, "FORMAT").unwrap();
    assert!(open(&fs).err().unwrap().to_string().contains("FORMAT"));
}

#[tokio::test]
async fn a_segment_of_another_life_is_found_and_named() {
    let (fs, _) = filled().await;
    let name = &named(&fs, ".seg")[1];
    // Whole in itself, its name and its checksums right; but it begins with a number that the one before has given.
    let mut segment = fs.content(name);
    let header: &[u8; SEGMENT_HEADER_LEN] = segment[..SEGMENT_HEADER_LEN].try_into().unwrap();
    let header = SegmentHeader { first_seq: 1, ..SegmentHeader::decode(header).unwrap() };
    segment.truncate(SEGMENT_HEADER_LEN);
    segment.copy_from_slice(&header.encode());
    for (seq, kind) in [(1, FrameKind::Manifest), (2, FrameKind::Footer)] {
        let place = FramePlace { segment: header.segment, salt: header.salt, seq, durable_end: 0 };
        FrameWriter::begin(&mut segment).end(kind, place);
    }
    fs.set_content(name, segment);
    crate::fs::Fs::remove(&fs, &name.replace(".seg", ".hint")).unwrap();
    let error = open(&fs).err().unwrap().to_string();
    assert!(error.contains(name.as_str()) && error.contains("does not follow"), "{error}");
}

#[tokio::test]
async fn a_segment_that_was_cut_is_found_and_named() {
    let (original, _) = filled().await;
    let name = &named(&original, ".seg")[0];
    let content = original.content(name);
    for len in (0..content.len()).step_by(97) {
        for hints in [true, false] {
            let fs = original.after_kill();
            if !hints {
                named(&fs, ".hint").iter().for_each(|name| crate::fs::Fs::remove(&fs, name).unwrap());
            }
            fs.set_content(name, content[..len].to_vec());
            let error = open(&fs).err().unwrap();
            assert!(error.to_string().contains(&format!("data/{name}")), "{error}");
        }
    }
}

#[tokio::test]
async fn a_segment_with_damage_is_not_rewritten_and_says_so() {
    let fs = SimFs::default();
    let engine = open(&fs).unwrap();
    for round in 0..2 {
        for number in 0..20 {
            engine.commit(put(&format!("key {number} {}", number * round % 5), vec![7; 900])).await.unwrap();
        }
    }
    let mut content = fs.content("0000000001.seg");
    content[9000] ^= 1;
    fs.set_content("0000000001.seg", content);
    let mut batch = engine::Batch::new();
    (0..20).for_each(|number| batch.delete(format!("key {number} {}", number % 5)));
    engine.commit(batch).await.unwrap();
    let error = engine.reclaim().await.unwrap_err();
    assert!(matches!(&error, ReadError::Corrupt(text) if text.contains("0000000001.seg")), "{error}");
    // The others are rewritten all the same.
    engine.reclaim().await.unwrap();
}
