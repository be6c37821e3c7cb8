//! The log as it lies in an engine, for people and tests that look at a store which nobody serves.

use std::ops::RangeInclusive;

use bytes::Bytes;
use engine::{Direction, KeySpan, Scan, Snapshot};
use layout::KeySpace;
use layout::log::{Body, LogRecord, PartitionId, Slot};
use layout::map::PartitionMap;
use layout::meta::{FORMAT, Reclaimed, UNFINISHED};
use layout::object::{Object, value_of};
use model::{Change, ChangeKind, Revision};
use thiserror::Error;

use crate::error::ReadFailure;
use crate::events::{newest_slot, partition_map};

/// One page holds at most this many slots.
const SLOTS_PER_PAGE_MAX: usize = 256;
/// And about this many bytes of log records.
const BYTES_PER_PAGE: usize = 1 << 20;

/// Why a log could not be read. Reading changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LogFailure {
    /// There is no store under this prefix.
    #[error("there is no store under the key prefix {prefix:?}")]
    Absent {
        /// The prefix that was looked under.
        prefix: String,
    },
    /// It was written by a newer version.
    #[error(
        "the store has format {found}, and this version of orlop reads up to format {FORMAT}: use a newer orlop"
    )]
    NewerFormat {
        /// The format that it has.
        found: u32,
    },
    /// It is the beginning of an import.
    #[error("an import was begun here and not finished: there is no log yet")]
    Unfinished,
    /// It could not be read, or is damaged: the text names the record.
    #[error(transparent)]
    Read(#[from] ReadFailure),
}

/// What a store says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// The cluster's random name.
    pub cluster_id: u64,
    /// The revision of the newest change, or [`Revision::FIRST`].
    pub revision: Revision,
    /// The revision that was compacted through last; what is below it may be gone.
    pub compacted: Option<Revision>,
}

/// The next thing in a partition's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogItem {
    /// A slot and what it holds.
    Slot(Slot, LogRecord),
    /// These slots were removed, as their changes lay below a compaction.
    Gone(RangeInclusive<u64>),
}

/// Some of a log, in the order of its slots.
#[derive(Clone, Debug)]
pub struct LogPage {
    /// What is there.
    pub items: Vec<LogItem>,
    /// Where the next page begins; `None` at the end of the log.
    pub next: Option<Slot>,
}

/// The value that a change left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The change deleted its key.
    Deleted,
    /// The value of the put.
    Value(Bytes),
    /// There was one, and a compaction freed it.
    Reclaimed,
}

/// Reads the log in a snapshot from front to back.
///
/// Every record is checked. A slot that is missing without a compaction to explain it is damage, and so is a value.
pub struct LogReader {
    snapshot: Box<dyn Snapshot>,
    space: KeySpace,
    map: PartitionMap,
    head: LogHead,
}

impl LogReader {
    /// Looks at the store that `snapshot` shows under the prefix of `space`.
    pub async fn open(snapshot: Box<dyn Snapshot>, space: KeySpace) -> Result<LogReader, LogFailure> {
        let read = snapshot.get(&space.identity_key()).await.map_err(ReadFailure::from)?;
        let Some(identity) = read else {
            return Err(LogFailure::Absent { prefix: space.prefix().to_owned() });
        };
        let identity = space.decode_identity(&identity).map_err(ReadFailure::from)?;
        if identity.format == UNFINISHED {
            return Err(LogFailure::Unfinished);
        }
        if identity.format > FORMAT {
            return Err(LogFailure::NewerFormat { found: identity.format });
        }
        let compacted = match snapshot.get(&space.compacted_key()).await.map_err(ReadFailure::from)? {
            Some(record) => Some(space.decode_compacted(&record).map_err(ReadFailure::from)?),
            None => None,
        };
        let map = partition_map(snapshot.as_ref(), &space).await?;
        let mut revision = Revision::FIRST;
        for partition in map.ids() {
            let newest = newest_slot(snapshot.as_ref(), &space, partition).await?;
            let (_, newest) = newest.ok_or_else(|| missing(Slot(1), partition))?;
            revision = revision.max(newest.revision);
        }
        let head = LogHead { cluster_id: identity.cluster_id, revision, compacted };
        Ok(LogReader { snapshot, space, map, head })
    }

    /// The partitions of the user keys.
    pub fn partitions(&self) -> &PartitionMap {
        &self.map
    }

    /// What the store says about itself.
    pub fn head(&self) -> LogHead {
        self.head
    }

    /// The slots of a partition from `first` on: the next page's worth.
    pub async fn page(&self, partition: PartitionId, first: Slot) -> Result<LogPage, ReadFailure> {
        let span = self.space.log_span(partition, first);
        let scan = Scan {
            span: KeySpan { start: span.start, end: Some(span.end) },
            direction: Direction::Forward,
            records_max: SLOTS_PER_PAGE_MAX,
            bytes_max: BYTES_PER_PAGE,
            values: true,
        };
        let page = self.snapshot.scan(&scan).await?;
        let mut items = Vec::with_capacity(page.records.len());
        let mut expected = first;
        for (key, value) in &page.records {
            let (_, slot) = self.space.decode_log_key(key)?;
            let record = self.space.decode_log(key, value)?;
            if slot != expected {
                let gone = expected.0..=slot.0.saturating_sub(1);
                self.explain_gap(partition, &gone, &record).await?;
                items.push(LogItem::Gone(gone));
            }
            expected = slot.next();
            items.push(LogItem::Slot(slot, record));
        }
        Ok(LogPage { items, next: page.next.map(|_| expected) })
    }

    /// Whether a compaction can have removed slots that are missing before `record`.
    async fn explain_gap(
        &self,
        partition: PartitionId,
        gone: &RangeInclusive<u64>,
        record: &LogRecord,
    ) -> Result<(), ReadFailure> {
        let position = self.snapshot.get(&self.space.reclaimed_key(partition)).await?;
        let trimmed = match position {
            Some(position) => self.space.decode_reclaimed(partition, &position)?,
            None => Reclaimed::default(),
        };
        // The position may be behind after a step whose outcome was unclear. All that goes lies below C*, though.
        let below = self.head.compacted.is_some_and(|compacted| before(record) < compacted);
        if *gone.end() <= trimmed.trimmed_through.0 || (partition != PartitionId::SYSTEM && below) {
            return Ok(());
        }
        Err(missing(Slot(*gone.start()), partition))
    }

    /// What each change of one slot left behind, in their order.
    pub async fn contents(&self, changes: &[Change]) -> Result<Vec<Content>, ReadFailure> {
        let object_key = |change: &Change| self.space.object_key(change.key.as_slice(), change.revision);
        let keys: Vec<Bytes> = changes.iter().map(object_key).collect();
        let records = self.snapshot.get_many(&keys).await?;
        let mut contents = Vec::with_capacity(changes.len());
        for ((change, key), record) in changes.iter().zip(&keys).zip(records) {
            contents.push(self.content(change, key, record)?);
        }
        Ok(contents)
    }

    fn content(&self, change: &Change, key: &Bytes, record: Option<Bytes>) -> Result<Content, ReadFailure> {
        let object = record.map(|record| self.space.decode_object(key, &record)).transpose()?;
        let corrupt = |what: &str| {
            let key = key.escape_ascii();
            Err(ReadFailure::Corrupt(format!("the object record {key} {what}")))
        };
        match (change.kind, object) {
            (ChangeKind::Put(_), Some(Object::Put(key_value))) => match value_of(&key_value) {
                Ok(value) => Ok(Content::Value(value)),
                Err(reason) => corrupt(&format!("is damaged: {reason}")),
            },
            (ChangeKind::Put(_), Some(Object::Tombstone)) => corrupt("should hold a value"),
            (ChangeKind::Put(_), None) => match self.head.compacted {
                Some(compacted) if change.revision < compacted => Ok(Content::Reclaimed),
                _ => corrupt("is missing"),
            },
            (ChangeKind::Delete, _) => Ok(Content::Deleted),
        }
    }
}

/// The revision of the partition before a slot.
fn before(record: &LogRecord) -> Revision {
    match &record.body {
        Body::Changes(changes) => changes.first().map_or(record.revision, |first| first.revision.previous()),
        Body::Takeover | Body::Released | Body::Filler | Body::System(_) => record.revision,
    }
}

fn missing(slot: Slot, partition: PartitionId) -> ReadFailure {
    ReadFailure::Corrupt(format!("slot {} of partition {} is missing", slot.0, partition.0))
}
