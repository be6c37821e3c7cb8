//! A run: a world, a store in it, clients, strikes; then calm, and a look at everything.

use std::sync::Arc;
use std::time::Duration;

use engine::{Direction, KeySpan, Scan};
use layout::KeySpace;
use model::{KeyRange, Op, PutLease, PutOp, PutValue, RangeOp, ReadRevision, Revision, Txn};
use parking_lot::Mutex;
use partition::{RangeOutcome, ReadFailure, TxnFailure};
use tokio::sync::watch;

use crate::clients::{Client, Kind, watch as watching};
use crate::engine::{Disk, Weather};
use crate::evaluate::{range_of, read};
use crate::history::KeyValue;
use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::process::{Host, Process};
use crate::world::{Group, World};

/// Longer than any lease of a run, and than any batch is late.
const CALM: Duration = Duration::from_secs(45);
/// How long a paused process sleeps at most.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// After so many strikes there are no more: some plans strike faster than any process can start.
const STRIKES_MAX: u32 = 50;
/// How often a read is tried in fair weather.
const READS_MAX: u32 = 30;
/// How long to wait for what must come in fair weather before the run counts as stuck.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The same for each run of the seed.
    pub fingerprint: u64,
    /// How many steps tasks took.
    pub steps: u64,
    /// The revision that the store reached.
    pub revision: i64,
    /// How often a process was started.
    pub starts: u32,
    /// How often the store was compacted.
    pub compacted: i64,
    /// How many batches were written by owners beside the leader.
    pub owned: u64,
    /// What was wrong, if anything was.
    pub violation: Option<String>,
    /// What happened, in words, when they were asked for.
    pub words: String,
}

/// How to run a seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Note what happens in words.
    pub words: bool,
    /// Kill the process before this step, beside what the seed does.
    pub kill_at: Option<u64>,
}

/// Runs a seed to its end, or to the first violation. Everything happens on this thread.
pub fn run(seed: u64, options: Options) -> Report {
    let world = World::new(seed, options.words);
    let plan = Arc::new(Plan::draw(&world));
    world.tell(|| format!("{plan:?}"));
    // Cannot fail: the prefix is printable.
    let space = KeySpace::new("sim/").unwrap_or_else(|_| unreachable!("a printable prefix"));
    let oracle = Oracle::new(world.clone(), space.clone(), plan.leader_lease.map(|lease| lease.length));
    let disk = Disk::new(world.clone(), plan.weather, oracle.clone());
    let host = Host::new(world.clone(), disk.clone(), space.clone(), &plan);
    host.start();
    let stage = Stage { world: world.clone(), plan, space, oracle: oracle.clone(), disk, host: host.clone() };
    let outcome = world.run(stage.play(), |step| {
        if options.kill_at == Some(step) {
            host.crash_one();
        }
    });
    let known = oracle.known();
    Report {
        seed,
        fingerprint: world.fingerprint(),
        steps: world.steps(),
        revision: known.history.revision(),
        starts: host.starts(),
        compacted: known.compacted(),
        owned: known.owned,
        violation: outcome.and_then(|checked| checked).err(),
        words: world.words(),
    }
}

struct Stage {
    world: World,
    plan: Arc<Plan>,
    space: KeySpace,
    oracle: Arc<Oracle>,
    disk: Arc<Disk>,
    host: Host,
}

impl Stage {
    async fn play(self) -> Result<(), String> {
        let leases = Arc::new(Mutex::new(Vec::new()));
        let mut number = 0;
        let mut client = || {
            number += 1;
            Client {
                world: self.world.clone(),
                host: self.host.clone(),
                oracle: self.oracle.clone(),
                plan: self.plan.clone(),
                leases: leases.clone(),
                number,
            }
        };
        let (end, ending) = watch::channel(None);
        let watchers: Vec<_> =
            (0..self.plan.watchers).map(|_| self.begin(watching(client(), ending.clone()))).collect();
        let kinds = [
            (Kind::Writer, self.plan.writers),
            (Kind::Reader, self.plan.readers),
            (Kind::LeaseHolder, self.plan.lease_holders),
            (Kind::Compactor, u64::from(self.plan.compactions)),
        ];
        let mut lives = Vec::new();
        for (kind, count) in kinds {
            lives.extend((0..count).map(|_| self.begin(client().live(kind))));
        }
        let strikes = self.world.new_group();
        self.world.spawn(strikes, strike(self.world.clone(), self.host.clone(), self.plan.clone()));
        self.all(lives).await?;
        self.world.kill(strikes);
        self.calm_down().await?;
        let last = self.oracle.known().history.revision();
        end.send_replace(Some(last));
        self.all(watchers).await?;
        self.look_at_everything().await?;
        self.compact_all().await?;
        self.host.crash_all();
        self.look_at_everything().await
    }

    /// Begins a client's life. The answer ends when it does.
    fn begin(&self, life: impl Future<Output = ()> + Send + 'static) -> watch::Receiver<()> {
        let (alive, ended) = watch::channel(());
        self.world.spawn(Group::WORLD, async move {
            life.await;
            drop(alive);
        });
        ended
    }

    async fn all(&self, lives: Vec<watch::Receiver<()>>) -> Result<(), String> {
        let deadline = base::Clock::now(&self.world) + PATIENCE;
        for mut life in lives {
            tokio::select! {
                biased;
                _ = life.changed() => {}
                () = base::Clock::sleep_until(&self.world, deadline) => {
                    return Err(format!("a client is not done after {PATIENCE:?}"));
                }
            }
        }
        Ok(())
    }

    /// Fair weather, one process, every late batch arrived, every lease expired; and the store takes a write.
    async fn calm_down(&self) -> Result<(), String> {
        self.world.tell(|| "calm".to_owned());
        self.disk.set_weather(Weather { hop_max: self.plan.weather.hop_max, ..Weather::default() });
        self.world.sleep(CALM).await;
        self.host.crash_all();
        // The new process gives every lease its full time once more.
        self.host.process().await;
        self.world.sleep(CALM).await;
        let (left, attached, told) = {
            let known = self.oracle.known();
            let left: Vec<_> = known.leases.keys().copied().collect();
            (left, known.history.newest().values().any(|version| !version.lease.is_none()), known.told)
        };
        if !left.is_empty() || attached {
            return Err(format!("nobody renews the leases {left:?}, and they live; attached: {attached}"));
        }
        let last = model::Key::new("last").map_err(|error| error.to_string())?;
        let put = PutOp {
            key: last,
            value: PutValue::Set("of all".into()),
            lease: PutLease::Set(model::LeaseId::NONE),
            return_previous: false,
        };
        let txn = Txn::only(Op::Put(put));
        let mut last = None;
        for _ in 0..READS_MAX {
            let asked = txn.clone();
            let at = self.host.owner_of(&txn).await;
            let written =
                self.host.call_on(at, |process| async move { process.store.keys.txn(asked).await }).await;
            match written {
                Ok(Ok(outcome)) if outcome.revision.get() > told => return Ok(()),
                // The partition is changing hands.
                Ok(Err(TxnFailure::Elsewhere)) => {}
                other => return Err(format!("in fair weather a put is answered {other:?}; told was {told}")),
            }
            last = Some(written);
            self.world.linger(Duration::from_secs(1)).await;
        }
        Err(format!("in fair weather a put is answered {last:?} {READS_MAX} times"))
    }

    /// Compacts at the newest revision, and waits until everything is reclaimed.
    async fn compact_all(&self) -> Result<(), String> {
        let newest = Revision::new(self.oracle.known().history.revision());
        let done = self.host.call(move |process| async move {
            let done = process.store.system.compact(newest).await;
            process.store.keys.reclaimed(newest).await;
            done
        });
        match done.await {
            Ok(Ok(())) => Ok(()),
            other => Err(format!("compacting at the newest revision is answered {other:?}")),
        }
    }

    /// Every state that is not compacted, as the process tells it, and every record in the engine.
    async fn look_at_everything(&self) -> Result<(), String> {
        let (compacted, newest) = self.oracle.known().bounds();
        for revision in compacted.max(1)..=newest {
            let at = ReadRevision::At(Revision::new(revision));
            let op = RangeOp::of(KeyRange::all());
            let got = self.read_back(at, &op).await?;
            let state = self.oracle.known().history.at(revision).unwrap_or_default();
            let expected = read(&state, &op);
            if range_of(&got).as_ref() != Ok(&expected) {
                return Err(format!("revision {revision} is {got:?}, not {expected:?}"));
            }
        }
        self.look_at_the_engine().await
    }

    /// A range, as the process tells it that leads when it is asked: who leads may change at any time.
    async fn read_back(&self, at: ReadRevision, op: &RangeOp) -> Result<RangeOutcome, String> {
        let mut last = String::new();
        for _ in 0..READS_MAX {
            let asked = op.clone();
            let read = async move |process: Process| process.store.keys.view(at).await?.range(&asked).await;
            match self.host.call(read).await {
                Ok(Ok(outcome)) => return Ok(outcome),
                Ok(Err(ReadFailure::Unavailable(reason))) => last = reason,
                Ok(Err(failure)) => return Err(failure.to_string()),
                Err(broken) => last = format!("{broken:?}"),
            }
            self.world.linger(Duration::from_secs(1)).await;
        }
        Err(format!("in fair weather a read is not answered {READS_MAX} times: {last}"))
    }

    /// One index record for each live key; an object for each version that a read or an event may need; no slot that
    /// nobody wrote.
    async fn look_at_the_engine(&self) -> Result<(), String> {
        let index = self.records(self.space.index_span()).await?;
        let mut live = Vec::new();
        for (key, value) in &index {
            let (key, meta) = self.space.decode_index(key, value).map_err(|damage| damage.to_string())?;
            live.push((key.bytes().clone(), meta.mod_revision.get()));
        }
        let (newest, slots) = {
            let known = self.oracle.known();
            (known.history.newest(), known.slots())
        };
        let expected: Vec<_> =
            newest.values().map(|version| (version.key.clone(), version.modified)).collect();
        if live != expected {
            return Err(format!("the index holds {live:?}, not {expected:?}"));
        }
        let mut log = Vec::new();
        for partition in self.plan.partitions.ids() {
            log.extend(self.records(self.space.log_span(partition, layout::log::Slot(0))).await?);
        }
        let found: Result<Vec<_>, _> = log.iter().map(|(key, _)| self.space.decode_log_key(key)).collect();
        match found {
            Ok(found) if found == slots => self.look_at_objects(&newest).await,
            other => Err(format!("the log holds {other:?}, not {slots:?}")),
        }
    }

    async fn look_at_objects(&self, newest: &crate::history::State) -> Result<(), String> {
        let objects = self.records(self.space.object_span(&KeyRange::all())).await?;
        let mut found = std::collections::BTreeSet::new();
        for (key, _) in &objects {
            let (key, revision) = self.space.decode_object_key(key).map_err(|damage| damage.to_string())?;
            found.insert((key.bytes().clone(), revision.get()));
        }
        let missing: Vec<&KeyValue> = newest
            .values()
            .filter(|version| !found.contains(&(version.key.clone(), version.modified)))
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("the objects of {missing:?} are missing")) }
    }

    async fn records(&self, span: layout::Span) -> Result<Vec<(bytes::Bytes, bytes::Bytes)>, String> {
        let snapshot = self.disk.look().await.map_err(|error| error.to_string())?;
        let scan = Scan {
            span: KeySpan { start: span.start, end: Some(span.end) },
            direction: Direction::Forward,
            records_max: usize::MAX,
            bytes_max: usize::MAX,
            values: true,
        };
        Ok(snapshot.scan(&scan).await.map_err(|error| error.to_string())?.records)
    }
}

/// Kills, pauses and doubles the process, as the plan wants it.
async fn strike(world: World, host: Host, plan: Arc<Plan>) {
    let Some(every_max) = plan.strike_every_max else { return };
    for _ in 0..STRIKES_MAX {
        world.linger(every_max).await;
        // Long enough for another one to take over, in half of the cases.
        let pause_max = plan.leader_lease.map_or(PAUSE_MAX, |lease| lease.length * 4);
        let pause = Duration::from_nanos(world.below(pause_max.as_nanos() as u64));
        match world.below(6) {
            _ if plan.sleepy && world.chance(800) => host.pause_one(pause),
            0 => host.crash_all(),
            1 => host.stop_one(),
            2 => host.pause_one(pause),
            _ => host.crash_one(),
        }
    }
}
