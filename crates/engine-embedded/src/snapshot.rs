use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use engine::{ReadError, Scan, ScanPage, Snapshot};

use crate::queue::Request;
use crate::read::{Files, Wanted};
use crate::shared::{FORGET_STEP, Shared};
use crate::state::Found;

/// Entries that are looked at under one hold of the lock.
const LOOKS_MAX: usize = 512;
/// More values than this, or more bytes, are read on a thread for blocking work.
const VALUES_DIRECT_MAX: usize = 64;
const BYTES_DIRECT_MAX: usize = 256 << 10;

/// A view of the batches up to one of them.
pub(crate) struct EmbeddedSnapshot {
    shared: Arc<Shared>,
    at: u64,
}

impl EmbeddedSnapshot {
    pub(crate) fn open(shared: &Arc<Shared>) -> Result<EmbeddedSnapshot, ReadError> {
        let mut state = shared.state.write();
        if let Some(reason) = &state.closed {
            return Err(ReadError::Closed(reason.clone()));
        }
        let at = state.open_snapshot();
        drop(state);
        Ok(EmbeddedSnapshot { shared: shared.clone(), at })
    }

    /// Looks up keys, a bounded number under each hold of the lock.
    fn look_up(&self, keys: &[Bytes]) -> Result<(Files, Vec<Wanted>), ReadError> {
        let mut files = Files::default();
        let mut wanted = Vec::new();
        for (chunk_number, chunk) in keys.chunks(LOOKS_MAX).enumerate() {
            let state = self.shared.state.read();
            if let Some(reason) = &state.closed {
                return Err(ReadError::Closed(reason.clone()));
            }
            for (number, key) in chunk.iter().enumerate() {
                if let Some(entry) = state.get(key, self.at) {
                    files.keep(&state, &entry);
                    wanted.push(Wanted { key: key.clone(), entry, slot: chunk_number * LOOKS_MAX + number });
                }
            }
        }
        Ok((files, wanted))
    }

    /// Reads values, on a thread for blocking work when they are many.
    async fn read<T: Send + 'static>(
        &self,
        files: Files,
        wanted: Vec<Wanted>,
        mut slots: T,
        put: fn(&mut T, usize, Bytes),
    ) -> Result<T, ReadError> {
        let from_file = || wanted.iter().filter(|wanted| wanted.entry.inline.is_none());
        let bytes: usize = from_file().map(|wanted| wanted.entry.value_len as usize).sum();
        let shared = self.shared.clone();
        let many = from_file().count() > VALUES_DIRECT_MAX || bytes > BYTES_DIRECT_MAX;
        let work = move || {
            files.read(shared.fs.as_ref(), wanted, |slot, value| put(&mut slots, slot, value))?;
            Ok(slots)
        };
        if !many {
            return work();
        }
        match tokio::task::spawn_blocking(work).await {
            Ok(read) => read,
            Err(error) => Err(ReadError::Unavailable(format!("the read was given up: {error}"))),
        }
    }
}

impl Drop for EmbeddedSnapshot {
    fn drop(&mut self) {
        let mut state = self.shared.state.write();
        state.close_snapshot(self.at);
        let rest = state.forget(FORGET_STEP);
        drop(state);
        if rest {
            // Much was pinned: the writer thread forgets it in steps. A closed engine need not.
            let _ = self.shared.queue.push(Request::Forget);
        }
    }
}

#[async_trait]
impl Snapshot for EmbeddedSnapshot {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let key = Bytes::copy_from_slice(key);
        let (files, wanted) = self.look_up(std::slice::from_ref(&key))?;
        self.read(files, wanted, None, |slot, _, value| *slot = Some(value)).await
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, ReadError> {
        let (files, wanted) = self.look_up(keys)?;
        self.read(files, wanted, vec![None; keys.len()], |slots, slot, value| slots[slot] = Some(value)).await
    }

    async fn scan(&self, scan: &Scan) -> Result<ScanPage, ReadError> {
        let mut page = Page::new(scan);
        let mut span = Some(scan.span.clone());
        while let Some(rest) = span.take() {
            let state = self.shared.state.read();
            if let Some(reason) = &state.closed {
                return Err(ReadError::Closed(reason.clone()));
            }
            let room = scan.records_max.max(1) - page.found.len();
            let step = state.scan(self.at, &rest, scan.direction, (room.min(LOOKS_MAX), LOOKS_MAX));
            let mut full = false;
            for found in step.found {
                if !page.takes(&found) {
                    page.next = Some(page.rest_from(&found.key));
                    full = true;
                    break;
                }
                if scan.values {
                    page.files.keep(&state, &found.entry);
                }
                page.add(found);
            }
            drop(state);
            if full {
                break;
            }
            if page.found.len() >= scan.records_max.max(1) {
                page.next = step.rest;
                break;
            }
            span = step.rest;
        }
        self.fill(page).await
    }
}

/// A page that is being gathered.
struct Page<'a> {
    scan: &'a Scan,
    files: Files,
    found: Vec<Found>,
    bytes: usize,
    next: Option<engine::KeySpan>,
}

impl<'a> Page<'a> {
    fn new(scan: &'a Scan) -> Page<'a> {
        Page { scan, files: Files::default(), found: Vec::new(), bytes: 0, next: None }
    }

    fn size(&self, found: &Found) -> usize {
        found.key.len() + if self.scan.values { found.entry.value_len as usize } else { 0 }
    }

    /// Whether the page has room for a record: always for the first, then while the bytes allow it.
    fn takes(&self, found: &Found) -> bool {
        self.found.is_empty() || self.bytes + self.size(found) <= self.scan.bytes_max
    }

    fn add(&mut self, found: Found) {
        self.bytes += self.size(&found);
        self.found.push(found);
    }

    /// The span from the record `key`, which did not fit, to the end of the scan.
    fn rest_from(&self, key: &Bytes) -> engine::KeySpan {
        let span = &self.scan.span;
        match self.scan.direction {
            engine::Direction::Forward => engine::KeySpan { start: key.clone(), end: span.end.clone() },
            engine::Direction::Backward => {
                let mut end = key.to_vec();
                end.push(0);
                engine::KeySpan { start: span.start.clone(), end: Some(end.into()) }
            }
        }
    }
}

impl EmbeddedSnapshot {
    /// Reads the values of a gathered page.
    async fn fill(&self, page: Page<'_>) -> Result<ScanPage, ReadError> {
        let Page { scan, files, found, next, .. } = page;
        let records = found.iter().map(|found| (found.key.clone(), Bytes::new())).collect();
        if !scan.values {
            return Ok(ScanPage { records, next });
        }
        let wanted = found
            .into_iter()
            .enumerate()
            .map(|(slot, Found { key, entry })| Wanted { key, entry, slot })
            .collect();
        let put = |records: &mut Vec<(Bytes, Bytes)>, slot: usize, value| records[slot].1 = value;
        let records = self.read(files, wanted, records, put).await?;
        Ok(ScanPage { records, next })
    }
}
