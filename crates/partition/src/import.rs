//! Founding a store with a state that it did not write itself: keys, their facts and values, leases, one revision.
//!
//! The records are those of a store that made the newest revision itself, was compacted at it, and has given everything
//! back that this frees. Nothing is served before all of them are there: the identity says that the import is not
//! finished, and only the last batch makes it a store's.

use std::sync::Arc;

use base::Random;
use bytes::Bytes;
use engine::{Batch, CommitError, Direction, Engine, KeySpan, Scan};
use layout::KeySpace;
use layout::log::{Body, Epoch, Incarnation, LogRecord, PartitionId, Slot, SystemChange};
use layout::meta::{FORMAT, Identity, UNFINISHED};
use layout::system::LeaseRecord;
use model::{Change, ChangeKind, Key, KeyMeta, LeaseId, Revision};
use thiserror::Error;

use crate::error::ReadFailure;

/// One batch of an import has at most so many records: what it takes in memory, and of an engine's patience.
const IMPORT_RECORDS_MAX: usize = 2048;
/// And no further one when they have so many bytes. TiKV takes some 8 MiB at a time.
const IMPORT_BYTES_MAX: usize = 4 << 20;
/// One slot of the log grants so many leases.
const LEASES_PER_SLOT_MAX: usize = 1024;

/// Why nothing could be imported. Nothing is served of what was written until then.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ImportFailure {
    /// There is a store.
    #[error("there is a store already, and an import never changes one: import into an empty place")]
    NotEmpty,
    /// There is what an import left behind that was broken off.
    #[error(
        "an import was begun here and not finished: delete what it has left, or choose another place, and import again"
    )]
    Unfinished,
    /// It could not be looked at.
    #[error("the engine cannot be read: {0}")]
    Read(ReadFailure),
    /// The engine did not take it.
    #[error("the engine does not take what is imported: {0}")]
    Write(CommitError),
}

/// A store that is being founded. When it is dropped before [`Import::finish`], no server starts on it.
pub struct Import {
    engine: Arc<dyn Engine>,
    space: KeySpace,
    cluster_id: u64,
    batch: Batch,
    batch_bytes: usize,
    /// The changes of the newest revision, in their order.
    changes: Vec<Change>,
    leases: Vec<SystemChange>,
    /// The next slot of the system partition.
    next: Slot,
}

impl Import {
    /// Begins an import under the prefix of `space`, where no record may be.
    pub async fn begin(
        engine: Arc<dyn Engine>,
        random: &dyn Random,
        space: KeySpace,
    ) -> Result<Import, ImportFailure> {
        if let Some(failure) = occupied(engine.as_ref(), &space).await.map_err(ImportFailure::Read)? {
            return Err(failure);
        }
        let cluster_id = random.next_u64().max(1);
        let mut import = Import {
            engine,
            space,
            cluster_id,
            batch: Batch::new(),
            batch_bytes: 0,
            changes: Vec::new(),
            leases: Vec::new(),
            next: Slot(1),
        };
        import.claim().await?;
        Ok(import)
    }

    /// Takes the place, so that nobody else founds a store here.
    async fn claim(&mut self) -> Result<(), ImportFailure> {
        let identity = Identity { format: UNFINISHED, cluster_id: self.cluster_id };
        let mut batch = Batch::new();
        batch.insert(self.space.identity_key(), self.space.encode_identity(identity));
        match self.engine.commit(batch).await {
            Ok(()) => Ok(()),
            Err(CommitError::Conflict { .. }) => Err(ImportFailure::NotEmpty),
            Err(error) => Err(ImportFailure::Write(error)),
        }
    }

    /// Adds a lease.
    pub async fn lease(&mut self, lease: LeaseId, ttl_secs: i64) -> Result<(), ImportFailure> {
        let key = self.space.lease_key(lease);
        let value = self.space.encode_lease(&key, LeaseRecord { ttl_secs, revoking: false });
        self.put(key, value).await?;
        self.leases.push(SystemChange::LeaseGranted(lease, ttl_secs));
        if self.leases.len() == LEASES_PER_SLOT_MAX {
            self.grant().await?;
        }
        Ok(())
    }

    /// Adds a live key in its newest version.
    pub async fn live(&mut self, key: &Key, meta: &KeyMeta, value: &[u8]) -> Result<(), ImportFailure> {
        let index_key = self.space.index_key(key.as_slice());
        let index = self.space.encode_index(&index_key, meta);
        self.put(index_key, index).await?;
        self.replaced(key, meta, value).await
    }

    /// Adds a version that the newest revision replaced or deleted: who watches is told of it as the previous one.
    pub async fn replaced(&mut self, key: &Key, meta: &KeyMeta, value: &[u8]) -> Result<(), ImportFailure> {
        let object_key = self.space.object_key(key.as_slice(), meta.mod_revision);
        let object = self.space.encode_put(&object_key, key.as_slice(), meta, value);
        self.put(object_key, object).await
    }

    /// Adds the next change of the newest revision. `previous` is the revision that it replaced, [`Revision::NONE`] where
    /// there was none or nobody knows any more.
    pub async fn change(&mut self, change: Change) -> Result<(), ImportFailure> {
        if change.kind == ChangeKind::Delete {
            let object_key = self.space.object_key(change.key.as_slice(), change.revision);
            let tombstone = self.space.encode_tombstone(&object_key);
            self.put(object_key, tombstone).await?;
        }
        self.changes.push(change);
        Ok(())
    }

    /// Makes all of it a store that is at `revision`, which no change may exceed, and compacted through it. Durable when
    /// this returns.
    pub async fn finish(mut self, revision: Revision) -> Result<(), ImportFailure> {
        self.grant().await?;
        if revision > Revision::FIRST {
            let compacted = self.space.encode_compacted(revision);
            self.put(self.space.compacted_key(), compacted).await?;
            self.slot_of_system(vec![SystemChange::Compacted(revision)]).await?;
        }
        let changes = std::mem::take(&mut self.changes);
        self.slot(PartitionId::FIRST, Slot(1), Revision::FIRST, Body::Filler).await?;
        let body = if changes.is_empty() { Body::Filler } else { Body::Changes(changes) };
        if revision > Revision::FIRST {
            self.slot(PartitionId::FIRST, Slot(2), revision, body).await?;
        }
        if self.next == Slot(1) {
            self.slot(PartitionId::SYSTEM, Slot(1), Revision::FIRST, Body::Filler).await?;
        }
        self.flush().await?;
        let identity = Identity { format: FORMAT, cluster_id: self.cluster_id };
        let mut batch = Batch::new();
        batch.put(self.space.identity_key(), self.space.encode_identity(identity));
        self.engine.commit(batch).await.map_err(ImportFailure::Write)
    }

    /// Writes the grants of the leases that were added since.
    async fn grant(&mut self) -> Result<(), ImportFailure> {
        let leases = std::mem::take(&mut self.leases);
        if leases.is_empty() { Ok(()) } else { self.slot_of_system(leases).await }
    }

    async fn slot_of_system(&mut self, changes: Vec<SystemChange>) -> Result<(), ImportFailure> {
        let system = PartitionId::SYSTEM;
        if self.next == Slot(1) {
            // The first one founds, as in every store.
            self.slot(system, Slot(1), Revision::FIRST, Body::Filler).await?;
            self.next = Slot(2);
        }
        self.slot(system, self.next, Revision::FIRST, Body::System(changes)).await?;
        self.next = self.next.next();
        Ok(())
    }

    async fn slot(
        &mut self,
        partition: PartitionId,
        slot: Slot,
        revision: Revision,
        body: Body,
    ) -> Result<(), ImportFailure> {
        let key = self.space.log_key(partition, slot);
        let record = LogRecord { epoch: Epoch(0), owner: Incarnation(0), batch: 0, revision, body };
        let value = self.space.encode_log(&key, &record);
        self.put(key, value).await
    }

    async fn put(&mut self, key: Bytes, value: Bytes) -> Result<(), ImportFailure> {
        self.batch_bytes += key.len() + value.len();
        self.batch.put(key, value);
        if self.batch.writes.len() < IMPORT_RECORDS_MAX && self.batch_bytes < IMPORT_BYTES_MAX {
            return Ok(());
        }
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), ImportFailure> {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.writes.is_empty() {
            return Ok(());
        }
        self.engine.commit(batch).await.map_err(ImportFailure::Write)
    }
}

/// What is in the way of an import, if anything is.
async fn occupied(engine: &dyn Engine, space: &KeySpace) -> Result<Option<ImportFailure>, ReadFailure> {
    let snapshot = engine.snapshot().await?;
    if let Some(identity) = snapshot.get(&space.identity_key()).await? {
        let is_unfinished = space.decode_identity(&identity)?.format == UNFINISHED;
        return Ok(Some(if is_unfinished { ImportFailure::Unfinished } else { ImportFailure::NotEmpty }));
    }
    let all = space.all_records();
    let mut rest = Some(KeySpan { start: all.start, end: Some(all.end) });
    while let Some(span) = rest {
        let scan = Scan {
            span,
            direction: Direction::Forward,
            records_max: 1,
            bytes_max: usize::MAX,
            values: false,
        };
        let page = snapshot.scan(&scan).await?;
        if !page.records.is_empty() {
            return Ok(Some(ImportFailure::NotEmpty));
        }
        rest = page.next;
    }
    Ok(None)
}
