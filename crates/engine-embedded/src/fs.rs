//! The few file operations that the engine needs, behind a trait, so that tests can fill the disk, fail an
//! fsync or cut the power.

mod frozen;
mod real;
#[cfg(any(test, feature = "fuzzing"))]
#[cfg_attr(not(test), expect(dead_code, reason = "fuzzing needs the files, tests the faults too"))]
pub(crate) mod sim;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use frozen::FrozenFs;
pub(crate) use real::RealFs;

/// One data directory. Names are plain file names in it.
pub(crate) trait Fs: Send + Sync + 'static {
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Creates an empty file for reading and writing; one of that name is emptied.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Renames a file over another or none.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name. Handles that are open stay readable.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// Where a name is, for messages.
    fn path(&self, name: &str) -> PathBuf;

    /// Takes the directory for this process until the answer is dropped.
    fn lock(&self) -> Result<Box<dyn Send + Sync>, LockError>;
}

/// Why the directory could not be taken.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Another process has it: its id, when it could be read.
    Held(Option<u32>),
    /// The lock file could not be opened, locked or written.
    Io(io::Error),
}

/// An open file, read and written by position.
pub(crate) trait File: Send + Sync + 'static {
    /// Fills `buffer` from `offset` on, or fails.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`, or fails with any part of it written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes what was written durable, with what is needed to read it back.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes everything about the file durable.
    fn sync_all(&self) -> io::Result<()>;

    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Takes disk space for the first `len` bytes and extends the file to them, as zeros. File systems that
    /// cannot are no error: the space is then taken as it is written.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// The length of the file.
    fn len(&self) -> io::Result<u64>;
}

/// Whether an error means that there is no space.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Reads a whole small file.
pub(crate) fn read_all(file: &dyn File) -> io::Result<Vec<u8>> {
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}
