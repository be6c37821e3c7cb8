//! Clients that work in a closed loop, each with one operation in flight, and what they saw.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use base::{Clock, SystemClock};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::connection::{Error, Link};

/// The longest answer that is told apart: one minute.
const LATENCY_US_MAX: u64 = 60_000_000;

/// How long and how hard clients work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Clients: each has one operation in flight.
    pub(crate) clients: usize,
    /// No operation begins after this time.
    pub(crate) time: Duration,
    /// Operations a second, all clients together; none: as many as they can.
    pub(crate) rate: Option<f64>,
}

impl Pace {
    /// As fast as `clients` can for so long.
    pub(crate) fn full(clients: usize, time: Duration) -> Pace {
        Pace { clients, time, rate: None }
    }
}

/// Whose turn it is.
#[derive(Clone)]
pub(crate) struct Turn {
    pub(crate) link: Rc<Link>,
    /// Which client: 0 and up.
    pub(crate) client: usize,
    /// How often this client had its turn before.
    pub(crate) round: u64,
    /// How many turns all clients had before.
    pub(crate) number: u64,
}

/// What came of it.
pub(crate) struct Driven {
    /// What was done: the sum of what the operations say.
    pub(crate) ops: u64,
    /// From the first operation to the last answer.
    pub(crate) elapsed: Duration,
    /// The time of each operation, in microseconds. With a rate, from the moment at which it was due.
    pub(crate) latency_us: Histogram<u64>,
    /// The same by the whole second in which it ended.
    pub(crate) seconds: Vec<Histogram<u64>>,
}

impl Driven {
    /// The worst 99.9th percentile of a second, in microseconds, over the seconds `from..until`. Seconds with few
    /// operations (the last one is cut short) are left out.
    pub(crate) fn worst_second_us(&self, from: usize, until: usize) -> u64 {
        let full = self.seconds.iter().map(Histogram::len).max().unwrap_or(0);
        let seconds = self.seconds.iter().take(until).skip(from).filter(|second| second.len() * 4 > full);
        seconds.map(|second| second.value_at_quantile(0.999)).max().unwrap_or(0)
    }
}

struct Shared {
    began: Duration,
    pace: Pace,
    turns: Cell<u64>,
    ops: Cell<u64>,
    latency_us: RefCell<Histogram<u64>>,
    seconds: RefCell<Vec<Histogram<u64>>>,
}

/// Lets the clients work. `operation` says how much it did, or nothing when there is nothing left to do for its
/// client. The first error ends all.
pub(crate) async fn drive<W>(
    link: &Rc<Link>,
    pace: Pace,
    operation: impl Fn(Turn) -> W + Clone + 'static,
) -> Result<Driven, Error>
where
    W: Future<Output = Result<Option<u64>, Error>> + 'static,
{
    let shared = Rc::new(Shared {
        began: SystemClock.now(),
        pace,
        turns: Cell::new(0),
        ops: Cell::new(0),
        latency_us: RefCell::new(histogram()?),
        seconds: RefCell::new(Vec::new()),
    });
    let mut clients = JoinSet::new();
    for client in 0..pace.clients {
        let (shared, link, operation) = (shared.clone(), link.clone(), operation.clone());
        clients.spawn_local(async move { work(&shared, link, client, operation).await });
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    let elapsed = SystemClock.now() - shared.began;
    let latency_us = shared.latency_us.replace(histogram()?);
    Ok(Driven { ops: shared.ops.get(), elapsed, latency_us, seconds: shared.seconds.take() })
}

async fn work<W>(
    shared: &Shared,
    link: Rc<Link>,
    client: usize,
    operation: impl Fn(Turn) -> W,
) -> Result<(), Error>
where
    W: Future<Output = Result<Option<u64>, Error>>,
{
    for round in 0.. {
        let number = shared.turns.replace(shared.turns.get() + 1);
        let mut began = SystemClock.now();
        if let Some(rate) = shared.pace.rate {
            let due = shared.began + Duration::from_secs_f64(number as f64 / rate);
            if due > shared.began + shared.pace.time {
                return Ok(());
            }
            SystemClock.sleep_until(due).await;
            began = due;
        }
        if began - shared.began >= shared.pace.time {
            return Ok(());
        }
        let Some(ops) = operation(Turn { link: link.clone(), client, round, number }).await? else {
            return Ok(());
        };
        shared.record(began, ops)?;
    }
    Ok(())
}

impl Shared {
    fn record(&self, began: Duration, ops: u64) -> Result<(), Error> {
        let now = SystemClock.now();
        let micros = u64::try_from((now - began).as_micros()).unwrap_or(LATENCY_US_MAX).max(1);
        self.ops.set(self.ops.get() + ops);
        self.latency_us.borrow_mut().saturating_record(micros);
        let mut seconds = self.seconds.borrow_mut();
        let second = usize::try_from((now - self.began).as_secs())?;
        while seconds.len() <= second {
            seconds.push(histogram()?);
        }
        if let Some(second) = seconds.get_mut(second) {
            second.saturating_record(micros);
        }
        Ok(())
    }
}

fn histogram() -> Result<Histogram<u64>, Error> {
    Ok(Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?)
}
