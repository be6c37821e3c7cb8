use std::collections::{BTreeMap, VecDeque};
use std::mem::size_of;
use std::ops::Bound;

use bytes::Bytes;

use crate::{Batch, BatchClass, CommitError, Direction, KeySpan, Scan, ScanPage, Usage, Write};

/// What a record takes besides its key and its value.
const RECORD_BYTES: u64 = (size_of::<Bytes>() + size_of::<Record>()) as u64;
/// What a superseded version takes besides its value.
const OLD_BYTES: u64 = (size_of::<Old>() + size_of::<(u64, Bytes)>()) as u64;
/// Superseded versions looked at per call (more only after a larger batch), so that dropping a snapshot that
/// was held for long does not stop everybody else.
const COLLECT_STEP: usize = 1024;
/// Keys sampled for split points: enough to cut a span into more pieces than a machine has threads.
const SAMPLES_MAX: usize = 4096;

/// Where a commit stands in the order of all commits.
pub(super) type Sequence = u64;

/// All records, with the versions that a snapshot still needs.
///
/// A commit has a number; a snapshot is the number of the last commit that it shows. Each superseded version
/// is queued under the commit that superseded it and dropped once no snapshot is older than that commit, so
/// the work of dropping is proportional to what was written.
pub(super) struct Versions {
    records: BTreeMap<Bytes, Record>,
    last: Sequence,
    /// How many snapshots stand at each commit.
    pins: BTreeMap<Sequence, usize>,
    superseded: VecDeque<(Sequence, Bytes)>,
    usage: Usage,
    capacity_bytes: u64,
}

struct Record {
    since: Sequence,
    /// `None` after a deletion, as long as an older version is still needed.
    value: Option<Bytes>,
    /// Oldest first. A snapshot sees at most one of them.
    old: Vec<Old>,
}

/// What a record was from the commit `since` until just before the commit `until`.
struct Old {
    since: Sequence,
    until: Sequence,
    value: Option<Bytes>,
}

impl Versions {
    pub(super) fn new(capacity_bytes: u64) -> Versions {
        Versions {
            records: BTreeMap::new(),
            last: 0,
            pins: BTreeMap::new(),
            superseded: VecDeque::new(),
            usage: Usage::default(),
            capacity_bytes,
        }
    }

    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// Pins what is there now.
    pub(super) fn pin(&mut self) -> Sequence {
        *self.pins.entry(self.last).or_default() += 1;
        self.last
    }

    pub(super) fn unpin(&mut self, at: Sequence) {
        let count = self.pins.get_mut(&at).expect("a snapshot pins its commit until it is dropped");
        *count -= 1;
        if *count == 0 {
            self.pins.remove(&at);
        }
        self.collect(COLLECT_STEP);
    }

    pub(super) fn apply(&mut self, batch: Batch) -> Result<(), CommitError> {
        self.check_space(&batch)?;
        for write in &batch.writes {
            if let Write::Insert(key, _) = write
                && self.records.get(key).is_some_and(|record| record.value.is_some())
            {
                return Err(CommitError::Conflict { key: key.clone() });
            }
        }
        let writes = batch.writes.len();
        self.last += 1;
        for write in batch.writes {
            match write {
                // Copied, because what comes in is often a slice of a much larger buffer that it would keep.
                Write::Put(key, value) | Write::Insert(key, value) => {
                    self.set(key, Some(Bytes::copy_from_slice(&value)));
                }
                Write::Delete(key) => self.set(key, None),
            }
        }
        self.collect(COLLECT_STEP.max(writes.saturating_mul(2)));
        Ok(())
    }

    /// Old and new must fit side by side, as on a disk.
    fn check_space(&self, batch: &Batch) -> Result<(), CommitError> {
        if batch.class == BatchClass::Reclaim {
            return Ok(());
        }
        let added: u64 = batch
            .writes
            .iter()
            .map(|write| match write {
                Write::Put(key, value) | Write::Insert(key, value) => RECORD_BYTES + len(key) + len(value),
                Write::Delete(_) => 0,
            })
            .sum();
        if self.usage.total_bytes.saturating_add(added) <= self.capacity_bytes {
            return Ok(());
        }
        Err(CommitError::NoSpace(format!(
            "{} of {} bytes of memory are in use and the batch needs up to {added} more: \
             delete or compact first",
            self.usage.total_bytes, self.capacity_bytes
        )))
    }

    fn set(&mut self, key: Bytes, value: Option<Bytes>) {
        let since = self.last;
        let Some(record) = self.records.get_mut(&key) else {
            if let Some(value) = value {
                let bytes = RECORD_BYTES + len(&key) + len(&value);
                self.usage.total_bytes += bytes;
                self.usage.live_bytes += bytes;
                let record = Record { since, value: Some(value), old: Vec::new() };
                self.records.insert(Bytes::copy_from_slice(&key), record);
            }
            return;
        };
        let fixed = RECORD_BYTES + len(&key);
        if let Some(new) = &value {
            self.usage.live_bytes += fixed + len(new);
            self.usage.total_bytes += len(new);
        }
        let replaced = Old {
            since: std::mem::replace(&mut record.since, since),
            until: since,
            value: std::mem::replace(&mut record.value, value),
        };
        if let Some(old) = &replaced.value {
            self.usage.live_bytes -= fixed + len(old);
        }
        let pinned = self.pins.last_key_value().is_some_and(|(newest, _)| *newest >= replaced.since);
        if pinned && replaced.value.is_some() {
            self.usage.total_bytes += OLD_BYTES;
            self.superseded.push_back((since, key));
            record.old.push(replaced);
        } else {
            self.usage.total_bytes -= replaced.value.as_ref().map_or(0, len);
            self.remove_if_gone(&key);
        }
    }

    /// Drops what no snapshot needs, after at most `steps` looks.
    fn collect(&mut self, steps: usize) {
        let needed = self.pins.first_key_value().map_or(self.last, |(oldest, _)| *oldest);
        for _ in 0..steps {
            match self.superseded.front() {
                Some((until, _)) if *until <= needed => {}
                _ => return,
            }
            let Some((_, key)) = self.superseded.pop_front() else { return };
            if let Some(record) = self.records.get_mut(&key) {
                let dropped = record.old.iter().take_while(|old| old.until <= needed).count();
                for old in record.old.drain(..dropped) {
                    self.usage.total_bytes -= OLD_BYTES + old.value.as_ref().map_or(0, len);
                }
                if record.old.is_empty() {
                    record.old = Vec::new();
                }
            }
            self.remove_if_gone(&key);
        }
    }

    /// Drops some of what no snapshot needs, and says whether there may be more of it.
    pub(super) fn collect_some(&mut self) -> bool {
        let before = self.superseded.len();
        self.collect(COLLECT_STEP);
        before - self.superseded.len() == COLLECT_STEP
    }

    /// A deleted record without old versions looks to every snapshot as if it had never been there.
    fn remove_if_gone(&mut self, key: &Bytes) {
        if self.records.get(key).is_some_and(|record| record.value.is_none() && record.old.is_empty()) {
            self.records.remove(key);
            self.usage.total_bytes -= RECORD_BYTES + len(key);
        }
    }

    pub(super) fn get(&self, at: Sequence, key: &[u8]) -> Option<Bytes> {
        self.records.get(key)?.value_at(at).cloned()
    }

    pub(super) fn scan(&self, at: Sequence, scan: &Scan) -> ScanPage {
        let records = self.span(&scan.span);
        match scan.direction {
            Direction::Forward => page(records, at, scan),
            Direction::Backward => page(records.rev(), at, scan),
        }
    }

    fn span(&self, span: &KeySpan) -> impl DoubleEndedIterator<Item = (&Bytes, &Record)> {
        let start: &[u8] = &span.start;
        let end = match &span.end {
            // An inverted span is empty; the map would not take it.
            Some(end) => Bound::Excluded(start.max(end)),
            None => Bound::Unbounded,
        };
        self.records.range::<[u8], _>((Bound::Included(start), end))
    }

    /// Keys that cut the span into pieces of about as many records each.
    pub(super) fn split_points(&self, span: &KeySpan, pieces: usize) -> Vec<Bytes> {
        let mut samples: Vec<&Bytes> = Vec::new();
        let mut stride = 1;
        for (position, (key, _)) in self.span(span).enumerate() {
            if position % stride != 0 {
                continue;
            }
            if samples.len() == SAMPLES_MAX {
                stride *= 2;
                let mut keep = false;
                samples.retain(|_| {
                    keep = !keep;
                    keep
                });
                // SAMPLES_MAX is even, so this key's position is a multiple of the new stride too.
            }
            samples.push(key);
        }
        let mut points: Vec<Bytes> = (1..pieces.min(SAMPLES_MAX))
            .filter_map(|piece| samples.get(piece * samples.len() / pieces.min(SAMPLES_MAX)))
            .filter(|key| ***key > span.start)
            .map(|key| (*key).clone())
            .collect();
        points.dedup();
        points
    }
}

impl Record {
    fn value_at(&self, at: Sequence) -> Option<&Bytes> {
        if self.since <= at {
            return self.value.as_ref();
        }
        self.old.iter().rev().find(|old| old.since <= at && at < old.until)?.value.as_ref()
    }
}

fn page<'a>(records: impl Iterator<Item = (&'a Bytes, &'a Record)>, at: Sequence, scan: &Scan) -> ScanPage {
    let mut page = ScanPage::default();
    let mut bytes = 0_usize;
    for (key, record) in records {
        let Some(value) = record.value_at(at) else { continue };
        if let Some((last, _)) = page.records.last()
            && (page.records.len() >= scan.records_max || bytes >= scan.bytes_max)
        {
            page.next = Some(match scan.direction {
                Direction::Forward => KeySpan { start: key.clone(), end: scan.span.end.clone() },
                Direction::Backward => KeySpan { start: scan.span.start.clone(), end: Some(last.clone()) },
            });
            break;
        }
        let value = if scan.values { value.clone() } else { Bytes::new() };
        bytes = bytes.saturating_add(key.len()).saturating_add(value.len());
        page.records.push((key.clone(), value));
    }
    page
}

fn len(bytes: &Bytes) -> u64 {
    bytes.len() as u64
}
