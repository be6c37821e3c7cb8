//! The simulated world: tasks, time and chance, all decided by one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use base::{Clock, Random, Spawn};
use foldhash::fast::FixedState;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::oneshot;

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// While tasks are ready, time stands still but for one step in so many, when it moves on a little: deadlines then
/// race with work, as they do on a busy machine.
const STEPS_PER_TICK: u32 = 16;
/// How far such a tick goes at most.
const TICK_MAX: Duration = Duration::from_millis(2);
/// A run that needs more steps than this is stuck: the longest take some ten thousands.
const STEPS_MAX: u64 = 3_000_000;

/// Who a task belongs to: all tasks of a group can be paused or thrown away together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Group(pub(crate) u32);

impl Group {
    /// What runs as long as the world does: the engine, the network, the clients.
    pub(crate) const WORLD: Group = Group(0);
}

/// The world. Cheap to clone; everything in it happens on one thread, one step at a time.
#[derive(Clone)]
pub(crate) struct World {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    ready: Arc<Mutex<BTreeSet<u64>>>,
}

struct State {
    now: Duration,
    random: StdRng,
    tasks: BTreeMap<u64, Task>,
    next_task: u64,
    sleepers: BTreeMap<(Duration, u64), Waker>,
    next_sleeper: u64,
    paused: BTreeSet<Group>,
    next_group: u32,
    steps: u64,
    /// The fingerprint of everything that happened so far.
    trace: Trace,
    violation: Option<String>,
}

struct Task {
    group: Group,
    /// None while it is being polled.
    work: Option<Work>,
    waker: Waker,
}

/// What happened: always as a hash, and in words when somebody wants to read it.
struct Trace {
    hash: u64,
    words: Option<String>,
}

struct TaskWaker {
    task: u64,
    ready: Arc<Mutex<BTreeSet<u64>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.lock().insert(self.task);
    }
}

/// What one step came to.
enum Step {
    Polled,
    Advanced,
    /// Nobody can go on and nobody sleeps.
    Stuck,
}

impl World {
    /// The world of this seed. With `words`, [`World::words`] tells what happened.
    pub(crate) fn new(seed: u64, words: bool) -> World {
        let state = State {
            now: Duration::from_secs(1),
            random: StdRng::seed_from_u64(seed),
            tasks: BTreeMap::new(),
            next_task: 0,
            sleepers: BTreeMap::new(),
            next_sleeper: 0,
            paused: BTreeSet::new(),
            next_group: 1,
            steps: 0,
            trace: Trace { hash: 0, words: words.then(String::new) },
            violation: None,
        };
        World { shared: Arc::new(Shared { state: Mutex::new(state), ready: Arc::default() }) }
    }

    /// A group that nobody belongs to yet.
    pub(crate) fn new_group(&self) -> Group {
        let mut state = self.shared.state.lock();
        state.next_group += 1;
        Group(state.next_group - 1)
    }

    /// Runs `work` as a task of `group`.
    pub(crate) fn spawn(&self, group: Group, work: impl Future<Output = ()> + Send + 'static) {
        let mut state = self.shared.state.lock();
        let task = state.next_task;
        state.next_task += 1;
        let waker = Waker::from(Arc::new(TaskWaker { task, ready: self.shared.ready.clone() }));
        state.tasks.insert(task, Task { group, work: Some(Box::pin(work)), waker });
        self.shared.ready.lock().insert(task);
    }

    /// Runs `work` as a task of `group`; `None` when the group is thrown away before it ends.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        group: Group,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.spawn(group, async move {
            let _ = answer.send(work.await);
        });
        answered.await.ok()
    }

    /// Throws away every task of `group`, wherever it is waiting.
    pub(crate) fn kill(&self, group: Group) {
        let killed: Vec<Task> = {
            let mut state = self.shared.state.lock();
            state.paused.remove(&group);
            let tasks = state.tasks.iter().filter(|(_, task)| task.group == group);
            let killed: Vec<u64> = tasks.map(|(&number, _)| number).collect();
            killed.iter().filter_map(|number| state.tasks.remove(number)).collect()
        };
        // Dropped without the lock: what they hold wakes others.
        drop(killed);
    }

    /// No task of `group` takes a step until it is resumed.
    pub(crate) fn pause(&self, group: Group) {
        self.shared.state.lock().paused.insert(group);
    }

    /// The tasks of `group` go on.
    pub(crate) fn resume(&self, group: Group) {
        self.shared.state.lock().paused.remove(&group);
    }

    /// Runs until `work` is done; with the first violation, the run ends there. `before_step` is asked before each
    /// step and may throw processes away: that is how a crash strikes at any await.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
        mut before_step: impl FnMut(u64),
    ) -> Result<T, String> {
        let done = Arc::new(Mutex::new(None));
        let result = done.clone();
        self.spawn(Group::WORLD, async move {
            let output = work.await;
            *result.lock() = Some(output);
        });
        loop {
            if let Some(violation) = self.shared.state.lock().violation.take() {
                return Err(violation);
            }
            if let Some(output) = done.lock().take() {
                return Ok(output);
            }
            let steps = self.shared.state.lock().steps;
            if steps > STEPS_MAX {
                return Err(format!("the run is not over after {STEPS_MAX} steps"));
            }
            before_step(steps);
            if matches!(self.step(), Step::Stuck) {
                return Err("everybody waits, and nobody for the clock".to_owned());
            }
        }
    }

    /// Ends the run as failed, for the first reason that is given.
    pub(crate) fn violated(&self, what: impl Into<String>) {
        let what = what.into();
        self.tell(|| format!("VIOLATION: {what}"));
        let mut state = self.shared.state.lock();
        if state.violation.is_none() {
            state.violation = Some(what);
        }
    }

    /// Ends the run as failed unless `holds`.
    pub(crate) fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violated(what());
        }
    }

    /// Notes what happened.
    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        let mut state = self.shared.state.lock();
        let (now, steps) = (state.now, state.steps);
        if let Some(words) = &mut state.trace.words {
            // Writing to a string cannot fail.
            let _ = writeln!(words, "{:>10.4}s {steps:>7} {}", now.as_secs_f64(), what());
        }
    }

    /// The fingerprint of the run so far: the same for the same seed.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.shared.state.lock().trace.hash
    }

    /// How many steps there were so far.
    pub(crate) fn steps(&self) -> u64 {
        self.shared.state.lock().steps
    }

    /// What happened, in words.
    pub(crate) fn words(&self) -> String {
        self.shared.state.lock().trace.words.clone().unwrap_or_default()
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.shared.state.lock().random.random_range(0..bound)
    }

    /// True about so often in a thousand.
    pub(crate) fn chance(&self, in_a_thousand: u64) -> bool {
        self.below(1000) < in_a_thousand
    }

    /// One of `choices`, which are not empty.
    pub(crate) fn pick<'a, T>(&self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// Waits for any time up to `longest`; at least one other step comes between.
    pub(crate) async fn linger(&self, longest: Duration) {
        let nanos = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX).max(1);
        let length = Duration::from_nanos(1 + self.below(nanos));
        self.sleep(length).await;
    }

    /// Waits for this long.
    pub(crate) async fn sleep(&self, length: Duration) {
        self.sleep_until(self.now() + length).await;
    }

    fn step(&self) -> Step {
        let Some((task, mut work, waker)) = self.next_work() else { return self.advance() };
        let polled = work.as_mut().poll(&mut Context::from_waker(&waker));
        let mut state = self.shared.state.lock();
        if polled.is_ready() {
            let ended = state.tasks.remove(&task);
            drop(state);
            drop(ended);
        } else if let Some(task) = state.tasks.get_mut(&task) {
            task.work = Some(work);
        } else {
            // Killed by what it did itself. Dropped without the lock: what it holds wakes others.
            drop(state);
            drop(work);
        }
        Step::Polled
    }

    /// Chooses who takes the next step; `None` when nobody can.
    fn next_work(&self) -> Option<(u64, Work, Waker)> {
        let mut state = self.shared.state.lock();
        let mut ready = self.shared.ready.lock();
        ready.retain(|task| state.tasks.contains_key(task));
        let can_run = |task: &&u64| state.tasks.get(task).is_some_and(|of| !state.paused.contains(&of.group));
        let runnable: Vec<u64> = ready.iter().filter(can_run).copied().collect();
        if runnable.is_empty() {
            return None;
        }
        let task = runnable[state.random.random_range(0..runnable.len())];
        ready.remove(&task);
        drop(ready);
        state.steps += 1;
        state.note(task);
        if state.random.random_ratio(1, STEPS_PER_TICK) {
            let nanos = state.random.random_range(0..TICK_MAX.as_nanos() as u64);
            let due = state.move_clock(Duration::from_nanos(nanos));
            due.into_iter().for_each(Waker::wake);
        }
        let entry = state.tasks.get_mut(&task)?;
        Some((task, entry.work.take()?, entry.waker.clone()))
    }

    /// Lets time pass until the next sleeper wakes.
    fn advance(&self) -> Step {
        let mut state = self.shared.state.lock();
        let Some((&(deadline, _), _)) = state.sleepers.first_key_value() else { return Step::Stuck };
        let by = deadline.saturating_sub(state.now);
        let due = state.move_clock(by);
        drop(state);
        due.into_iter().for_each(Waker::wake);
        Step::Advanced
    }
}

impl State {
    fn note(&mut self, what: u64) {
        let mut hasher = FixedState::default().build_hasher();
        hasher.write_u64(self.trace.hash);
        hasher.write_u64(what);
        hasher.write_u64(self.now.as_nanos() as u64);
        self.trace.hash = hasher.finish();
    }

    fn move_clock(&mut self, by: Duration) -> Vec<Waker> {
        self.now += by;
        let later = self.sleepers.split_off(&(self.now + Duration::from_nanos(1), 0));
        std::mem::replace(&mut self.sleepers, later).into_values().collect()
    }
}

impl Clock for World {
    fn now(&self) -> Duration {
        self.shared.state.lock().now
    }

    fn sleep_until(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut key: Option<(Duration, u64)> = None;
        Box::pin(std::future::poll_fn(move |context| {
            let mut state = self.shared.state.lock();
            if let Some(key) = key.take() {
                state.sleepers.remove(&key);
            }
            if state.now >= deadline {
                return Poll::Ready(());
            }
            let sleeper = (deadline, state.next_sleeper);
            state.next_sleeper += 1;
            state.sleepers.insert(sleeper, context.waker().clone());
            key = Some(sleeper);
            Poll::Pending
        }))
    }
}

impl Random for World {
    fn next_u64(&self) -> u64 {
        self.shared.state.lock().random.random()
    }
}

/// Runs the tasks of one process.
pub(crate) struct ProcessSpawn {
    pub(crate) world: World,
    pub(crate) group: Group,
}

impl Spawn for ProcessSpawn {
    fn spawn(&self, _name: &'static str, work: Work) {
        self.world.spawn(self.group, work);
    }
}
