//! From an engine to a running store: found it if it is empty, take the partitions over, load what they hold.

mod takeover;

use std::sync::Arc;

use base::{Clock, Random, Supervisor, TaskKind};
use engine::{Batch, CommitError, Direction, Engine, KeySpan, Scan, Snapshot};
use layout::log::{Body, Epoch, Incarnation, LogRecord, PartitionId, Slot};
use layout::meta::{FORMAT, Identity, Reclaimed};
use layout::system::SystemRecord;
use layout::{KeySpace, Span};
use model::{Key, KeyMeta, LeaseId, Revision};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tracing::info;

use crate::attachments::Attachments;
use crate::error::ReadFailure;
use crate::events::newest_slot;
use crate::history::History;
use crate::index::Index;
use crate::leadership::{LeaderLease, Leadership};
use crate::log_writer::{LogWriter, Pen};
use crate::partition::Partition;
use crate::reclaim::Reclaimer;
use crate::sequencer::{QUEUE_TXNS_MAX, Sequencer};
use crate::state::{Parts, Shared, State};
use crate::system::{Holds, QUEUE_CHANGES_MAX, System, SystemSequencer, SystemState, Tables, Trail};
use crate::values::Values;
use takeover::Taken;

/// The one partition of user keys; a later version splits it.
const USER: PartitionId = PartitionId(1);
/// Loading reads the records in pages of this many.
const RECORDS_PER_PAGE: usize = 8192;
/// And of about this many bytes.
const BYTES_PER_PAGE: usize = 8 << 20;

/// What opening a store needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The prefix of all of the store's records.
    pub space: KeySpace,
    /// How many bytes of recent history are kept in memory. Watchers and reads of older revisions go to the engine.
    pub history_bytes_max: usize,
    /// How many bytes of values are kept in memory.
    pub cache_bytes_max: u64,
    /// How processes agree on who owns the store, where several can reach the engine; none where the engine is one
    /// process's own.
    pub leader_lease: Option<LeaderLease>,
}

impl Settings {
    /// Settings for an ordinary machine that has its engine for itself: 64 MiB of history, 64 MiB of values.
    pub fn new(space: KeySpace) -> Settings {
        Settings { space, history_bytes_max: 64 << 20, cache_bytes_max: 64 << 20, leader_lease: None }
    }
}

/// Why a store could not be opened. Nothing was changed by a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenFailure {
    /// It was written by a newer version.
    #[error(
        "the store has format {found}, and this version of orlop reads up to format {FORMAT}: use a newer orlop"
    )]
    NewerFormat {
        /// The format that it has.
        found: u32,
    },
    /// Others keep taking its partitions over.
    #[error("another process keeps taking over partition {0}: does a second orlop use this store?")]
    Contended(u32),
    /// It could not be read.
    #[error("the store cannot be read: {0}")]
    Read(#[from] ReadFailure),
    /// The engine did not take the records that opening writes.
    #[error("the store cannot be written: {0}")]
    Write(String),
}

/// A running store.
#[derive(Clone)]
pub struct Store {
    /// The partition of all user keys.
    pub partition: Partition,
    /// Leases, alarms and the compacted revision.
    pub system: System,
    /// The cluster's random name, never zero.
    pub cluster_id: u64,
    /// How often the system partition has changed hands: what etcd calls the Raft term.
    pub term: u64,
}

/// What opening a store takes from the world.
#[derive(Clone)]
pub struct World {
    /// Where the records are.
    pub engine: Arc<dyn Engine>,
    /// What waits and pauses go by.
    pub clock: Arc<dyn Clock>,
    /// Where names come from.
    pub random: Arc<dyn Random>,
    /// Who runs the store's tasks.
    pub supervisor: Supervisor,
}

/// What one snapshot tells of everything that the store holds in memory.
struct Loaded {
    index: Index,
    attachments: Attachments,
    tables: Tables,
    compacted: Option<Revision>,
    reclaimed: Reclaimed,
    trail: Trail,
}

impl Store {
    /// Opens the store in `world`'s engine, or founds it, and starts its tasks.
    ///
    /// With a leader lease this waits for as long as another process owns the store: until it gives the store up, or has
    /// been silent for the length of the lease.
    pub async fn open(world: World, settings: Settings) -> Result<Store, OpenFailure> {
        let leadership = Leadership::new(world.engine.clone(), settings.leader_lease);
        let opening = Opening { world, settings, leadership };
        let identity = opening.identity().await?;
        let owner = Incarnation(opening.world.random.next_u128());
        // A started process owns nothing: it takes each partition over at a new epoch, the system partition first.
        let system = opening.lead(owner).await?;
        let mut log = opening.pen(PartitionId::SYSTEM, &system);
        // Loading may take longer than a lease: others must see meanwhile that somebody is there.
        let load = async {
            let user = opening.take_over(USER, owner, system.record.epoch).await?;
            // Nothing that was begun below the takeovers can be committed any more. What is left of it must not be met
            // later, when nobody knows any more what became of it.
            opening.settle_the_rest().await?;
            let loaded = opening.load(&system, &user).await?;
            Ok::<_, OpenFailure>((user, loaded))
        };
        let ((user, mut loaded), beats) = opening.beat_during(load, &mut log).await?;
        beats.into_iter().for_each(|slot| loaded.trail.push_new(slot));
        info!(
            keys = loaded.index.len(),
            leases = loaded.tables.leases.len(),
            revision = user.record.revision.get(),
            term = system.record.epoch.0,
            "store opened"
        );
        Ok(opening.start(identity, (system, log), user, loaded))
    }
}

struct Opening {
    world: World,
    settings: Settings,
    leadership: Leadership,
}

impl Opening {
    /// Ends what other processes have begun and not ended, dead or alive: the lock on the next slot of a log would hold up
    /// even looking for its end.
    async fn settle(&self) -> Result<(), ReadFailure> {
        let Span { start, end } = self.settings.space.all_records();
        Ok(self.world.engine.settle(&[KeySpan { start, end: Some(end) }]).await?)
    }

    /// As [`Opening::settle`], in everything but the system partition's log: this process writes there meanwhile.
    async fn settle_the_rest(&self) -> Result<(), ReadFailure> {
        let Span { start, end } = self.settings.space.all_records();
        let own = self.settings.space.log_span(PartitionId::SYSTEM, Slot(0));
        let spans = [KeySpan { start, end: Some(own.start) }, KeySpan { start: own.end, end: Some(end) }];
        Ok(self.world.engine.settle(&spans).await?)
    }

    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadFailure> {
        Ok(self.world.engine.snapshot().await?)
    }

    /// Who the store is; an empty one is founded first: its identity and the first slot of each partition, all in
    /// one batch, so that of two founders one finds the other's.
    async fn identity(&self) -> Result<Identity, OpenFailure> {
        let space = &self.settings.space;
        if let Some(identity) = self.read_identity().await? {
            return check_format(identity);
        }
        let cluster_id = self.world.random.next_u64().max(1);
        let mut batch = Batch::new();
        batch.insert(space.identity_key(), space.encode_identity(Identity { format: FORMAT, cluster_id }));
        for partition in [PartitionId::SYSTEM, USER] {
            let key = space.log_key(partition, Slot(1));
            let founded = LogRecord {
                epoch: Epoch(0),
                owner: Incarnation(0),
                batch: 0,
                revision: Revision::FIRST,
                body: Body::Filler,
            };
            let value = space.encode_log(&key, &founded);
            batch.insert(key, value);
        }
        match self.world.engine.commit(batch).await {
            Ok(()) | Err(CommitError::Conflict { .. } | CommitError::Undetermined(_)) => {}
            Err(error) => return Err(OpenFailure::Write(error.to_string())),
        }
        let founded = self.read_identity().await?;
        check_format(founded.ok_or_else(|| OpenFailure::Write("the first record did not stay".to_owned()))?)
    }

    async fn read_identity(&self) -> Result<Option<Identity>, ReadFailure> {
        let space = &self.settings.space;
        match self.snapshot().await?.get(&space.identity_key()).await? {
            Some(record) => Ok(Some(space.decode_identity(&record)?)),
            None => Ok(None),
        }
    }

    /// Loads everything from one snapshot, taken after the takeovers are durable and before anybody took over again.
    async fn load(&self, system: &Taken, user: &Taken) -> Result<Loaded, OpenFailure> {
        let snapshot = self.snapshot().await?;
        for (partition, taken) in [(PartitionId::SYSTEM, system), (USER, user)] {
            let newest = newest_slot(snapshot.as_ref(), &self.settings.space, partition).await?;
            let (owner, epoch) = (taken.record.owner, taken.record.epoch);
            if newest.is_none_or(|(_, record)| record.owner != owner || record.epoch != epoch) {
                return Err(OpenFailure::Contended(partition.0));
            }
        }
        let compacted = self.load_compacted(snapshot.as_ref()).await?;
        let index = self.load_index(snapshot.as_ref()).await?;
        let mut attachments = Attachments::default();
        index.visit(&model::KeyRange::all(), Revision::MAX, |key, meta| {
            if !meta.lease.is_none()
                && let Ok(key) = Key::new(bytes::Bytes::copy_from_slice(key))
            {
                attachments.moved(&key, LeaseId::NONE, meta.lease);
            }
            std::ops::ControlFlow::Continue(())
        });
        Ok(Loaded {
            index,
            attachments,
            tables: self.load_tables(snapshot.as_ref()).await?,
            compacted,
            reclaimed: self.load_reclaimed(snapshot.as_ref(), USER).await?,
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
        mut record: impl FnMut(&bytes::Bytes, &bytes::Bytes) -> Result<(), layout::Damaged>,
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

    fn pen(&self, partition: PartitionId, taken: &Taken) -> LogWriter {
        let pen = Pen {
            partition,
            epoch: taken.record.epoch,
            owner: taken.record.owner,
            last: taken.slot,
            revision: taken.record.revision,
        };
        let World { engine, clock, .. } = &self.world;
        LogWriter::new(engine.clone(), clock.clone(), self.settings.space.clone(), pen)
    }

    fn start(
        self,
        identity: Identity,
        (system, system_log): (Taken, LogWriter),
        user: Taken,
        loaded: Loaded,
    ) -> Store {
        let Settings { space, history_bytes_max, cache_bytes_max, .. } = self.settings.clone();
        let published = user.record.revision;
        let system_state = Arc::new(SystemState::new(loaded.tables, loaded.compacted));
        let state = State {
            index: loaded.index,
            attachments: loaded.attachments,
            history: History::new(published, history_bytes_max),
        };
        let (engine, leadership) = (self.world.engine.clone(), self.leadership.clone());
        let shared = Arc::new(Shared::new(Parts {
            id: USER,
            owner: user.record.owner,
            engine: engine.clone(),
            space: space.clone(),
            values: Values::new(engine, space.clone(), cache_bytes_max),
            state,
            published,
            compacted: system_state.compacted.clone(),
        }));
        let (commands, waiting) = mpsc::channel(QUEUE_TXNS_MAX);
        let (system_commands, system_waiting) = mpsc::channel(QUEUE_CHANGES_MAX);
        let reclaimed = Arc::new(watch::Sender::new(None));
        let spawn = &self.world.supervisor;
        let log = self.pen(USER, &user);
        let sequencer =
            Sequencer::new(shared.clone(), system_state.clone(), log, leadership.clone(), waiting);
        spawn.spawn("sequencer", TaskKind::Essential, sequencer.run());
        let system_sequencer = SystemSequencer {
            state: system_state.clone(),
            space,
            log: system_log,
            trail: loaded.trail,
            leadership: leadership.clone(),
            commands: system_waiting,
            published: shared.subscribe(),
        };
        spawn.spawn("system sequencer", TaskKind::Essential, system_sequencer.run());
        let clock = self.world.clock.clone();
        let reclaimer = Reclaimer::new(shared.clone(), clock, loaded.reclaimed, reclaimed.clone());
        let compactions = system_state.compactions.subscribe();
        let shutdown = spawn.shutdown().clone();
        spawn.spawn("reclaim", TaskKind::Essential, async move {
            shutdown.or(reclaimer.run(compactions)).await.unwrap_or(Ok(()))
        });
        if let Some(lease) = leadership.lease() {
            let clock = self.world.clock.clone();
            let beats = takeover::beat(lease, clock, system_commands.downgrade(), spawn.shutdown().clone());
            spawn.spawn("heartbeat", TaskKind::Essential, beats);
        }
        let term = system.record.epoch.0;
        let system =
            System { state: system_state, commands: system_commands, leadership: leadership.clone() };
        Store {
            partition: Partition::new(shared, commands, reclaimed, leadership),
            system,
            cluster_id: identity.cluster_id,
            term,
        }
    }
}

fn check_format(identity: Identity) -> Result<Identity, OpenFailure> {
    if identity.format > FORMAT {
        return Err(OpenFailure::NewerFormat { found: identity.format });
    }
    Ok(identity)
}
