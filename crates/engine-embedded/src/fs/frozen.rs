use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::real::{LOCK_NAME, holder, names};
use super::{File, Fs, LockError};

/// A directory of the machine's file system that is read and never changed, also where it could be.
///
/// Recovery tidies up what it reads: it removes leftovers, cuts a torn write off, makes files durable. None of that is
/// needed to read a directory once, so it is accepted and left undone. A new file is refused: it would be missed.
pub(crate) struct FrozenFs {
    dir: PathBuf,
}

impl FrozenFs {
    pub(crate) fn new(dir: &Path) -> FrozenFs {
        FrozenFs { dir: dir.to_owned() }
    }
}

impl Fs for FrozenFs {
    fn list(&self) -> io::Result<Vec<String>> {
        names(&self.dir)
    }

    fn create(&self, _: &str) -> io::Result<Arc<dyn File>> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(FrozenFile(fs::File::open(self.dir.join(name))?)))
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Shared with others that read. A directory without a lock file is a copy that nobody has opened.
    fn lock(&self) -> Result<Box<dyn Send + Sync>, LockError> {
        let path = self.dir.join(LOCK_NAME);
        let file = match fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Box::new(())),
            Err(error) => return Err(LockError::Io(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(Box::new(file)),
            Err(fs::TryLockError::WouldBlock) => Err(LockError::Held(holder(&path))),
            Err(fs::TryLockError::Error(error)) => Err(LockError::Io(error)),
        }
    }
}

struct FrozenFile(fs::File);

impl File for FrozenFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
