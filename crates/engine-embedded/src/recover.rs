//! Opening a data directory: which files belong to it, what each holds, and the index from all of them.

mod merge;
mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use tracing::warn;

use crate::config::Config;
use crate::error::OpenError;
use crate::format::{FORMAT_VERSION, SegmentHeader, parse_name, segment_name};
use crate::fs::{Fs, LockError, read_all};
use crate::hint::HINT_PREFIX;
use crate::index::Index;
use crate::log::{
    Active, Failure, RESERVE_NAME, SPARE_PREFIX, Spare, TEMPORARY_SUFFIX, allocate_spare, begin_segment,
};
use crate::state::Segment;
use merge::{Run, RunSource};
use reader::{Reader, Sealed};

const FORMAT_NAME: &str = "FORMAT";
const FORMAT_TEXT: &str = "orlop embedded engine, format version ";

/// What was found in a directory.
pub(crate) struct Recovered {
    pub(crate) index: Index,
    pub(crate) segments: BTreeMap<u32, Segment>,
    pub(crate) active: Active,
    pub(crate) next_seq: u64,
    pub(crate) reserve_ready: bool,
}

/// Takes the directory for this process.
pub(crate) fn lock(fs: &dyn Fs, config: &Config) -> Result<Box<dyn Send + Sync>, OpenError> {
    fs.lock().map_err(|error| match error {
        LockError::Held(pid) => OpenError::Locked { dir: config.dir.clone(), pid },
        LockError::Io(source) => OpenError::Io { operation: "lock", path: fs.path("LOCK"), source },
    })
}

/// Reads a locked directory, or makes it one of ours if it is empty.
pub(crate) fn recover(fs: &dyn Fs, config: &Config) -> Result<Recovered, OpenError> {
    let formatted = check_format(fs, config)?;
    let names =
        fs.list().map_err(|source| OpenError::Io { operation: "list", path: config.dir.clone(), source })?;
    for name in &names {
        if is_temporary(name) {
            at(fs, "remove", name, fs.remove(name))?;
        }
    }
    let found: BTreeSet<u32> = names.iter().filter_map(|name| parse_name(name, "seg")).collect();
    let Some(&last) = found.last() else {
        if formatted {
            return Err(corrupt(fs, &segment_name(1), 0, "all segment files are missing"));
        }
        return create(fs, config);
    };
    let reader = Reader { fs };
    let (active, scanned) = reader.last_segment(last, config)?;
    if !formatted {
        // The first segment is made before the format file: only then may that be missing.
        if last != 1 || !scanned.items.is_empty() {
            return Err(corrupt(
                fs,
                FORMAT_NAME,
                0,
                "the file is missing, although the directory holds data",
            ));
        }
        write_format(fs)?;
    }
    reader.remove_retired(&found, &names, last, &scanned)?;
    let mut segments = BTreeMap::new();
    let mut runs = Vec::new();
    let others: BTreeSet<u32> =
        scanned.manifest.iter().filter(|id| !scanned.retired.contains(id)).copied().collect();
    if others.last().is_some_and(|&id| id >= last) {
        return Err(corrupt(fs, &segment_name(last), 0, "its manifest names a segment that is not older"));
    }
    // Whether these are the segments of one log: a file that was put back from elsewhere need not fit.
    let mut last_seq = 0;
    let follows = |id, first_seq, last_seq| match first_seq > last_seq {
        true => Ok(()),
        false => Err(corrupt(fs, &segment_name(id), 0, "it does not follow the segment before it")),
    };
    for id in others {
        let Sealed { segment, run, header, last_seq: its_last } = reader.sealed_segment(id)?;
        follows(id, header.first_seq, last_seq)?;
        last_seq = its_last;
        segments.insert(id, segment);
        runs.push(run);
    }
    follows(last, active.header.first_seq, last_seq)?;
    let mut segment = Segment::new(active.file.clone());
    (segment.len, segment.sealed) = (active.end, active.sealed);
    segments.insert(last, segment);
    runs.push(Run { segment: last, source: RunSource::Items(scanned.items) });
    let index = reader.index(runs, &mut segments)?;
    let reserve_ready = ensure_reserve(fs, config);
    Ok(Recovered { index, segments, active, next_seq: scanned.next_seq, reserve_ready })
}

/// Whether a file is one of those that do not matter after a stop.
fn is_temporary(name: &str) -> bool {
    let ours = [SPARE_PREFIX, FORMAT_NAME, HINT_PREFIX];
    name.ends_with(TEMPORARY_SUFFIX) && ours.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether the directory is one of ours, as far as its names say.
pub(crate) fn is_ours(fs: &dyn Fs) -> bool {
    fs.open(FORMAT_NAME).is_ok()
}

/// Whether the directory has our format; an error if it has one that we cannot read.
fn check_format(fs: &dyn Fs, config: &Config) -> Result<bool, OpenError> {
    let file = match fs.open(FORMAT_NAME) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => {
            return Err(OpenError::Io { operation: "open", path: fs.path(FORMAT_NAME), source });
        }
    };
    let text = at(fs, "read", FORMAT_NAME, read_all(file.as_ref()))?;
    let version = std::str::from_utf8(&text)
        .ok()
        .and_then(|text| text.strip_prefix(FORMAT_TEXT))
        .and_then(|version| version.trim_end().parse::<u32>().ok());
    match version {
        Some(FORMAT_VERSION) => Ok(true),
        Some(found) if found > FORMAT_VERSION => {
            Err(OpenError::NewerFormat { dir: config.dir.clone(), found, supported: FORMAT_VERSION })
        }
        _ => Err(corrupt(fs, FORMAT_NAME, 0, "it does not name a format version")),
    }
}

fn write_format(fs: &dyn Fs) -> Result<(), OpenError> {
    let name = format!("{FORMAT_NAME}{TEMPORARY_SUFFIX}");
    let write = || {
        let file = fs.create(&name)?;
        file.write_all_at(format!("{FORMAT_TEXT}{FORMAT_VERSION}\n").as_bytes(), 0)?;
        file.sync_all()?;
        fs.rename(&name, FORMAT_NAME)?;
        fs.sync_dir()
    };
    at(fs, "write", FORMAT_NAME, write())
}

/// Makes an empty directory one of ours.
fn create(fs: &dyn Fs, config: &Config) -> Result<Recovered, OpenError> {
    let reserve_ready = ensure_reserve(fs, config);
    let name = segment_name(1);
    let len_min = crate::config::SEGMENT_BYTES_MIN;
    let spare: Spare = at(fs, "allocate", &name, allocate_spare(fs, config.segment_bytes, len_min))?;
    let header = SegmentHeader { segment: 1, salt: config.random.next_u64() as u32, first_seq: 1 };
    let active = begin_segment(fs, spare, header, &[]).map_err(|failure| {
        let text = match failure {
            Failure::Refused(refusal) => refusal.to_string(),
            Failure::Broken(reason) => reason,
        };
        OpenError::Io { operation: "create", path: fs.path(&name), source: io::Error::other(text) }
    })?;
    write_format(fs)?;
    let mut segment = Segment::new(active.file.clone());
    segment.len = active.end;
    let segments = BTreeMap::from([(1, segment)]);
    Ok(Recovered { index: Index::new(), segments, active, next_seq: 2, reserve_ready })
}

/// Sets the reserve aside if it is not. Whether it is there now.
pub(crate) fn ensure_reserve(fs: &dyn Fs, config: &Config) -> bool {
    if config.reserve_bytes == 0 {
        return false;
    }
    let ready = || {
        if let Ok(file) = fs.open(RESERVE_NAME)
            && file.len().is_ok_and(|len| len >= config.reserve_bytes)
        {
            return Ok(());
        }
        let file = fs.create(RESERVE_NAME)?;
        file.allocate(config.reserve_bytes)?;
        file.sync_all()?;
        fs.sync_dir()
    };
    match ready() {
        Ok(()) => true,
        Err(error) => {
            // A part of it would only take space from those who free some.
            let _ = fs.remove(RESERVE_NAME);
            warn!(%error, bytes = config.reserve_bytes, "could not set aside the reserve for a full disk");
            false
        }
    }
}

/// An answer of the operating system, with what was tried.
fn at<T>(fs: &dyn Fs, operation: &'static str, name: &str, result: io::Result<T>) -> Result<T, OpenError> {
    result.map_err(|source| OpenError::Io { operation, path: fs.path(name), source })
}

fn corrupt(fs: &dyn Fs, name: &str, offset: u64, reason: &str) -> OpenError {
    OpenError::Corrupt { file: fs.path(name), offset, reason: reason.to_owned() }
}
