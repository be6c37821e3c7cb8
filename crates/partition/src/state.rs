use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use engine::{Engine, Snapshot};
use layout::KeySpace;
use layout::log::Incarnation;
use layout::map::PartitionMap;
use model::{EventBatch, Key, LeaseId, Revision};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tracing::Span;

use crate::attachments::Attachments;
use crate::error::ReadFailure;
use crate::events::newest_slot;
use crate::history::History;
use crate::index::Index;
use crate::pins::{Pin, Pins};
use crate::values::Values;

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

    /// Whether, in `snapshot`, nobody else has taken any partition over.
    ///
    /// Until somebody does, only this process reclaims, and it leaves alone what its own readers hold.
    pub(crate) async fn is_owner_in(&self, snapshot: &dyn Snapshot) -> Result<bool, ReadFailure> {
        for partition in self.map.ids() {
            let newest = newest_slot(snapshot, &self.space, partition).await?;
            if newest.is_none_or(|(_, record)| record.owner != self.owner) {
                return Ok(false);
            }
        }
        Ok(true)
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
