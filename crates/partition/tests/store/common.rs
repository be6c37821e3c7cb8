//! A machine that runs a store, and is restarted.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, ManualClock, SeededRandom, Shutdown, Supervisor};
use bytes::Bytes;
use engine::fault::FaultEngine;
use engine::{Direction, Engine, KeySpan, MemoryEngine, Scan};
use layout::log::{LogRecord, PartitionId, Slot};
use layout::meta::Reclaimed;
use layout::object::Object;
use layout::{KeySpace, Span};
use model::{DeleteOp, Key, KeyRange, LeaseId, Op, PutLease, PutOp, PutValue, Revision, Txn};
use partition::{
    Candidate, OpOutcome, OpenFailure, Presence, Settings, Store, TxnFailure, TxnOutcome, World,
};

pub const USER: PartitionId = PartitionId(1);
/// A backstop, in case that something waits for ever: nothing here takes time.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn space() -> KeySpace {
    KeySpace::new("blue/").unwrap()
}

/// Memory for next to nothing: what is not of the newest batch comes from the engine.
pub fn forgetful() -> Settings {
    Settings { history_bytes_max: 0, cache_bytes_max: 0, ..Settings::new(space()) }
}

/// Memory for everything that a test does.
pub fn retentive() -> Settings {
    Settings::new(space())
}

/// A clock on which every sleep is over at once.
#[derive(Clone, Default)]
struct EagerClock(ManualClock);

impl Clock for EagerClock {
    fn now(&self) -> Duration {
        self.0.now()
    }

    fn sleep_until(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let rest = deadline.saturating_sub(self.0.now());
            self.0.advance(rest);
            tokio::task::yield_now().await;
        })
    }
}

/// One process that runs a store on an engine.
pub struct Machine {
    pub engine: Arc<FaultEngine>,
    pub supervisor: Supervisor,
    pub settings: Settings,
    pub store: Store,
    random: Arc<SeededRandom>,
}

impl Machine {
    pub async fn start(settings: Settings) -> Machine {
        Machine::on(Arc::new(MemoryEngine::new()), settings).await
    }

    pub async fn on(memory: Arc<MemoryEngine>, settings: Settings) -> Machine {
        Machine::try_on(memory, settings).await.unwrap()
    }

    pub async fn try_on(memory: Arc<MemoryEngine>, settings: Settings) -> Result<Machine, OpenFailure> {
        let engine = Arc::new(FaultEngine::new(memory));
        let random = Arc::new(SeededRandom::new(1));
        Machine::process(engine, random, settings).await
    }

    /// A process with names of its own, on an engine whose faults the test has set up.
    pub async fn with(engine: Arc<FaultEngine>, seed: u64) -> Machine {
        Machine::process(engine, Arc::new(SeededRandom::new(seed)), retentive()).await.unwrap()
    }

    async fn process(
        engine: Arc<FaultEngine>,
        random: Arc<SeededRandom>,
        settings: Settings,
    ) -> Result<Machine, OpenFailure> {
        let supervisor = Supervisor::new(Shutdown::new());
        let world = World {
            engine: engine.clone(),
            clock: Arc::new(EagerClock::default()),
            random: random.clone(),
            supervisor: supervisor.clone(),
        };
        let store = Store::open(world, settings.clone()).await?;
        Ok(Machine { engine, supervisor, settings, store, random })
    }

    /// A process on the same engine that follows the first one, and how it leads later.
    pub async fn follower(&self, seed: u64) -> (Machine, Candidate) {
        let supervisor = Supervisor::new(Shutdown::new());
        let random = Arc::new(SeededRandom::new(seed));
        let world = World {
            engine: self.engine.clone(),
            clock: Arc::new(EagerClock::default()),
            random: random.clone(),
            supervisor: supervisor.clone(),
        };
        let settings = self.settings.clone();
        let (store, candidate) = Store::join(world, settings.clone(), Presence::default()).await.unwrap();
        (Machine { engine: self.engine.clone(), supervisor, settings, store, random }, candidate)
    }

    /// A second process on the same engine, while the first one runs.
    pub async fn rival(&self) -> Result<Machine, OpenFailure> {
        Machine::process(self.engine.clone(), self.random.clone(), self.settings.clone()).await
    }

    /// Ends the process, whatever it is about to do.
    pub async fn stop(self) -> Stopped {
        let Machine { engine, supervisor, settings, store, random } = self;
        drop(store);
        supervisor.shutdown().begin();
        assert!(supervisor.drain(PATIENCE).await, "the tasks of a store end with its handles");
        Stopped { engine, settings, random }
    }

    pub async fn restart(self) -> Machine {
        self.stop().await.start().await.unwrap()
    }

    pub async fn txn(&self, txn: Txn) -> Result<TxnOutcome, TxnFailure> {
        self.store.keys.txn(txn).await
    }

    pub async fn put(&self, key: &str, value: &str) -> Revision {
        self.txn(put(key, value)).await.unwrap().revision
    }

    pub async fn delete(&self, key: &str) -> Revision {
        self.txn(delete(key)).await.unwrap().revision
    }

    pub async fn compact(&self, revision: i64) {
        let revision = Revision::new(revision);
        self.store.system.compact(revision).await.unwrap();
        self.store.keys.reclaimed(revision).await;
    }

    pub fn revision(&self) -> i64 {
        self.store.keys.revision().get()
    }

    pub async fn objects(&self) -> Vec<(String, i64, bool)> {
        self.engine_view().objects().await
    }

    pub async fn slots(&self, partition: PartitionId) -> Vec<(Slot, LogRecord)> {
        self.engine_view().slots(partition).await
    }

    pub fn engine_view(&self) -> EngineView {
        EngineView(self.engine.clone())
    }
}

/// A machine whose process has ended.
pub struct Stopped {
    pub engine: Arc<FaultEngine>,
    pub settings: Settings,
    random: Arc<SeededRandom>,
}

impl Stopped {
    pub async fn start(&self) -> Result<Machine, OpenFailure> {
        let (engine, random) = (self.engine.clone(), self.random.clone());
        Machine::process(engine, random, self.settings.clone()).await
    }
}

/// What lies in the engine.
pub struct EngineView(Arc<FaultEngine>);

impl EngineView {
    /// The partitions of the user keys.
    pub async fn partitions(&self) -> Vec<PartitionId> {
        let record = self.0.snapshot().await.unwrap().get(&space().partitions_key()).await.unwrap();
        let map = record.map(|record| space().decode_partitions(&record).unwrap()).unwrap_or_default();
        map.ids().collect()
    }

    async fn records(&self, span: Span) -> Vec<(Bytes, Bytes)> {
        let snapshot = self.0.snapshot().await.unwrap();
        let mut rest = Some(KeySpan { start: span.start, end: Some(span.end) });
        let mut records = Vec::new();
        while let Some(span) = rest {
            let scan = Scan {
                span,
                direction: Direction::Forward,
                records_max: 1000,
                bytes_max: usize::MAX,
                values: true,
            };
            let page = snapshot.scan(&scan).await.unwrap();
            records.extend(page.records);
            rest = page.next;
        }
        records
    }

    /// Every object record: its key, its revision, and whether it is a tombstone.
    pub async fn objects(&self) -> Vec<(String, i64, bool)> {
        let records = self.records(space().object_span(&KeyRange::all())).await.into_iter();
        let object = |(record_key, record): (Bytes, Bytes)| {
            let (key, revision) = space().decode_object_key(&record_key).unwrap();
            let tombstone = space().decode_object(&record_key, &record).unwrap() == Object::Tombstone;
            (key.to_string(), revision.get(), tombstone)
        };
        records.map(object).collect()
    }

    pub async fn slots(&self, partition: PartitionId) -> Vec<(Slot, LogRecord)> {
        let records = self.records(space().log_span(partition, Slot(0))).await.into_iter();
        let slot = |(key, record): (Bytes, Bytes)| {
            (space().decode_log_key(&key).unwrap().1, space().decode_log(&key, &record).unwrap())
        };
        records.map(slot).collect()
    }

    pub async fn index(&self) -> Vec<(Key, model::KeyMeta)> {
        let records = self.records(space().index_span()).await.into_iter();
        records.map(|(key, record)| space().decode_index(&key, &record).unwrap()).collect()
    }

    pub async fn reclaimed(&self, partition: PartitionId) -> Reclaimed {
        let record = self.0.snapshot().await.unwrap().get(&space().reclaimed_key(partition)).await.unwrap();
        record.map_or(Reclaimed::default(), |record| space().decode_reclaimed(partition, &record).unwrap())
    }
}

pub fn key(text: &str) -> Key {
    Key::new(text.to_owned()).unwrap()
}

pub fn put_op(key_text: &str, value: &str, lease: LeaseId) -> Op {
    Op::Put(PutOp {
        key: key(key_text),
        value: PutValue::Set(Bytes::copy_from_slice(value.as_bytes())),
        lease: PutLease::Set(lease),
        return_previous: false,
    })
}

pub fn delete_op(key_text: &str) -> Op {
    Op::Delete(DeleteOp { range: KeyRange::single(&key(key_text)), return_previous: false })
}

pub fn put(key: &str, value: &str) -> Txn {
    Txn::only(put_op(key, value, LeaseId::NONE))
}

pub fn delete(key: &str) -> Txn {
    Txn::only(delete_op(key))
}

/// How many keys the transaction's only operation deleted.
pub fn deleted(outcome: &TxnOutcome) -> usize {
    match outcome.branch.ops.as_slice() {
        [OpOutcome::Delete { deleted, .. }] => *deleted,
        other => panic!("{other:?} is no deletion"),
    }
}

/// Runs until everything that can go on without the clock or a held commit has.
pub async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
