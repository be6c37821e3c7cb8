//! What a process reads before it serves: the state of the user keys, and, when it leads, that of the system partition.

use std::ops::ControlFlow;

use bytes::Bytes;
use engine::{Direction, KeySpan, Scan, Snapshot};
use layout::Span;
use layout::log::PartitionId;
use layout::map::PartitionMap;
use layout::meta::Reclaimed;
use layout::system::SystemRecord;
use model::{Key, KeyMeta, KeyRange, LeaseId, Revision};

use super::takeover::Taken;
use super::{OpenFailure, Opening};
use crate::attachments::Attachments;
use crate::error::ReadFailure;
use crate::events::{empty_log, newest_slot, partition_map};
use crate::index::Index;
use crate::replica::Position;
use crate::system::{Holds, Tables, Trail};

/// Loading reads the records in pages of this many.
const RECORDS_PER_PAGE: usize = 8192;
/// And of about this many bytes.
const BYTES_PER_PAGE: usize = 8 << 20;

/// What one snapshot tells of the user keys.
pub(super) struct Loaded {
    pub(super) map: PartitionMap,
    /// How far the log of each partition goes.
    pub(super) positions: Vec<Position>,
    pub(super) index: Index,
    pub(super) attachments: Attachments,
    /// The newest revision in the snapshot: the log is followed from there.
    pub(super) revision: Revision,
    pub(super) tables: Tables,
    pub(super) compacted: Option<Revision>,
}

/// What a leader knows beside the user keys.
pub(super) struct Inherited {
    pub(super) tables: Tables,
    pub(super) compacted: Option<Revision>,
    /// Of each partition.
    pub(super) reclaimed: Vec<Reclaimed>,
    pub(super) trail: Trail,
}

impl Opening {
    /// Loads the user keys as of one snapshot, whoever owns them.
    pub(super) async fn load(&self) -> Result<Loaded, OpenFailure> {
        let snapshot = self.snapshot().await?;
        let map = partition_map(snapshot.as_ref(), &self.settings.space).await?;
        let mut positions = Vec::with_capacity(map.count());
        for partition in map.ids() {
            let newest = newest_slot(snapshot.as_ref(), &self.settings.space, partition).await?;
            let (slot, record) = newest.ok_or_else(|| empty_log(partition))?;
            positions.push(Position { partition, slot, revision: record.revision });
        }
        let revision = positions.iter().map(|of| of.revision).max().unwrap_or(Revision::FIRST);
        let compacted = self.load_compacted(snapshot.as_ref()).await?;
        let index = self.load_index(snapshot.as_ref()).await?;
        let mut attachments = Attachments::default();
        index.visit(&KeyRange::all(), Revision::MAX, |key, meta| {
            if !meta.lease.is_none()
                && let Ok(key) = Key::new(Bytes::copy_from_slice(key))
            {
                attachments.moved(&key, LeaseId::NONE, meta.lease);
            }
            ControlFlow::Continue(())
        });
        let tables = self.load_tables(snapshot.as_ref()).await?;
        Ok(Loaded { map, positions, index, attachments, revision, tables, compacted })
    }

    /// Loads the rest from one snapshot, taken after the takeovers are durable and before anybody took over again.
    pub(super) async fn inherit(
        &self,
        system: &Taken,
        users: &[(PartitionId, Taken)],
    ) -> Result<Inherited, OpenFailure> {
        let snapshot = self.snapshot().await?;
        let of_users = users.iter().map(|(partition, taken)| (*partition, taken));
        for (partition, taken) in std::iter::once((PartitionId::SYSTEM, system)).chain(of_users) {
            let newest = newest_slot(snapshot.as_ref(), &self.settings.space, partition).await?;
            let (owner, epoch) = (taken.record.owner, taken.record.epoch);
            if newest.is_none_or(|(_, record)| record.owner != owner || record.epoch != epoch) {
                return Err(OpenFailure::Contended(partition.0));
            }
        }
        let mut reclaimed = Vec::with_capacity(users.len());
        for (partition, _) in users {
            reclaimed.push(self.load_reclaimed(snapshot.as_ref(), *partition).await?);
        }
        Ok(Inherited {
            compacted: self.load_compacted(snapshot.as_ref()).await?,
            tables: self.load_tables(snapshot.as_ref()).await?,
            reclaimed,
            trail: self.load_trail(snapshot.as_ref()).await?,
        })
    }

    async fn load_index(&self, snapshot: &dyn Snapshot) -> Result<Index, ReadFailure> {
        let mut loader = Index::loader();
        let space = &self.settings.space;
        self.scan(snapshot, space.index_span(), |key, value| {
            let (key, meta): (Key, KeyMeta) = space.decode_index(key, value)?;
            loader.add(&key, meta);
            Ok(())
        })
        .await?;
        Ok(loader.finish())
    }

    async fn load_tables(&self, snapshot: &dyn Snapshot) -> Result<Tables, ReadFailure> {
        let mut tables = Tables::default();
        let space = &self.settings.space;
        self.scan(snapshot, space.system_span(), |key, value| {
            match space.decode_system(key, value)? {
                SystemRecord::Lease(lease, record) => drop(tables.leases.insert(lease, record)),
                SystemRecord::Alarm(alarm) => drop(tables.alarms.insert(alarm)),
            }
            Ok(())
        })
        .await?;
        Ok(tables)
    }

    async fn load_compacted(&self, snapshot: &dyn Snapshot) -> Result<Option<Revision>, ReadFailure> {
        let space = &self.settings.space;
        match snapshot.get(&space.compacted_key()).await? {
            Some(record) => Ok(Some(space.decode_compacted(&record)?)),
            None => Ok(None),
        }
    }

    async fn load_reclaimed(
        &self,
        snapshot: &dyn Snapshot,
        partition: PartitionId,
    ) -> Result<Reclaimed, ReadFailure> {
        match snapshot.get(&self.settings.space.reclaimed_key(partition)).await? {
            Some(record) => Ok(self.settings.space.decode_reclaimed(partition, &record)?),
            None => Ok(Reclaimed::default()),
        }
    }

    async fn load_trail(&self, snapshot: &dyn Snapshot) -> Result<Trail, ReadFailure> {
        let reclaimed = self.load_reclaimed(snapshot, PartitionId::SYSTEM).await?;
        let mut trail = Trail::default();
        let space = &self.settings.space;
        let span = space.log_span(PartitionId::SYSTEM, reclaimed.trimmed_through.next());
        self.scan(snapshot, span, |key, value| {
            let (_, slot) = space.decode_log_key(key)?;
            trail.push(slot, Holds::of(&space.decode_log(key, value)?.body));
            Ok(())
        })
        .await?;
        Ok(trail)
    }

    async fn scan(
        &self,
        snapshot: &dyn Snapshot,
        span: Span,
        mut record: impl FnMut(&Bytes, &Bytes) -> Result<(), layout::Damaged>,
    ) -> Result<(), ReadFailure> {
        let mut rest = Some(KeySpan { start: span.start, end: Some(span.end) });
        while let Some(span) = rest {
            let scan = Scan {
                span,
                direction: Direction::Forward,
                records_max: RECORDS_PER_PAGE,
                bytes_max: BYTES_PER_PAGE,
                values: true,
            };
            let page = snapshot.scan(&scan).await?;
            for (key, value) in &page.records {
                record(key, value)?;
            }
            rest = page.next;
        }
        Ok(())
    }
}
