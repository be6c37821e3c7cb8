//! The file of a backup: begun under another name, gone on with, and named when it is durable.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use backup::{Head, Reader, Record, WriteError, Writer};

use super::failure::BackupFailure;

/// Only the owner: a backup holds Secrets.
const MODE: u32 = 0o600;

/// Where a backup goes.
pub(super) struct Target {
    file: PathBuf,
    revision: Cell<i64>,
}

/// A backup that is under way.
pub(super) struct Begun {
    pub(super) head: Head,
    /// The leases in it, with their times to live.
    pub(super) leases: HashMap<i64, i64>,
    pub(super) writer: Writer<File>,
    /// The last key in it; empty before the first.
    pub(super) last_key: Vec<u8>,
    pub(super) keys: u64,
}

impl Target {
    /// A file that must not exist; in a directory it is named after cluster and revision.
    pub(super) fn new(to: &Path, head: &Head) -> Result<Target, BackupFailure> {
        let file = match to.is_dir() {
            true => to.join(format!("orlop-{:016x}-{}.backup", head.cluster_id, head.revision)),
            false => to.to_owned(),
        };
        Target::named(file)
    }

    /// As [`Target::new`], for one whose name is known.
    pub(super) fn of(to: &Path) -> Result<Target, BackupFailure> {
        if to.is_dir() { Err(BackupFailure::ResumeOfDir) } else { Target::named(to.to_owned()) }
    }

    fn named(file: PathBuf) -> Result<Target, BackupFailure> {
        if file.exists() {
            return Err(BackupFailure::Exists(file));
        }
        Ok(Target { file, revision: Cell::new(0) })
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn revision(&self) -> i64 {
        self.revision.get()
    }

    pub(super) fn partial(&self) -> PathBuf {
        let mut name = self.file.clone().into_os_string();
        name.push(".partial");
        name.into()
    }

    fn failure(&self, source: io::Error) -> BackupFailure {
        BackupFailure::File { file: self.partial(), source }
    }

    pub(super) fn write_failure(&self, error: WriteError) -> BackupFailure {
        match error {
            WriteError::Io(source) => self.failure(source),
            WriteError::Refused(reason) => BackupFailure::Refused(reason),
        }
    }

    /// Begins the file with the leases.
    pub(super) fn begin(&self, head: Head, leases: HashMap<i64, i64>) -> Result<Begun, BackupFailure> {
        self.revision.set(head.revision);
        let created = OpenOptions::new().write(true).create_new(true).mode(MODE).open(self.partial());
        let file = created.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => BackupFailure::Partial(self.partial()),
            _ => self.failure(source),
        })?;
        let write = || {
            let mut writer = Writer::begin(file, &head)?;
            let mut sorted: Vec<_> = leases.iter().collect();
            sorted.sort_unstable();
            for (lease, ttl_secs) in sorted {
                writer.lease(*lease, *ttl_secs)?;
            }
            writer.end_leases()?;
            Ok(writer)
        };
        let writer = write().map_err(|error| self.write_failure(error).left(self))?;
        Ok(Begun { head, leases, writer, last_key: Vec::new(), keys: 0 })
    }

    /// Goes on with what is there: its whole blocks are checked, and what is behind them is cut off.
    pub(super) fn resume(&self) -> Result<Begun, BackupFailure> {
        let mut file = OpenOptions::new().read(true).write(true).open(self.partial());
        let file =
            file.as_mut().map_err(|error| self.failure(io::Error::new(error.kind(), error.to_string())))?;
        let mut reader = Reader::open(BufReader::new(&*file))
            .map_err(|error| BackupFailure::resume(self.partial(), &error))?;
        let mut leases = HashMap::new();
        loop {
            match reader.next_record() {
                Ok(Some(Record::Lease(lease, ttl_secs))) => drop(leases.insert(lease.0, ttl_secs)),
                Ok(Some(Record::Key(..))) => {}
                // The last block may be torn. One that is damaged further up ends what is believed, too.
                Ok(None) | Err(backup::ReadError::CutOff { .. } | backup::ReadError::Damaged { .. }) => break,
                Err(error) => return Err(BackupFailure::resume(self.partial(), &error)),
            }
        }
        let (head, left) = (reader.head().clone(), reader.left().clone());
        self.revision.set(head.revision);
        if left.last_key.is_empty() {
            let reason = "it broke off before the first keys".to_owned();
            return Err(BackupFailure::Resume { partial: self.partial(), reason });
        }
        let mut file = file.try_clone().map_err(|source| self.failure(source))?;
        file.set_len(left.len)
            .and_then(|()| file.seek(SeekFrom::Start(left.len)))
            .map_err(|e| self.failure(e))?;
        let writer = Writer::resume(file, &left);
        Ok(Begun { head, leases, writer, last_key: left.last_key, keys: left.totals.keys })
    }

    /// Makes the whole file durable, and gives it its name, which must still be free.
    pub(super) fn keep(&self, file: File) -> Result<(), BackupFailure> {
        file.sync_all().map_err(|source| self.failure(source).left(self))?;
        let named = || {
            // Unlike a rename this overwrites nothing.
            std::fs::hard_link(self.partial(), &self.file)?;
            std::fs::remove_file(self.partial())?;
            let dir = self.file.parent().filter(|dir| !dir.as_os_str().is_empty());
            File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
        };
        named().map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => BackupFailure::Exists(self.file.clone()),
            _ => BackupFailure::File { file: self.file.clone(), source },
        })
    }
}
