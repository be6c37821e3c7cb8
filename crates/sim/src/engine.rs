//! The engine as processes see it over a network that delays, loses and reorders: the memory engine behind it, and
//! the [`Oracle`] beside it, which sees every batch at the moment at which it is applied.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::Clock;
use bytes::Bytes;
use engine::{Batch, CommitError, Engine, KeySpan, MemoryEngine, ReadError, Scan, ScanPage, Snapshot, Usage};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::oracle::Oracle;
use crate::world::{Group, World};

/// How the engine and the way to it behave.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// The longest that a message takes.
    pub(crate) hop_max: Duration,
    /// Commits in a thousand that are refused for certain.
    pub(crate) refused: u64,
    /// Commits in a thousand that find no space.
    pub(crate) no_space: u64,
    /// Commits in a thousand whose answer is lost.
    pub(crate) answer_lost: u64,
    /// Commits in a thousand that are lost on their way.
    pub(crate) lost: u64,
    /// Commits in a thousand whose caller hears "maybe" while they are still on their way.
    pub(crate) late: u64,
    /// How late those arrive at most.
    pub(crate) late_max: Duration,
    /// Reads in a thousand that find the engine unavailable.
    pub(crate) unreadable: u64,
}

/// What all processes share: the disk, so to say.
pub(crate) struct Disk {
    world: World,
    memory: MemoryEngine,
    weather: Mutex<Weather>,
    pub(crate) oracle: Arc<Oracle>,
}

/// What becomes of a commit on its way.
enum Fate {
    Arrives,
    Refused,
    NoSpace,
    AnswerLost,
    Lost,
    Late(Duration),
}

impl Disk {
    pub(crate) fn new(world: World, weather: Weather, oracle: Arc<Oracle>) -> Arc<Disk> {
        Arc::new(Disk { world, memory: MemoryEngine::new(), weather: Mutex::new(weather), oracle })
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        *self.weather.lock() = weather;
    }

    /// What is there, without any fault: for the checks of a test.
    pub(crate) async fn look(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        self.memory.snapshot().await
    }

    fn weather(&self) -> Weather {
        *self.weather.lock()
    }

    pub(crate) async fn hop(&self) {
        self.world.linger(self.weather().hop_max).await;
    }

    fn fate(&self) -> Fate {
        let weather = self.weather();
        let mut draw = self.world.below(1000);
        let mut is = |share: u64| {
            let hit = draw < share;
            draw = draw.wrapping_sub(share);
            hit
        };
        if is(weather.refused) {
            Fate::Refused
        } else if is(weather.no_space) {
            Fate::NoSpace
        } else if is(weather.answer_lost) {
            Fate::AnswerLost
        } else if is(weather.lost) {
            Fate::Lost
        } else if is(weather.late) {
            let nanos = weather.late_max.as_nanos().max(1);
            Fate::Late(Duration::from_nanos(self.world.below(nanos as u64)))
        } else {
            Fate::Arrives
        }
    }

    async fn apply(&self, batch: Batch) -> Result<(), CommitError> {
        let writes = batch.writes.clone();
        let outcome = self.memory.commit(batch).await;
        if outcome.is_ok() {
            self.oracle.applied(&writes);
        }
        outcome
    }

    /// A commit once it has left its process: whatever becomes of that, this goes on.
    async fn travel(self: Arc<Disk>, batch: Batch, answer: oneshot::Sender<Result<(), CommitError>>) {
        let maybe = || Err(CommitError::Undetermined("simulated: no answer came".to_owned()));
        self.hop().await;
        let outcome = match self.fate() {
            Fate::Arrives => self.apply(batch).await,
            Fate::Refused => Err(CommitError::Unavailable("simulated".to_owned())),
            // Batches that free space may use what is set aside for them.
            Fate::NoSpace if batch.class == engine::BatchClass::Reclaim => self.apply(batch).await,
            Fate::NoSpace => Err(CommitError::NoSpace("simulated".to_owned())),
            Fate::AnswerLost => {
                let _ = self.apply(batch).await;
                maybe()
            }
            Fate::Lost => maybe(),
            Fate::Late(by) => {
                self.hop().await;
                let _ = answer.send(maybe());
                self.world.sleep(by).await;
                self.world.tell(|| "a late batch arrives".to_owned());
                let _ = self.apply(batch).await;
                return;
            }
        };
        self.hop().await;
        let _ = answer.send(outcome);
    }

    async fn read_hop(&self) -> Result<(), ReadError> {
        self.hop().await;
        if self.world.chance(self.weather().unreadable) {
            return Err(ReadError::Unavailable("simulated".to_owned()));
        }
        Ok(())
    }
}

/// One process's way to the disk.
pub(crate) struct SimEngine(pub(crate) Arc<Disk>);

#[async_trait]
impl Engine for SimEngine {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        self.0.read_hop().await?;
        let inner = self.0.memory.snapshot().await?;
        self.0.hop().await;
        Ok(Box::new(SimSnapshot { disk: self.0.clone(), inner }))
    }

    async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        let (answer, answered) = oneshot::channel();
        self.0.world.spawn(Group::WORLD, self.0.clone().travel(batch, answer));
        let lost = || CommitError::Undetermined("simulated: the connection broke".to_owned());
        answered.await.unwrap_or_else(|_| Err(lost()))
    }

    async fn split_points(&self, range: KeySpan, pieces: usize) -> Result<Vec<Bytes>, ReadError> {
        self.0.read_hop().await?;
        self.0.memory.split_points(range, pieces).await
    }

    async fn time(&self) -> Result<Duration, ReadError> {
        self.0.read_hop().await?;
        let now = self.0.world.now();
        self.0.hop().await;
        Ok(now)
    }

    fn usage(&self) -> Usage {
        self.0.memory.usage()
    }

    async fn reclaim(&self) -> Result<(), ReadError> {
        self.0.memory.reclaim().await
    }

    async fn close(&self) {
        // The disk belongs to nobody: other processes go on.
        self.0.world.tell(|| format!("closed at {:?}", self.0.world.now()));
    }
}

struct SimSnapshot {
    disk: Arc<Disk>,
    inner: Box<dyn Snapshot>,
}

#[async_trait]
impl Snapshot for SimSnapshot {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        self.disk.read_hop().await?;
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, ReadError> {
        self.disk.read_hop().await?;
        self.inner.get_many(keys).await
    }

    async fn scan(&self, scan: &Scan) -> Result<ScanPage, ReadError> {
        self.disk.read_hop().await?;
        self.inner.scan(scan).await
    }
}
