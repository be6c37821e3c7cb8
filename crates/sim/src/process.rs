//! A process: the real store, leases and watch hub, in a group of tasks that can be paused or thrown away.

use std::cell::RefCell;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use base::{Shutdown, Supervisor, TaskKind};
use layout::KeySpace;
use layout::log::Incarnation;
use model::Txn;
use parking_lot::Mutex;
use partition::{Presence, Settings, Store};
use prometheus_client::registry::Registry;
use server::{Leases, Metrics, PartitionHistory, hub_of};
use tokio::sync::watch;
use tonic::Status;

use crate::engine::{Disk, SimEngine};
use crate::link::{Question, follow, own};
use crate::plan::Plan;
use crate::world::{Group, ProcessSpawn, World};

/// How long the service manager waits before it starts a process that has ended.
const RESTART_AFTER_MAX: Duration = Duration::from_millis(300);

/// How long a process that may not show yet what it has loaded waits before it asks again.
const LOOK_AGAIN_AFTER_MAX: Duration = Duration::from_millis(200);

/// How long a process may take to stop before it is killed.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// What a process is made of, for those who call it.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) group: Group,
    pub(crate) store: Store,
    /// Only in one that leads.
    pub(crate) leases: Option<Leases>,
    pub(crate) hub: Arc<::watch::Hub>,
    pub(crate) history: Arc<PartitionHistory>,
    /// Ends the process in order.
    pub(crate) shutdown: Shutdown,
}

impl Process {
    /// The leases; in a process that does not lead there are none to be asked about.
    pub(crate) fn leases(&self) -> Result<&Leases, Status> {
        self.leases.as_ref().ok_or_else(|| Status::unavailable("it does not lead"))
    }
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
    /// The process that clients are sent to: the one that led last.
    current: watch::Sender<Option<Process>>,
    /// Every process that has loaded the store and has not ended: also those that others have taken over from.
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
        let mut settings = Settings {
            leader_lease: plan.leader_lease,
            partitions: plan.partitions.clone(),
            ..Settings::new(space)
        };
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
        let presence = Presence { name: group.0.to_string(), ..Presence::default() };
        let (store, candidate) = match Store::join(inside, settings.clone(), presence).await {
            Ok(joined) => joined,
            Err(failure) => return failure.to_string(),
        };
        let shutdown = supervisor.shutdown().clone();
        let mut leading = store.leading();
        if settings.leader_lease.is_some() {
            let question = Question { host: self.clone(), leader: store.leader() };
            store.ask_through(Arc::new(question));
            supervisor.spawn("follow", TaskKind::Essential, follow(self.clone(), store.clone()));
        }
        let stop = shutdown.clone();
        let lead = async move { stop.or(candidate.lead()).await.unwrap_or(Ok(())) };
        supervisor.spawn("candidate", TaskKind::Essential, lead);
        let serves = async {
            if settings.leader_lease.is_some() {
                // What was loaded may be shown.
                while store.ready().await.is_err() {
                    world.linger(LOOK_AGAIN_AFTER_MAX).await;
                }
                self.serve(group, &store, &shutdown);
                if settings.partitions.count() > 1 {
                    let owns = own(self.clone(), store.clone(), shutdown.clone());
                    supervisor.spawn("owner", TaskKind::Essential, owns);
                }
            }
            let _ = leading.wait_for(|leads| *leads).await;
        };
        tokio::select! {
            biased;
            () = shutdown.begun() => {}
            () = serves => self.serve_as_leader(group, &store, &supervisor),
        }
        drop(store);
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

    /// Sends clients there that only read.
    fn serve(&self, group: Group, store: &Store, shutdown: &Shutdown) {
        let world = &self.shared.world;
        world.tell(|| format!("process {} serves at {}", group.0, store.keys.revision()));
        let hub = hub_of(&store.keys);
        let history = Arc::new(PartitionHistory::new(store.keys.clone()));
        let (store, shutdown) = (store.clone(), shutdown.clone());
        self.shared.serving.lock().push(Process { group, store, leases: None, hub, history, shutdown });
    }

    /// Sends everybody there.
    fn serve_as_leader(&self, group: Group, store: &Store, supervisor: &Supervisor) {
        let world = &self.shared.world;
        let clock = Arc::new(world.clone());
        let (leases, driver) = Leases::start(store, clock, metrics(), supervisor.shutdown().clone());
        supervisor.spawn("leases", TaskKind::Essential, driver);
        world.tell(|| format!("process {} leads at {}", group.0, store.keys.revision()));
        if self.serving(store.incarnation).is_none() {
            self.serve(group, store, supervisor.shutdown());
        }
        let mut serving = self.shared.serving.lock();
        if let Some(process) = serving.iter_mut().find(|process| process.group == group) {
            process.leases = Some(leases);
            self.shared.current.send_replace(Some(process.clone()));
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

    /// Sends no clients to it any more, but to another one that leads, if there is one: who woke up and believed that it
    /// still led may have been the last to say so.
    fn forget(&self, group: Group) {
        let mut serving = self.shared.serving.lock();
        serving.retain(|process| process.group != group);
        let next = serving.iter().rev().find(|process| process.leases.is_some()).cloned();
        drop(serving);
        self.shared.current.send_if_modified(|current| {
            let was = current.as_ref().is_some_and(|process| process.group == group);
            if was {
                *current = next;
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

    /// The process that a client happens to be connected to which reads: any.
    pub(crate) async fn any(&self) -> Process {
        self.one_of(|_| true).await
    }

    /// The process that the changes of a client are sent to: mostly the one that led last, but maybe one that does not
    /// know yet that it was overtaken, or one that owns some of the keys.
    pub(crate) async fn any_owner(&self) -> Process {
        self.one_of(|process| process.leases.is_some() || process.store.keys.owned_count() > 0).await
    }

    /// The process that the client of a transaction mostly finds: the one that owns its keys, if that is not the leader.
    pub(crate) async fn owner_of(&self, txn: &Txn) -> Process {
        let owners: Vec<Process> = self
            .shared
            .serving
            .lock()
            .iter()
            .filter(|process| process.store.keys.owns(txn))
            .cloned()
            .collect();
        match owners.is_empty() || self.shared.world.chance(200) {
            true => self.any_owner().await,
            false => self.shared.world.pick(&owners).clone(),
        }
    }

    async fn one_of(&self, wanted: fn(&Process) -> bool) -> Process {
        if self.shared.world.chance(500) {
            let serving: Vec<Process> =
                self.shared.serving.lock().iter().filter(|process| wanted(process)).cloned().collect();
            if !serving.is_empty() {
                return self.shared.world.pick(&serving).clone();
            }
        }
        self.process().await
    }

    /// The process of this incarnation, if it has not ended.
    pub(crate) fn serving(&self, incarnation: Incarnation) -> Option<Process> {
        let serving = self.shared.serving.lock();
        serving.iter().find(|process| process.store.incarnation == incarnation).cloned()
    }

    pub(crate) fn world(&self) -> &World {
        &self.shared.world
    }

    /// The time that a message takes.
    pub(crate) async fn hop(&self) {
        self.shared.disk.hop().await;
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
