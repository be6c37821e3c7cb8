//! A process: the real store, leases and watch hub, in a group of tasks that can be paused or thrown away.

use std::cell::RefCell;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use base::{Shutdown, Supervisor, TaskKind};
use layout::KeySpace;
use parking_lot::Mutex;
use partition::{Settings, Store};
use prometheus_client::registry::Registry;
use server::{Leases, Metrics, PartitionHistory, hub_of};
use tokio::sync::watch;

use crate::engine::{Disk, SimEngine};
use crate::world::{Group, ProcessSpawn, World};

/// How long the service manager waits before it starts a process that has ended.
const RESTART_AFTER_MAX: Duration = Duration::from_millis(300);

/// What a process is made of, for those who call it.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) group: Group,
    pub(crate) store: Store,
    pub(crate) leases: Leases,
    pub(crate) hub: Arc<::watch::Hub>,
    pub(crate) history: Arc<PartitionHistory>,
}

/// The machine that runs a process at a time, and starts another when it ends; now and then two.
#[derive(Clone)]
pub(crate) struct Host {
    shared: Arc<HostShared>,
}

struct HostShared {
    world: World,
    disk: Arc<Disk>,
    settings: Settings,
    /// The process that clients are sent to.
    current: watch::Sender<Option<Process>>,
    /// Every process that may still run.
    groups: Mutex<Vec<Group>>,
    starts: Mutex<u32>,
    /// How often [`Host::start`] was called.
    managers: Mutex<u32>,
}

/// A call did not come back: whether it was carried out is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

thread_local! {
    /// Registered once for a thread: nobody reads them here, and registering takes longer than many a run.
    static METRICS: RefCell<Option<Metrics>> = const { RefCell::new(None) };
}

fn metrics() -> Metrics {
    METRICS.with_borrow_mut(|metrics| {
        metrics.get_or_insert_with(|| Metrics::new(&mut Registry::default())).clone()
    })
}

impl Host {
    pub(crate) fn new(world: World, disk: Arc<Disk>, space: KeySpace, memory_bytes: Option<usize>) -> Host {
        let settings = match memory_bytes {
            // The cache holds all or nothing: what it would throw out goes by the machine's clock.
            Some(history_bytes_max) => {
                Settings { history_bytes_max, cache_bytes_max: 0, ..Settings::new(space) }
            }
            None => Settings::new(space),
        };
        let shared = HostShared {
            world,
            disk,
            settings,
            current: watch::Sender::new(None),
            groups: Mutex::default(),
            starts: Mutex::default(),
            managers: Mutex::default(),
        };
        Host { shared: Arc::new(shared) }
    }

    /// Starts a process beside whatever runs; clients are sent to it as soon as it is ready. When it ends, another
    /// one is started, unless this was called again meanwhile: two that start each other's successors would never come
    /// to rest.
    pub(crate) fn start(&self) {
        let host = self.clone();
        let manager = {
            let mut managers = self.shared.managers.lock();
            *managers += 1;
            *managers
        };
        let world = self.shared.world.clone();
        world.spawn(Group::WORLD, async move {
            while *host.shared.managers.lock() == manager {
                let group = host.shared.world.new_group();
                host.shared.groups.lock().push(group);
                let life = host.clone().live(group);
                // A process that was thrown away was not asked to go on: whoever did that starts the next one.
                let Some(reason) = host.shared.world.call(group, life).await else { return };
                host.shared.world.tell(|| format!("process {} ends: {reason}", group.0));
                host.end(group);
                host.shared.world.linger(RESTART_AFTER_MAX).await;
            }
            // Whoever was started since may have been deposed without noticing it yet, and then nobody serves.
            if host.shared.current.borrow().is_none() {
                host.start();
            }
        });
    }

    /// The life of a process, until it fails. Returns why.
    async fn live(self, group: Group) -> String {
        let HostShared { world, disk, settings, .. } = &*self.shared;
        *self.shared.starts.lock() += 1;
        world.tell(|| format!("process {} starts", group.0));
        let spawn = Arc::new(ProcessSpawn { world: world.clone(), group });
        let supervisor = Supervisor::on(spawn, Shutdown::new());
        let inside = partition::World {
            engine: Arc::new(SimEngine(disk.clone())),
            clock: Arc::new(world.clone()),
            random: Arc::new(world.clone()),
            supervisor: supervisor.clone(),
        };
        let store = match Store::open(inside, settings.clone()).await {
            Ok(store) => store,
            Err(failure) => return failure.to_string(),
        };
        let shutdown = supervisor.shutdown().clone();
        let (leases, driver) = Leases::start(&store, Arc::new(world.clone()), metrics(), shutdown.clone());
        supervisor.spawn("leases", TaskKind::Essential, driver);
        let hub = hub_of(&store.partition);
        let history = Arc::new(PartitionHistory::new(store.partition.clone()));
        world.tell(|| format!("process {} is ready at {}", group.0, store.partition.revision()));
        self.shared.current.send_replace(Some(Process { group, store, leases, hub, history }));
        shutdown.begun().await;
        supervisor.failure().map_or_else(|| "it was stopped".to_owned(), |failure| failure.to_string())
    }

    /// kill -9, of the process that clients are sent to; another one is started.
    pub(crate) fn crash(&self) {
        let groups = std::mem::take(&mut *self.shared.groups.lock());
        self.shared.world.tell(|| format!("kill {groups:?}"));
        groups.into_iter().for_each(|group| self.end(group));
        self.start();
    }

    /// A second process, while the first one still runs, or sleeps for `pause` and then goes on.
    pub(crate) fn rival(&self, pause: Option<Duration>) {
        let groups = self.shared.groups.lock().clone();
        let world = &self.shared.world;
        world.tell(|| format!("a rival of {groups:?}, which sleep for {pause:?}"));
        if let Some(pause) = pause {
            groups.iter().for_each(|&group| world.pause(group));
            let sleeper = world.clone();
            world.spawn(Group::WORLD, async move {
                sleeper.sleep(pause).await;
                groups.into_iter().for_each(|group| sleeper.resume(group));
            });
        }
        self.start();
    }

    fn end(&self, group: Group) {
        self.shared.groups.lock().retain(|&other| other != group);
        self.shared.world.kill(group);
        self.shared.current.send_if_modified(|current| {
            let was = current.as_ref().is_some_and(|process| process.group == group);
            if was {
                *current = None;
            }
            was
        });
    }

    /// The process that clients are sent to, as soon as there is one.
    pub(crate) async fn process(&self) -> Process {
        let mut current = self.shared.current.subscribe();
        loop {
            if let Some(process) = current.borrow_and_update().clone() {
                return process;
            }
            // The sender lives as long as the host does.
            let _ = current.changed().await;
        }
    }

    /// How often a process was started.
    pub(crate) fn starts(&self) -> u32 {
        *self.shared.starts.lock()
    }

    /// Calls the process that clients are sent to.
    pub(crate) async fn call<T, F>(&self, work: impl FnOnce(Process) -> F) -> Result<T, Broken>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let process = self.process().await;
        let group = process.group;
        self.shared.world.call(group, work(process)).await.ok_or(Broken)
    }
}
