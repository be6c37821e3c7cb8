//! What the targets of `fuzz` reach of this crate: a data directory in memory, whose files can be anything. Built with
//! the feature `fuzzing` only; no part of the product.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::format::{FRAME_HEADER_LEN, FRAME_MAGIC, RECORD_HEADER_LEN, SEGMENT_HEADER_LEN, u32_at};
use crate::fs::Fs;
use crate::fs::sim::SimFs;
use crate::{Config, EmbeddedEngine, OpenError};

/// The files of a data directory, by their names.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A data directory in memory.
#[derive(Default)]
pub struct Directory(SimFs);

impl Directory {
    /// A directory that holds these files, durably.
    pub fn holding(files: &Files) -> Directory {
        let fs = SimFs::default();
        for (name, content) in files {
            // A directory in memory without faults takes every file.
            drop(fs.create(name));
            fs.set_content(name, content.clone());
        }
        Directory(fs)
    }

    /// What it holds now.
    pub fn files(&self) -> Files {
        self.0.names().into_iter().map(|name| (name.clone(), self.0.content(&name))).collect()
    }

    /// Opens an engine on it; the directory that `config` names is not looked at.
    pub fn open(&self, config: Config) -> Result<EmbeddedEngine, OpenError> {
        config.check()?;
        EmbeddedEngine::open_on(config, Arc::new(self.0.clone()))
    }
}

/// Where each frame of a segment begins, as far as their lengths lead.
pub fn frame_starts(segment: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut at = SEGMENT_HEADER_LEN;
    while let Some(header) = segment.get(at..at + FRAME_HEADER_LEN).filter(|it| it.starts_with(FRAME_MAGIC)) {
        starts.push(at);
        at += FRAME_HEADER_LEN + u32_at(header, 32) as usize;
    }
    starts
}

/// The bytes that a frame takes before its body.
pub const FRAME_HEADER_BYTES: usize = FRAME_HEADER_LEN;

/// Makes every checksum of a segment right, so that what is behind them is reached.
pub fn reseal_segment(segment: &mut [u8]) {
    let Some(header) = segment.get_mut(..SEGMENT_HEADER_LEN) else { return };
    let crc = crc32fast::hash(&header[..28]);
    header[28..].copy_from_slice(&crc.to_le_bytes());
    let salt = u32_at(header, 16);
    for start in frame_starts(segment) {
        let frame = &mut segment[start..];
        let len = u32_at(frame, 32) as usize;
        let (header, rest) = frame.split_at_mut(FRAME_HEADER_LEN);
        let Some(body) = rest.get_mut(..len) else { return };
        if matches!(header[4], 1 | 2) {
            reseal_records(body);
        }
        header[36..40].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        let mut hasher = crc32fast::Hasher::new_with_initial(salt);
        hasher.update(&header[..40]);
        header[40..].copy_from_slice(&hasher.finalize().to_le_bytes());
    }
}

fn reseal_records(mut body: &mut [u8]) {
    while body.len() >= RECORD_HEADER_LEN {
        let len = RECORD_HEADER_LEN + u32_at(body, 5) as usize + u32_at(body, 9) as usize;
        let Some((record, rest)) = body.split_at_mut_checked(len) else { return };
        let crc = crc32fast::hash(&record[4..]);
        record[..4].copy_from_slice(&crc.to_le_bytes());
        body = rest;
    }
}

/// Makes every checksum of a hint right.
pub fn reseal_hint(hint: &mut [u8]) {
    let Some((header, mut blocks)) = hint.split_at_mut_checked(48) else { return };
    let crc = crc32fast::hash(&header[..44]);
    header[44..].copy_from_slice(&crc.to_le_bytes());
    while blocks.len() >= 8 {
        let len = u32_at(blocks, 0) as usize;
        let (header, rest) = blocks.split_at_mut(8);
        let Some((body, rest)) = rest.split_at_mut_checked(len) else { return };
        header[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
        blocks = rest;
    }
}
