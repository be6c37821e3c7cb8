//! From an engine to a running store: found it if it is empty, load what it holds, and become its owner when it is free.

mod candidate;
mod loading;
mod takeover;

use std::sync::Arc;

use base::{Clock, Random, Supervisor};
use engine::{Batch, CommitError, Engine, KeySpan, Snapshot};
use layout::log::{Body, Epoch, Incarnation, LogRecord, PartitionId, Slot};
use layout::map::PartitionMap;
use layout::meta::{FORMAT, Identity, Leader, UNFINISHED};
use layout::{KeySpace, Span};
use model::Revision;
use thiserror::Error;
use tokio::sync::{mpsc, watch};

use crate::assignment::{FromOwner, ToOwner};
use crate::assignments::Assignments;
use crate::error::ReadFailure;
use crate::leadership::{LeaderLease, Leadership, NotConfirmed};
use crate::ownership::Ownership;
use crate::replica::{Replica, Through};
use crate::role::{Authority, Confirmed, Role};
use crate::system::System;
use crate::user_keys::UserKeys;
pub use candidate::Candidate;
pub(crate) use takeover::Taken;

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
    /// The partitions of a store that is founded. One that is there keeps its own.
    pub partitions: PartitionMap,
}

impl Settings {
    /// Settings for an ordinary machine that has its engine for itself: 64 MiB of history, 64 MiB of values.
    pub fn new(space: KeySpace) -> Settings {
        Settings {
            space,
            history_bytes_max: 64 << 20,
            cache_bytes_max: 64 << 20,
            leader_lease: None,
            partitions: PartitionMap::default(),
        }
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
    /// It is the beginning of an import.
    #[error(
        "an import was begun here and not finished: delete what it has left, or choose another place, and import again"
    )]
    Unfinished,
    /// Others keep taking its partitions over.
    #[error("another process keeps taking over partition {0}: does a second orlop use this store?")]
    Contended(u32),
    /// What this process has missed was compacted: its state has to be loaded anew.
    #[error(
        "history was compacted through {0}, beyond what this process has seen: it has to load the store anew"
    )]
    FellBehind(Revision),
    /// It could not be read.
    #[error("the store cannot be read: {0}")]
    Read(ReadFailure),
    /// The engine did not take the records that opening writes.
    #[error("the store cannot be written: {0}")]
    Write(String),
}

impl From<ReadFailure> for OpenFailure {
    fn from(failure: ReadFailure) -> OpenFailure {
        match failure {
            ReadFailure::Compacted(compacted) => OpenFailure::FellBehind(compacted),
            failure => OpenFailure::Read(failure),
        }
    }
}

/// How a process is called and reached, for others that share its engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// Its name.
    pub name: String,
    /// Where other members reach it; empty where there are none.
    pub peer_url: String,
}

/// A running store: the state of one process, be it that it leads, or that it follows another one that does.
#[derive(Clone)]
pub struct Store {
    /// The user keys, of all partitions.
    pub keys: UserKeys,
    /// Leases, alarms and the compacted revision.
    pub system: System,
    /// The cluster's random name, never zero.
    pub cluster_id: u64,
    /// This life of this process.
    pub incarnation: Incarnation,
    role: Arc<Role>,
    replica: Replica,
    ownership: Ownership,
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

impl Store {
    /// Opens the store in `world`'s engine, or founds it, and starts its tasks.
    ///
    /// With a leader lease this waits for as long as another process owns the store: until it gives the store up, or has
    /// been silent for the length of the lease.
    pub async fn open(world: World, settings: Settings) -> Result<Store, OpenFailure> {
        let (store, candidate) = Store::join(world, settings, Presence::default()).await?;
        candidate.lead().await?;
        Ok(store)
    }

    /// Loads the store in `world`'s engine, or founds it, as of this moment. Whoever calls has the candidate lead when
    /// the store is free, and until then feeds the [`Replica`].
    pub async fn join(
        world: World,
        settings: Settings,
        presence: Presence,
    ) -> Result<(Store, Candidate), OpenFailure> {
        let leadership = Leadership::new(world.engine.clone(), settings.leader_lease);
        // A started process owns nothing, and is another one than the one before it.
        let owner = Incarnation(world.random.next_u128());
        let opening = Opening { world, settings, leadership, role: Arc::default(), owner, presence };
        let identity = opening.identity().await?;
        if opening.leadership.lease().is_none() {
            // Whatever is under way was begun by the dead. Else it may be a living owner's.
            opening.settle().await?;
        }
        let loaded = opening.load().await?;
        Ok(opening.assemble(identity, loaded))
    }

    /// How often the store had changed hands when its leader took it over, as far as this process knows: what etcd calls
    /// the Raft term. 0 before the first leader is known.
    pub fn term(&self) -> u64 {
        self.role.leader().borrow().as_ref().map_or(0, |leader| leader.epoch.0)
    }

    /// Who leads, as the log says; this process too when it does.
    pub fn leader(&self) -> watch::Receiver<Option<Leader>> {
        self.role.leader()
    }

    /// Whether this process has become the leader: then it is that until it ends.
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.role.leading()
    }

    /// How this process learns what is the newest while it does not lead.
    pub fn ask_through(&self, authority: Arc<dyn Authority>) {
        self.role.ask_through(authority);
    }

    /// Completes when what was loaded may be shown: the leader has published it too, or this process leads. Until then
    /// nothing here may be served.
    pub async fn ready(&self) -> Result<(), NotConfirmed> {
        let loaded = self.keys.revision();
        let mut leading = self.leading();
        tokio::select! {
            biased;
            _ = leading.wait_for(|leads| *leads) => Ok(()),
            published = self.published_beyond(loaded) => published,
        }
    }

    async fn published_beyond(&self, loaded: Revision) -> Result<(), NotConfirmed> {
        match self.role.ask().await? {
            Confirmed { revision, .. } if revision >= loaded => {
                // What was on its way below, in other partitions, is there too.
                let filled = self.replica.catch_up(Through::Published(loaded)).await;
                filled.map(drop).map_err(|_| NotConfirmed::Behind)
            }
            _ => Err(NotConfirmed::Behind),
        }
    }

    /// What feeds this process while it does not lead.
    pub fn replica(&self) -> Replica {
        self.replica.clone()
    }

    /// Which process owns which partition, while this one leads.
    pub fn assignments(&self) -> &Assignments {
        self.keys.assignments()
    }

    /// Owns partitions for the process that leads, as it says, until it says nothing more: `from_leader` ends. Must not be
    /// dropped before: what is owned is given back by the end.
    pub async fn own(
        &self,
        from_leader: mpsc::UnboundedReceiver<ToOwner>,
        to_leader: mpsc::UnboundedSender<FromOwner>,
    ) {
        self.ownership.run(from_leader, to_leader).await;
    }

    /// Has the candidate look at the log at once: there is reason to believe that the leader has gone.
    pub fn look_now(&self) {
        self.role.look_now();
    }
}

/// A process on its way into a store.
pub(crate) struct Opening {
    pub(crate) world: World,
    settings: Settings,
    leadership: Leadership,
    role: Arc<Role>,
    owner: Incarnation,
    presence: Presence,
}

impl Opening {
    /// As whom this process takes partitions over.
    pub(crate) fn owner(&self) -> Incarnation {
        self.owner
    }

    /// Ends what other processes have begun and not ended, dead or alive: the lock on the next slot of a log would hold up
    /// even looking for its end.
    async fn settle(&self) -> Result<(), ReadFailure> {
        let Span { start, end } = self.settings.space.all_records();
        Ok(self.world.engine.settle(&[KeySpan { start, end: Some(end) }]).await?)
    }

    /// As [`Opening::settle`], in the log of one partition: what the rest of a batch looks like depends on its slot alone.
    pub(crate) async fn settle_log(&self, partition: PartitionId) -> Result<(), ReadFailure> {
        let Span { start, end } = self.settings.space.log_span(partition, Slot(0));
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
        let map = &self.settings.partitions;
        if *map != PartitionMap::default() {
            batch.insert(space.partitions_key(), space.encode_partitions(map));
        }
        for partition in std::iter::once(PartitionId::SYSTEM).chain(map.ids()) {
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
}

fn check_format(identity: Identity) -> Result<Identity, OpenFailure> {
    if identity.format == UNFINISHED {
        return Err(OpenFailure::Unfinished);
    }
    if identity.format > FORMAT {
        return Err(OpenFailure::NewerFormat { found: identity.format });
    }
    Ok(identity)
}
