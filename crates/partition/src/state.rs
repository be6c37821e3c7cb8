use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base::Clock;
use engine::{Engine, Snapshot};
use layout::KeySpace;
use layout::log::{Incarnation, PartitionId};
use layout::map::PartitionMap;
use model::{Change, ChangeKind, Event, EventBatch, Key, LeaseId, Revision};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tracing::Span;

use crate::attachments::Attachments;
use crate::begun::Begun;
use crate::error::ReadFailure;
use crate::events::newest_slot;
use crate::history::History;
use crate::index::Index;
use crate::pins::{Pin, Pins};
use crate::values::Values;

/// A process that does not lead waits so long for what the leader has acknowledged to arrive; then the read fails. A
/// stream that broke is made anew well within it.
const BEHIND_TIME_MAX: Duration = Duration::from_secs(5);

/// Who hears of every batch of a partition, in order, right after it has become visible.
pub trait Follower: Send + Sync + 'static {
    /// The batch is durable and visible, and nothing at or below its revision can appear any more. Must not wait.
    fn published(&self, batch: &Arc<EventBatch>);

    /// The change at this revision is about to be published, and its request, with this span, is traced. Must not wait.
    fn traced(&self, revision: Revision, request: &Span) {
        let _ = (revision, request);
    }
}

/// The state of all user keys, shared by their partitions' sequencers, their readers and their reclaiming.
pub(crate) struct Shared {
    pub(crate) map: PartitionMap,
    /// This life of this process, as whom it takes partitions over.
    owner: Incarnation,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) space: KeySpace,
    pub(crate) values: Values,
    pub(crate) pins: Arc<Pins>,
    /// Locked for the evaluation of one transaction, for the publication of one batch, or for one page of a read.
    pub(crate) state: RwLock<State>,
    /// The highest published revision; moves under the lock of `state`.
    published: watch::Sender<Revision>,
    /// The highest revision that somebody was told to have happened: above the published one while something below it is
    /// still on its way in another partition.
    newest: AtomicI64,
    /// The published revision that every follower was told of.
    told: watch::Sender<Revision>,
    compacted: Compacted,
    /// What this process has begun as an owner that does not lead.
    pub(crate) begun: Begun,
    /// For each partition the highest revision that another process has made in it, as far as it is in the index.
    others: Vec<AtomicI64>,
    /// Locked before `state`; replaced as a whole, so that nobody is called under the lock.
    followers: Mutex<Arc<[Arc<dyn Follower>]>>,
}

/// What is in memory. The index holds the batches that are being committed too, above the published revision; attachments
/// are as everything durable makes them; the rest is as published.
pub(crate) struct State {
    pub(crate) index: Index,
    pub(crate) attachments: Attachments,
    pub(crate) history: History,
}

/// A key that is put on another lease, with the lease before and after.
pub(crate) type Move = (Key, LeaseId, LeaseId);

impl State {
    /// Carries out what durable changes mean for leases.
    pub(crate) fn attach(&mut self, moves: &[Move]) {
        for (key, before, after) in moves {
            self.attachments.moved(key, *before, *after);
        }
    }
}

/// The compacted revision, as far as this process has heard; shared by everything that reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compacted {
    /// -1 for none, which lies below every revision, even the one before the first.
    revision: Arc<AtomicI64>,
}

impl Compacted {
    pub(crate) fn new(revision: Option<Revision>) -> Compacted {
        Compacted { revision: Arc::new(AtomicI64::new(revision.map_or(-1, Revision::get))) }
    }

    pub(crate) fn get(&self) -> Option<Revision> {
        let revision = self.revision.load(Ordering::SeqCst);
        (revision >= 0).then(|| Revision::new(revision))
    }

    pub(crate) fn raise(&self, revision: Revision) {
        self.revision.fetch_max(revision.get(), Ordering::SeqCst);
    }
}

/// What a [`Shared`] is made of.
pub(crate) struct Parts {
    pub(crate) map: PartitionMap,
    pub(crate) owner: Incarnation,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) space: KeySpace,
    pub(crate) values: Values,
    pub(crate) state: State,
    pub(crate) published: Revision,
    pub(crate) compacted: Compacted,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Shared {
        let Parts { map, owner, engine, space, values, state, published, compacted } = parts;
        let others = std::iter::repeat_with(AtomicI64::default).take(map.count()).collect();
        Shared {
            map,
            owner,
            engine,
            space,
            values,
            pins: Arc::default(),
            state: RwLock::new(state),
            published: watch::Sender::new(published),
            newest: AtomicI64::new(published.get()),
            told: watch::Sender::new(published),
            compacted,
            begun: Begun::default(),
            others,
            followers: Mutex::new(Arc::new([])),
        }
    }

    pub(crate) fn published(&self) -> Revision {
        *self.published.borrow()
    }

    /// Nothing that anybody was told to have happened lies above it. What lies at or below it may still be on its way, until
    /// it is published.
    pub(crate) fn newest(&self) -> Revision {
        Revision::new(self.newest.load(Ordering::SeqCst)).max(self.published())
    }

    pub(crate) fn raise_newest(&self, revision: Revision) {
        self.newest.fetch_max(revision.get(), Ordering::SeqCst);
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.published.subscribe()
    }

    pub(crate) fn compacted(&self) -> Option<Revision> {
        self.compacted.get()
    }

    /// Holds the state at `revision` for a reader, unless it is compacted or has not happened yet.
    pub(crate) fn pin(&self, revision: Revision) -> Result<Pin, ReadFailure> {
        if revision > self.published() {
            return Err(ReadFailure::FutureRevision);
        }
        // Pinned before the look at the compacted revision: see `Pins`.
        let pin = self.pins.pin(revision);
        match self.compacted() {
            Some(compacted) if revision < compacted => Err(ReadFailure::Compacted(compacted)),
            _ => Ok(pin),
        }
    }

    pub(crate) fn raise_compacted(&self, revision: Revision) {
        self.compacted.raise(revision);
    }

    /// Whether, in `snapshot`, nobody else has become the leader, which takes the system partition over before anything.
    ///
    /// Until somebody does, only this process reclaims, and it leaves alone what its own readers hold.
    pub(crate) async fn is_leader_in(&self, snapshot: &dyn Snapshot) -> Result<bool, ReadFailure> {
        let newest = newest_slot(snapshot, &self.space, PartitionId::SYSTEM).await?;
        Ok(newest.is_some_and(|(_, record)| record.owner == self.owner))
    }

    /// Puts changes that another process has made into the index, unless they are there, and their values at hand.
    /// Returns the keys that hang on another lease afterwards.
    ///
    /// Who owns a partition knows its changes before they are published.
    pub(crate) fn take_in<'a>(&self, changes: impl Iterator<Item = &'a Change>) -> Vec<Move> {
        let mut moves = Vec::new();
        let mut state = self.state.write();
        for change in changes {
            let key = &change.key;
            if state.index.newest_revision(key.as_slice()) >= change.revision {
                continue;
            }
            let before = state.index.newest(key.as_slice()).map_or(LeaseId::NONE, |meta| meta.lease);
            let after = match change.kind {
                ChangeKind::Put(meta) => meta.lease,
                ChangeKind::Delete => LeaseId::NONE,
            };
            state.index.apply(change);
            if let Some(others) = self.others.get(self.map.position(key.as_slice())) {
                others.fetch_max(change.revision.get(), Ordering::SeqCst);
            }
            if before != after {
                // A copy, because attachments live longer than what the event shares its bytes with.
                let key = Key::new(bytes::Bytes::copy_from_slice(key.as_slice()));
                moves.extend(key.map(|key| (key, before, after)));
            }
        }
        moves
    }

    /// Whether another process has changed something above `revision` in the partition at `place`, and it is in the index.
    pub(crate) fn is_changed_by_others(&self, place: usize, revision: Revision) -> bool {
        self.others.get(place).is_some_and(|others| others.load(Ordering::SeqCst) > revision.get())
    }

    /// Keeps the values of events at hand.
    pub(crate) fn remember(&self, events: &[Arc<Event>]) {
        for event in events.iter().filter(|event| !event.is_delete()) {
            let Change { key, revision, .. } = &event.change;
            let object_key = self.space.object_key(key.as_slice(), *revision);
            self.values.remember(object_key, event.key_value.clone());
        }
    }

    /// Takes in what another process has made durable in a partition that it owns.
    pub(crate) fn adopt(&self, events: &[Arc<Event>]) {
        let moves = self.take_in(events.iter().map(|event| &event.change));
        self.state.write().attach(&moves);
        self.remember(events);
    }

    /// Completes when everything through `revision` is visible here, and every follower was told; `false` when that takes
    /// too long.
    pub(crate) async fn arrived(&self, revision: Revision, clock: &dyn Clock) -> bool {
        if self.told_through() >= revision {
            return true;
        }
        let mut published = self.told();
        let late = clock.now() + BEHIND_TIME_MAX;
        tokio::select! {
            biased;
            // The sender lives as long as the partition does.
            _ = published.wait_for(|published| *published >= revision) => true,
            () = clock.sleep_until(late) => false,
        }
    }

    /// Tells the followers of a change that is traced.
    pub(crate) fn traced(&self, revision: Revision, request: &Span) {
        let followers = self.followers.lock().clone();
        followers.iter().for_each(|follower| follower.traced(revision, request));
    }

    /// Adds a follower. Returns the published revision before the first batch that it hears of.
    pub(crate) fn follow(&self, follower: Arc<dyn Follower>) -> Revision {
        let mut followers = self.followers.lock();
        *followers = followers.iter().cloned().chain([follower]).collect();
        self.published()
    }

    /// Makes a durable batch visible: to readers, to history, to followers, in this order.
    pub(crate) fn publish(&self, batch: Arc<EventBatch>, moves: &[Move]) {
        let followers = {
            let followers = self.followers.lock();
            let mut state = self.state.write();
            state.attach(moves);
            let State { index, history, .. } = &mut *state;
            for forgotten in history.push(batch.clone()) {
                for event in &forgotten.events {
                    index.forget(&event.change);
                }
            }
            self.published.send_replace(batch.revision);
            // Who follows from here on was told a revision that includes the batch.
            followers.clone()
        };
        for follower in followers.iter() {
            follower.published(&batch);
        }
        self.told.send_replace(batch.revision);
    }

    /// Everything through this revision is visible, and every follower was told.
    pub(crate) fn told_through(&self) -> Revision {
        *self.told.borrow()
    }

    /// The published revision, as it moves; each once all followers were told.
    pub(crate) fn told(&self) -> watch::Receiver<Revision> {
        self.told.subscribe()
    }
}

/// Encoded `KeyValue`s at hand, by the keys of their objects.
pub(crate) type AtHand = HashMap<bytes::Bytes, bytes::Bytes>;
