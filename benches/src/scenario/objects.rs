//! Single objects: created, updated, read, deleted, each by kube-apiserver's request for it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;

use bytes::Bytes;
use proto::etcdserverpb::{RangeResponse, TxnResponse};

use super::{Scenario, Stage};
use crate::connection::Error;
use crate::drive::{Driven, Pace, Turn, drive};
use crate::requests::{self, Kind, LEASES, PODS};

/// How many clients work unless the row says otherwise.
pub(super) const MANY: usize = 300;

/// Objects that this process has written, and at which revision.
#[derive(Default)]
pub(super) struct Objects {
    kind: Kind,
    value: Bytes,
    /// By number; 0: there is none.
    revisions: RefCell<Vec<i64>>,
    /// The first number that nobody has taken.
    next: Cell<u64>,
}

impl Objects {
    pub(super) fn none(kind: Kind, value_bytes: usize) -> Rc<Objects> {
        Rc::new(Objects { kind, value: requests::value(value_bytes), ..Objects::default() })
    }

    /// The newest revision of any of them.
    pub(super) fn newest(&self) -> i64 {
        self.revisions.borrow().iter().copied().max().unwrap_or(0)
    }

    fn len(&self) -> u64 {
        self.revisions.borrow().len() as u64
    }

    fn revision(&self, number: u64) -> i64 {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        self.revisions.borrow().get(number).copied().unwrap_or(0)
    }

    fn set(&self, number: u64, revision: i64) {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let mut revisions = self.revisions.borrow_mut();
        if revisions.len() <= number {
            revisions.resize(number + 1, 0);
        }
        if let Some(place) = revisions.get_mut(number) {
            *place = revision;
        }
    }

    /// An object that only this client writes; each in turn. Nothing if there is none.
    fn own(&self, turn: &Turn, clients: usize) -> Option<u64> {
        let (client, clients) = (turn.client as u64, clients as u64);
        let count = self.len().checked_sub(client)?.div_ceil(clients);
        Some(client + turn.round.checked_rem(count)? * clients)
    }

    async fn txn(turn: &Turn, request: proto::etcdserverpb::TxnRequest) -> Result<i64, Error> {
        let connection = turn.link.connection(turn.client)?;
        let answer: TxnResponse = connection.call(&turn.link.txn, &request).await?;
        if !answer.succeeded {
            return Err("a condition did not hold: somebody else writes here, or a write was lost".into());
        }
        Ok(answer.header.ok_or("an answer without a header")?.revision)
    }

    /// Takes so many numbers, and returns the first of them.
    fn take(&self, count: u64) -> u64 {
        self.next.replace(self.next.get() + count)
    }

    /// Creates the next object; returns its number and revision.
    pub(super) async fn create(&self, turn: &Turn, lease: i64) -> Result<(u64, i64), Error> {
        let number = self.take(1);
        let request = requests::create(self.kind.key(number), self.value.clone(), lease);
        let revision = Self::txn(turn, request).await?;
        self.set(number, revision);
        Ok((number, revision))
    }

    /// Updates one of the client's objects.
    pub(super) async fn update(&self, turn: &Turn, clients: usize) -> Result<Option<u64>, Error> {
        let Some(number) = self.own(turn, clients) else { return Ok(None) };
        let request = requests::update(self.kind.key(number), self.value.clone(), self.revision(number));
        let revision = Self::txn(turn, request).await?;
        self.set(number, revision);
        Ok(Some(1))
    }

    /// Deletes one of the client's objects; nothing when all are deleted.
    async fn delete(&self, turn: &Turn, clients: usize) -> Result<Option<u64>, Error> {
        let number = turn.client as u64 + turn.round * clients as u64;
        let revision = self.revision(number);
        if revision == 0 {
            return Ok(None);
        }
        Self::txn(turn, requests::delete(self.kind.key(number), revision)).await?;
        self.set(number, 0);
        Ok(Some(1))
    }

    /// Reads an object.
    pub(super) async fn get(&self, turn: &Turn, number: u64) -> Result<(), Error> {
        let request = requests::get(self.kind.key(number));
        let connection = turn.link.connection(turn.client)?;
        let answer: RangeResponse = connection.call(&turn.link.range, &request).await?;
        match answer.kvs.first() {
            Some(kv) if kv.value.len() == self.value.len() => Ok(()),
            _ => Err("an object that was written cannot be read".into()),
        }
    }
}

/// Clients that create objects, numbered from those there are on.
pub(super) fn creating(
    stage: &Stage<'_>,
    objects: &Rc<Objects>,
    pace: Pace,
) -> impl Future<Output = Result<Driven, Error>> + use<> {
    let (link, objects) = (stage.link.clone(), objects.clone());
    async move {
        let operation = move |turn: Turn| {
            let objects = objects.clone();
            async move { objects.create(&turn, 0).await.map(|_| Some(1)) }
        };
        drive(&link, pace, operation).await
    }
}

/// Clients that update objects, each its own.
pub(super) fn updating(
    stage: &Stage<'_>,
    objects: &Rc<Objects>,
    pace: Pace,
) -> impl Future<Output = Result<Driven, Error>> + use<> {
    let (link, objects) = (stage.link.clone(), objects.clone());
    async move {
        let operation = move |turn: Turn| {
            let objects = objects.clone();
            async move { objects.update(&turn, pace.clients).await }
        };
        drive(&link, pace, operation).await
    }
}

/// Clients that read objects; with `once`, each object once.
pub(super) fn reading(
    stage: &Stage<'_>,
    objects: &Rc<Objects>,
    pace: Pace,
    once: bool,
) -> impl Future<Output = Result<Driven, Error>> + use<> {
    let (link, objects) = (stage.link.clone(), objects.clone());
    let count = objects.len().max(1);
    async move {
        let operation = move |turn: Turn| {
            let objects = objects.clone();
            async move {
                if once && turn.number >= count {
                    return Ok(None);
                }
                // Each in turn, but not in the order in which they were written.
                let number = turn.number.wrapping_mul(STRIDE) % count;
                let number = if once { turn.number } else { number };
                objects.get(&turn, number).await.map(|()| Some(1))
            }
        };
        drive(&link, pace, operation).await
    }
}

/// A prime, so that all numbers have their turn.
const STRIDE: u64 = 1_000_003;

/// Clients that delete objects, each its own, until none is left.
pub(super) fn deleting(
    stage: &Stage<'_>,
    objects: &Rc<Objects>,
    pace: Pace,
) -> impl Future<Output = Result<Driven, Error>> + use<> {
    let (link, objects) = (stage.link.clone(), objects.clone());
    async move {
        let operation = move |turn: Turn| {
            let objects = objects.clone();
            async move { objects.delete(&turn, pace.clients).await }
        };
        drive(&link, pace, operation).await
    }
}

/// Objects of one transaction that fills a store: with values of 10 KiB it still is smaller than the largest request.
const FILL_OBJECTS: u64 = 100;
/// And how many such transactions are in flight.
const FILL_CLIENTS: usize = 8;

/// Writes objects, fast, without measuring.
pub(super) async fn fill(
    stage: &Stage<'_>,
    kind: Kind,
    count: u64,
    value_bytes: usize,
) -> Result<Rc<Objects>, Error> {
    let objects = Objects::none(kind, value_bytes);
    let filled = objects.clone();
    let large = stage.running.system.has_large_transactions();
    let step = if large { FILL_OBJECTS } else { 1 };
    let operation = move |turn: Turn| {
        let objects = filled.clone();
        async move {
            if objects.next.get() >= count {
                return Ok(None);
            }
            if !large {
                objects.create(&turn, 0).await?;
                return Ok(Some(1));
            }
            let from = objects.take(step);
            let numbers = from..count.min(from + step);
            let puts = numbers.clone().map(|number| (objects.kind.key(number), objects.value.clone()));
            let revision = Objects::txn(&turn, requests::fill(puts)).await?;
            numbers.for_each(|number| objects.set(number, revision));
            Ok(Some(step))
        }
    };
    let clients = if large { FILL_CLIENTS } else { MANY };
    drive(&stage.link, Pace::full(clients, stage.scale.scenario_time_max), operation).await?;
    Ok(objects)
}

/// Creates, updates, reads and deletes.
pub(super) async fn phases(stage: &mut Stage<'_>, scenario: &Scenario, clients: usize) -> Result<(), Error> {
    let objects = Objects::none(PODS, scenario.value_bytes);
    let pace = Pace::full(clients, stage.scale.phase);
    let last = scenario.rows.iter().rposition(|row| stage.wants(row)).unwrap_or(0);
    for row in scenario.rows.iter().take(last + 1) {
        let phase = row.split('/').next().unwrap_or_default();
        if phase != "create" && !stage.wants(row) {
            continue;
        }
        match phase {
            "create" => stage.measure(row, creating(stage, &objects, pace)).await?,
            "update" => stage.measure(row, updating(stage, &objects, pace)).await?,
            "get" => stage.measure(row, reading(stage, &objects, pace, false)).await?,
            _ => stage.measure(row, deleting(stage, &objects, pace)).await?,
        };
    }
    Ok(())
}

/// Lease objects of nodes, each updated in turn.
pub(super) async fn node_leases(stage: &mut Stage<'_>, value_bytes: usize) -> Result<(), Error> {
    let leases = fill(stage, LEASES, stage.scale.node_leases, value_bytes).await?;
    let work = updating(stage, &leases, Pace::full(MANY, stage.scale.phase));
    stage.measure("node-lease/300c", work).await?;
    Ok(())
}

/// Reads each object once after a restart. The operating system may still hold the files in memory.
pub(super) async fn cold(stage: &mut Stage<'_>, value_bytes: usize) -> Result<(), Error> {
    let row = "get-cold/300c";
    if !stage.running.can_restart() {
        stage.note(row, "it cannot be restarted");
        return Ok(());
    }
    let objects = fill(stage, PODS, stage.scale.cold_keys, value_bytes).await?;
    stage.restart(false).await?;
    let work = reading(stage, &objects, Pace::full(MANY, stage.scale.scenario_time_max), true);
    stage.measure(row, work).await?;
    Ok(())
}

/// Insert, insert and read, delete: 300 clients, keys of 70 bytes, values of 512.
pub(super) async fn kubebrain(stage: &mut Stage<'_>, value_bytes: usize) -> Result<(), Error> {
    let objects = Objects::none(PODS, value_bytes);
    let pace = Pace::full(MANY, stage.scale.phase);
    stage.measure("kubebrain/insert", creating(stage, &objects, pace)).await?;
    let (link, both) = (stage.link.clone(), objects.clone());
    let operation = move |turn: Turn| {
        let objects = both.clone();
        async move {
            let (number, _) = objects.create(&turn, 0).await?;
            objects.get(&turn, number).await?;
            Ok(Some(2))
        }
    };
    let row = "kubebrain/insert-read";
    stage.measure(row, async move { drive(&link, pace, operation).await }).await?;
    stage.measure("kubebrain/delete", deleting(stage, &objects, pace)).await?;
    Ok(())
}
