//! A file of bbolt: any bytes are read to an end, in order or with an error.

use std::fs::File;
use std::io::Write;

use ::bbolt::Reader;
use rustix::fs::{MemfdFlags, memfd_create};

/// The buckets of etcd's file.
const BUCKETS: [&[u8]; 5] = [b"key", b"meta", b"lease", b"members", b"cluster"];

/// Reads every entry of every bucket.
pub fn check(input: &[u8]) {
    let file = file_of(input);
    let Ok(reader) = Reader::open(file, input.len() as u64) else { return };
    for name in BUCKETS {
        let Ok(Some(entries)) = reader.bucket(name) else { continue };
        let mut last = None;
        for entry in entries {
            // What follows an error is not asked for.
            let Ok((key, _)) = entry else { break };
            assert!(last.as_ref().is_none_or(|last| *last < key), "keys come in order");
            last = Some(key);
        }
    }
}

/// A file in memory.
pub(crate) fn file_of(content: &[u8]) -> File {
    let made = memfd_create("fuzz", MemfdFlags::CLOEXEC).expect("the system has files in memory");
    let mut file = File::from(made);
    file.write_all(content).expect("memory takes it");
    file
}
