//! A data directory that holds anything: it is opened, or it is refused with the name of what is wrong.
//!
//! An input is a list of files, each a byte for its name, two for its length, and its bytes. If its first byte is odd
//! all checksums are made right, so that what lies behind them is reached.

use bytes::Bytes;
use engine::{Batch, CommitError, Engine};
use engine_embedded::EmbeddedEngine;
use engine_embedded::fuzzing::{Directory, Files, reseal_hint, reseal_segment};

use crate::directory::{block_on, open, records};

/// The names that files can have.
pub const NAMES: [&str; 14] = [
    "FORMAT",
    "0000000001.seg",
    "0000000001.hint",
    "0000000002.seg",
    "0000000002.hint",
    "0000000003.seg",
    "0000000003.hint",
    "0000000004.seg",
    "0000000004.hint",
    "0000000005.seg",
    "0000000005.hint",
    "4294967295.seg",
    "RESERVE",
    "spare-1.tmp",
];

/// Opens the directory that the input describes, reads it, writes to it, and opens it once more.
pub fn check(input: &[u8]) {
    let Some((&seal, rest)) = input.split_first() else { return };
    let files = files(rest, seal % 2 == 1);
    let has_hints = files.keys().any(|name| name.ends_with(".hint"));
    let directory = Directory::holding(&files);
    let Some(engine) = open(&directory) else { return };
    let Some(mut shown) = block_on(records(&engine)) else { return };
    if block_on(write(&engine)) {
        shown.insert(Bytes::from_static(KEY), Bytes::from_static(b"written"));
    }
    assert!(block_on(records(&engine)) == Some(shown.clone()), "it does not show what was written");
    drop(engine);
    let again = open(&directory);
    // A hint with a right checksum is believed: it repeats its segment, and is as good as whoever wrote it. One that
    // contradicts it may be replaced meanwhile.
    if !has_hints {
        let engine = again.expect("a directory that was opened can be opened again");
        assert!(block_on(records(&engine)) == Some(shown), "it shows something else when it is opened again");
    }
}

const KEY: &[u8] = b"key 22";

/// Whether a record was written; it may be that there is no number left for it.
async fn write(engine: &EmbeddedEngine) -> bool {
    let mut batch = Batch::new();
    batch.put(Bytes::from_static(KEY), Bytes::from_static(b"written"));
    match engine.commit(batch).await {
        Ok(()) => true,
        Err(CommitError::Unavailable(_)) => false,
        Err(other) => unreachable!("{other}"),
    }
}

/// The files of an input.
fn files(mut input: &[u8], seal: bool) -> Files {
    let mut files = Files::new();
    while let [name, low, high, rest @ ..] = input {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (content, behind) = rest.split_at(len);
        let (name, mut content) = (NAMES[usize::from(*name) % NAMES.len()], content.to_vec());
        if seal && name.ends_with(".seg") {
            reseal_segment(&mut content);
        } else if seal && name.ends_with(".hint") {
            reseal_hint(&mut content);
        }
        files.insert(name.to_owned(), content);
        input = behind;
    }
    files
}

/// The input that describes these files.
pub fn describe(files: &Files) -> Vec<u8> {
    let mut input = vec![1];
    for (number, name) in NAMES.iter().enumerate() {
        let Some(content) = files.get(*name) else { continue };
        let len = u16::try_from(content.len()).unwrap_or(u16::MAX);
        input.push(number as u8);
        input.extend_from_slice(&len.to_le_bytes());
        input.extend_from_slice(&content[..usize::from(len)]);
    }
    input
}
