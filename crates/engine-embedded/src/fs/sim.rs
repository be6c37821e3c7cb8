//! A directory in memory that can fill up, fail, and lose what was not fsynced.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::Random;
use parking_lot::Mutex;

use super::{File, Fs, LockError};

/// A disk writes this many bytes as a whole or not at all.
const SECTOR: usize = 512;

/// The system's cache knows by pages what is still to be written.
const PAGE: usize = 4096;

/// The next operations that fail, and how.
#[derive(Default)]
pub(crate) struct Faults {
    /// Writes to segment files fail after this many bytes of the first one got through.
    pub(crate) write: Option<(usize, io::ErrorKind)>,
    pub(crate) fsync: bool,
    pub(crate) set_len: bool,
    pub(crate) read: bool,
    /// The power is cut when this many operations that change something were done.
    pub(crate) power: Option<u64>,
}

#[derive(Default)]
struct Content {
    now: Vec<u8>,
    /// What a power loss certainly leaves.
    durable: Vec<u8>,
    /// The pages that the next fsync writes. One that fails forgets them, as Linux does: those that come after it
    /// succeed without them.
    dirty: BTreeSet<usize>,
    /// Disk space taken: `allocate` takes it ahead of `now`'s writes.
    taken: usize,
    /// Names and handles.
    names: usize,
}

#[derive(Default)]
struct Disk {
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    files: Vec<Content>,
    capacity: Option<usize>,
    faults: Faults,
}

/// The directory. Cheap to clone; clones show the same.
#[derive(Clone, Default)]
pub(crate) struct SimFs {
    disk: Arc<Mutex<Disk>>,
    locked: Arc<AtomicBool>,
    /// Set once the power is cut: every operation of this life fails.
    dead: Arc<AtomicBool>,
}

struct SimFile {
    fs: SimFs,
    id: usize,
    is_segment: bool,
}

impl Content {
    /// Notes that what is between the positions was changed.
    fn touch(&mut self, start: usize, end: usize) {
        self.dirty.extend(start / PAGE..end.div_ceil(PAGE));
    }

    fn set_len(&mut self, len: usize) {
        self.touch(len, self.now.len());
        self.now.resize(len, 0);
    }

    fn sync(&mut self) {
        self.durable.resize(self.now.len(), 0);
        for page in std::mem::take(&mut self.dirty) {
            let end = ((page + 1) * PAGE).min(self.now.len());
            let start = (page * PAGE).min(end);
            self.durable[start..end].copy_from_slice(&self.now[start..end]);
        }
    }
}

impl Disk {
    fn taken(&self) -> usize {
        self.files.iter().filter(|file| file.names > 0).map(|file| file.taken.max(file.now.len())).sum()
    }

    /// Takes space for a file to be `len` long.
    fn take(&mut self, id: usize, len: usize) -> io::Result<()> {
        let had = self.files[id].taken.max(self.files[id].now.len());
        if len > had && self.capacity.is_some_and(|capacity| self.taken() - had + len > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn unlink(&mut self, id: usize) {
        self.files[id].names -= 1;
        if self.files[id].names == 0 {
            self.files[id].taken = 0;
        }
    }
}

impl SimFs {
    pub(crate) fn set_capacity(&self, capacity: Option<usize>) {
        self.disk.lock().capacity = capacity;
    }

    pub(crate) fn taken(&self) -> usize {
        self.disk.lock().taken()
    }

    pub(crate) fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.disk.lock().faults);
    }

    /// The content of a file.
    pub(crate) fn content(&self, name: &str) -> Vec<u8> {
        let disk = self.disk.lock();
        disk.files[disk.names[name]].now.clone()
    }

    /// Replaces the content of a file, durably.
    pub(crate) fn set_content(&self, name: &str, content: Vec<u8>) {
        let mut disk = self.disk.lock();
        let id = disk.names[name];
        disk.files[id].durable.clone_from(&content);
        disk.files[id].now = content;
        disk.files[id].dirty.clear();
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.disk.lock().names.keys().cloned().collect()
    }

    /// An independent directory with the content that processes see now: what a killed process leaves.
    pub(crate) fn after_kill(&self) -> SimFs {
        let disk = self.disk.lock();
        let mut copy = Disk::default();
        for (name, &id) in &disk.names {
            let now = disk.files[id].now.clone();
            copy.names.insert(name.clone(), copy.files.len());
            let taken = disk.files[id].taken;
            copy.files.push(Content { durable: now.clone(), taken, now, names: 1, ..Content::default() });
        }
        copy.durable_names = copy.names.clone();
        SimFs { disk: Arc::new(Mutex::new(copy)), ..SimFs::default() }
    }

    /// Cuts the power: this life's operations fail from now on. The answer is what the next life finds: all that
    /// was fsynced, and of the rest any part, in sectors that may also hold garbage.
    pub(crate) fn power_loss(&self, random: &dyn Random) -> SimFs {
        self.dead.store(true, Ordering::SeqCst);
        let disk = self.disk.lock();
        let mut names = disk.durable_names.clone();
        // Each name that was changed since the last directory fsync has made it or not.
        let touched: BTreeSet<&String> = disk.names.keys().chain(disk.durable_names.keys()).collect();
        for name in touched {
            if disk.names.get(name) != disk.durable_names.get(name) && random.next_u64().is_multiple_of(2) {
                match disk.names.get(name) {
                    Some(&id) => names.insert(name.clone(), id),
                    None => names.remove(name),
                };
            }
        }
        let mut copy = Disk::default();
        for (name, id) in names {
            let file = &disk.files[id];
            let now = torn(&file.durable, &file.now, random);
            copy.names.insert(name, copy.files.len());
            let (durable, taken) = (now.clone(), file.taken);
            copy.files.push(Content { durable, taken, now, names: 1, ..Content::default() });
        }
        copy.durable_names = copy.names.clone();
        SimFs { disk: Arc::new(Mutex::new(copy)), ..SimFs::default() }
    }

    fn alive(&self) -> io::Result<()> {
        if self.dead.load(Ordering::SeqCst) {
            return Err(io::Error::other("the power is cut"));
        }
        Ok(())
    }

    /// Counts an operation that changes something.
    fn change(&self) -> io::Result<()> {
        self.alive()?;
        let power = &mut self.disk.lock().faults.power;
        match power {
            Some(0) => self.dead.store(true, Ordering::SeqCst),
            Some(left) => *left -= 1,
            None => {}
        }
        self.alive()
    }

    fn handle(&self, name: &str, id: usize) -> Arc<dyn File> {
        Arc::new(SimFile {
            fs: self.clone(),
            id,
            is_segment: name.ends_with(".seg") || name.ends_with(".tmp"),
        })
    }
}

/// The durable content with a random part of what was written since.
fn torn(durable: &[u8], now: &[u8], random: &dyn Random) -> Vec<u8> {
    let mut content = durable.to_vec();
    let mood = random.next_u64() % 4;
    if mood == 0 {
        return content;
    }
    if now.len() < content.len() && random.next_u64().is_multiple_of(2) {
        content.truncate(now.len());
    }
    if now.len() > content.len() {
        let longer = (random.next_u64() as usize) % (now.len() - content.len() + 1);
        content.resize(content.len() + longer, 0);
    }
    for start in (0..content.len()).step_by(SECTOR) {
        let end = (start + SECTOR).min(content.len()).min(now.len());
        if start >= end || content[start..end] == now[start..end] {
            continue;
        }
        match (mood, random.next_u64() % 8) {
            (1, _) | (2, 0..4) | (3, 0..6) => content[start..end].copy_from_slice(&now[start..end]),
            // Garbage only where the new bytes differ: a disk does not harm what it was not told to write.
            (3, 6) => {
                for at in start..end {
                    if content[at] != now[at] {
                        content[at] = random.next_u64() as u8;
                    }
                }
            }
            _ => {}
        }
    }
    content
}

impl Fs for SimFs {
    fn list(&self) -> io::Result<Vec<String>> {
        self.alive()?;
        Ok(self.names())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.change()?;
        let mut disk = self.disk.lock();
        let id = match disk.names.get(name) {
            Some(&id) => {
                disk.files[id].set_len(0);
                disk.files[id].taken = 0;
                id
            }
            None => {
                let id = disk.files.len();
                disk.files.push(Content { names: 1, ..Content::default() });
                disk.names.insert(name.to_owned(), id);
                id
            }
        };
        drop(disk);
        Ok(self.handle(name, id))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.alive()?;
        let id = self.disk.lock().names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(self.handle(name, id))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change()?;
        let mut disk = self.disk.lock();
        let id = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        if let Some(old) = disk.names.insert(to.to_owned(), id) {
            disk.unlink(old);
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change()?;
        let mut disk = self.disk.lock();
        let id = disk.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        disk.unlink(id);
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.change()?;
        let mut disk = self.disk.lock();
        disk.durable_names = disk.names.clone();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("data").join(name)
    }

    fn lock(&self) -> Result<Box<dyn Send + Sync>, LockError> {
        if self.locked.swap(true, Ordering::SeqCst) {
            return Err(LockError::Held(Some(1)));
        }
        Ok(Box::new(Unlock(self.locked.clone())))
    }
}

struct Unlock(Arc<AtomicBool>);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl File for SimFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.fs.alive()?;
        let disk = self.fs.disk.lock();
        if disk.faults.read {
            return Err(io::Error::other("input/output error"));
        }
        let start = offset as usize;
        let content = &disk.files[self.id].now;
        let bytes = content.get(start..start + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.fs.change()?;
        let mut disk = self.fs.disk.lock();
        let mut bytes = bytes;
        let mut failure = None;
        if self.is_segment
            && let Some((through, kind)) = disk.faults.write
        {
            bytes = &bytes[..through.min(bytes.len())];
            failure = Some(kind);
        }
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        disk.take(self.id, end)?;
        let file = &mut disk.files[self.id];
        if file.now.len() < end {
            file.now.resize(end, 0);
        }
        file.now[start..end].copy_from_slice(bytes);
        file.touch(start, end);
        failure.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fs.change()?;
        let mut disk = self.fs.disk.lock();
        if disk.faults.fsync {
            disk.files[self.id].dirty.clear();
            return Err(io::Error::other("input/output error"));
        }
        disk.files[self.id].sync();
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fs.change()?;
        let mut disk = self.fs.disk.lock();
        if disk.faults.set_len {
            return Err(io::Error::other("input/output error"));
        }
        let file = &mut disk.files[self.id];
        file.set_len(len as usize);
        file.taken = file.taken.min(len as usize);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.fs.change()?;
        let mut disk = self.fs.disk.lock();
        disk.take(self.id, len as usize)?;
        let file = &mut disk.files[self.id];
        file.taken = file.taken.max(len as usize);
        if file.now.len() < len as usize {
            file.now.resize(len as usize, 0);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.fs.alive()?;
        Ok(self.fs.disk.lock().files[self.id].now.len() as u64)
    }
}
