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
use crate::plan::Plan;
use crate::world::{Group, ProcessSpawn, World};

/// How long the service manager waits before it starts a process that has ended.
const RESTART_AFTER_MAX: Duration = Duration::from_millis(300);

/// How long a process may take to stop before it is killed.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// What a process is made of, for those who call it.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) group: Group,
    pub(crate) store: Store,
    pub(crate) leases: Leases,
    pub(crate) hub: Arc<::watch::Hub>,
    pub(crate) history: Arc<PartitionHistory>,
    /// Ends the process in order.
    pub(crate) shutdown: Shutdown,
}

/// The machines, each of which runs a process at a time and starts another one when it ends.
#[derive(Clone)]
pub(crate) struct Host {
    shared: Arc<HostShared>,
}

struct HostShared {
    world: World,
    disk: Arc<Disk>,
    settings: Settings,
    /// The process that clients are sent to: the one that was ready last.
    current: watch::Sender<Option<Process>>,
    /// Every process that was ready and has not ended: also those that others have taken over from.
    serving: Mutex<Vec<Process>>,
    /// The process that each machine runs now; none while it waits to start the next one.
    machines: Mutex<Vec<Option<Group>>>,
    starts: Mutex<u32>,
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
    pub(crate) fn new(world: World, disk: Arc<Disk>, space: KeySpace, plan: &Plan) -> Host {
        let mut settings = Settings { leader_lease: plan.leader_lease, ..Settings::new(space) };
        if let Some(history_bytes_max) = plan.memory_bytes {
            // The cache holds all or nothing: what it would throw out goes by the machine's clock.
            settings = Settings { history_bytes_max, cache_bytes_max: 0, ..settings };
        }
        let shared = HostShared {
            world,
            disk,
            settings,
            current: watch::Sender::new(None),
            serving: Mutex::default(),
            machines: Mutex::new(vec![None; plan.machines]),
            starts: Mutex::default(),
        };
        Host { shared: Arc::new(shared) }
    }

    /// Starts all machines; they run as long as the world does.
    pub(crate) fn start(&self) {
        let count = self.shared.machines.lock().len();
        for machine in 0..count {
            let host = self.clone();
            self.shared.world.spawn(Group::WORLD, async move { host.manage(machine).await });
        }
    }

    /// Runs one process after the other.
    async fn manage(&self, machine: usize) {
        let HostShared { world, machines, .. } = &*self.shared;
        loop {
            let group = world.new_group();
            machines.lock()[machine] = Some(group);
            let reason = world.call(group, self.clone().live(group)).await;
            world.tell(|| format!("process {} ended: {}", group.0, reason.as_deref().unwrap_or("killed")));
            machines.lock()[machine] = None;
            self.end(group);
            world.linger(RESTART_AFTER_MAX).await;
        }
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
        let process = Process { group, store, leases, hub, history, shutdown: shutdown.clone() };
        self.shared.serving.lock().push(process.clone());
        self.shared.current.send_replace(Some(process));
        shutdown.begun().await;
        if let Some(failure) = supervisor.failure() {
            return failure.to_string();
        }
        // Who was asked to stop sends nobody here any more and finishes what it was given, as long as it may.
        self.forget(group);
        tokio::select! {
            biased;
            () = supervisor.all_ended() => "it was stopped".to_owned(),
            () = world.sleep(STOP_TIME_MAX) => "it was stopped, and not all of it ended".to_owned(),
        }
    }

    /// kill -9 on one of the machines, whatever its process is doing.
    pub(crate) fn crash_one(&self) {
        if let Some(group) = self.any_process() {
            self.shared.world.tell(|| format!("kill process {}", group.0));
            self.end(group);
        }
    }

    /// kill -9 on all machines at once.
    pub(crate) fn crash_all(&self) {
        let running: Vec<Group> = self.shared.machines.lock().iter().flatten().copied().collect();
        self.shared.world.tell(|| format!("kill {running:?}"));
        running.into_iter().for_each(|group| self.end(group));
    }

    /// SIGTERM to the process that clients are sent to: it gives the store up and ends.
    pub(crate) fn stop_one(&self) {
        let current = self.shared.current.borrow().clone();
        if let Some(process) = current {
            self.shared.world.tell(|| format!("stop process {}", process.group.0));
            process.shutdown.begin();
        }
    }

    /// SIGSTOP to one of the machines, and SIGCONT after a while.
    pub(crate) fn pause_one(&self, length: Duration) {
        let Some(group) = self.any_process() else { return };
        let world = self.shared.world.clone();
        world.tell(|| format!("pause process {} for {length:?}", group.0));
        world.pause(group);
        self.shared.world.spawn(Group::WORLD, async move {
            world.sleep(length).await;
            world.resume(group);
        });
    }

    /// Mostly the one that clients are sent to, else any.
    fn any_process(&self) -> Option<Group> {
        let current = self.shared.current.borrow().as_ref().map(|process| process.group);
        if current.is_some() && self.shared.world.chance(800) {
            return current;
        }
        let running: Vec<Group> = self.shared.machines.lock().iter().flatten().copied().collect();
        (!running.is_empty()).then(|| *self.shared.world.pick(&running))
    }

    fn end(&self, group: Group) {
        self.shared.world.kill(group);
        self.forget(group);
    }

    /// Sends no clients to it any more.
    fn forget(&self, group: Group) {
        self.shared.serving.lock().retain(|process| process.group != group);
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

    /// The process that a client happens to be connected to: mostly the one that was ready last, but maybe one that does
    /// not know yet that it was overtaken.
    pub(crate) async fn any(&self) -> Process {
        if self.shared.world.chance(500) {
            let serving = self.shared.serving.lock();
            if !serving.is_empty() {
                return self.shared.world.pick(&serving).clone();
            }
        }
        self.process().await
    }

    /// Calls the process that was ready last.
    pub(crate) async fn call<T, F>(&self, work: impl FnOnce(Process) -> F) -> Result<T, Broken>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        self.call_on(self.process().await, work).await
    }

    /// Calls this process.
    pub(crate) async fn call_on<T, F>(
        &self,
        process: Process,
        work: impl FnOnce(Process) -> F,
    ) -> Result<T, Broken>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let group = process.group;
        self.shared.world.call(group, work(process)).await.ok_or(Broken)
    }
}
