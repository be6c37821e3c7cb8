//! A partition's state in a process that does not own it: fed with what the owner publishes, or from the log in the
//! engine.

use std::sync::Arc;

use base::{PlantedBug, is_planted};
use layout::object::meta_of;
use model::{ChangeKind, Event, EventBatch, Key, LeaseId, Revision};
use parking_lot::Mutex;

use crate::error::ReadFailure;
use crate::state::{Shared, State};

/// What became of a batch that a replica was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is visible now.
    Done,
    /// The replica has it, or needs none any more because this process owns the partition.
    Known,
    /// Something before it is missing: [`Replica::catch_up`] finds that in the log.
    Gap,
}

/// How far a replica may follow the log.
///
/// What is in the log is durable, but the owner may not know yet, and answer a read without it: who has seen it here would
/// see it vanish there. So as long as there may be an owner that answers, only what it has published is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    /// What the owner said that it has published.
    Published(Revision),
    /// All but the newest slot: an owner publishes what is in a slot before it writes the next one, and what was there
    /// when another one took over is the first thing that this one knows.
    AllButNewest,
    /// Everything: there is no owner that answers.
    End,
}

/// What feeds a partition's state while another process owns it. Cheap to clone.
///
/// Whatever order batches come in, from the owner and from the log at once, each becomes visible once, in order, and
/// nothing between two of them is left out: a batch names the revision that it follows.
#[derive(Clone)]
pub struct Replica {
    shared: Arc<Shared>,
    /// Whether it is still fed. Held while a batch is applied.
    fed: Arc<Mutex<bool>>,
}

impl Replica {
    pub(crate) fn new(shared: Arc<Shared>) -> Replica {
        Replica { shared, fed: Arc::new(Mutex::new(true)) }
    }

    /// Everything at or below this revision is visible here.
    pub fn position(&self) -> Revision {
        self.shared.published()
    }

    /// Notes how far the owner has given history up.
    pub fn compacted(&self, revision: Revision) {
        self.shared.raise_compacted(revision);
    }

    /// Makes a batch visible that the owner has published.
    pub fn apply(&self, batch: Arc<EventBatch>) -> Applied {
        let fed = self.fed.lock();
        let position = self.position();
        if !*fed || batch.revision <= position {
            return Applied::Known;
        }
        if batch.after > position {
            return Applied::Gap;
        }
        let batch = if batch.after < position { Arc::new(rest_of(&batch, position)) } else { batch };
        let moves = self.apply_to_index(&batch);
        self.shared.publish(batch, &moves);
        Applied::Done
    }

    /// Follows the log in the engine as far as `through` says. [`ReadFailure::Compacted`] when what is missing was given
    /// up: then the state has to be loaded anew.
    pub async fn catch_up(&self, through: Through) -> Result<Revision, ReadFailure> {
        let through = match through {
            _ if is_planted(PlantedBug::UnpublishedShown) => Revision::MAX,
            Through::Published(revision) => revision,
            Through::AllButNewest => self.shared.revision_before_newest().await?,
            Through::End => Revision::MAX,
        };
        loop {
            let after = self.position();
            if after >= through {
                return Ok(after);
            }
            let page = self.shared.events_of_log(after.next()..=through).await?;
            if page.through <= after {
                return Ok(after);
            }
            self.apply(Arc::new(EventBatch { after, revision: page.through, events: page.events }));
        }
    }

    /// Takes no batches any more: this process owns the partition, and makes them.
    pub(crate) fn close(&self) {
        *self.fed.lock() = false;
    }

    /// Returns the keys that hang on another lease afterwards.
    fn apply_to_index(&self, batch: &EventBatch) -> Vec<(Key, LeaseId, LeaseId)> {
        let mut moves = Vec::new();
        let mut state = self.shared.state.write();
        let State { index, .. } = &mut *state;
        for event in &batch.events {
            let key = &event.change.key;
            let before = index.newest(key.as_slice()).map_or(LeaseId::NONE, |meta| meta.lease);
            let after = match event.change.kind {
                ChangeKind::Put(meta) => meta.lease,
                ChangeKind::Delete => LeaseId::NONE,
            };
            index.apply(&event.change);
            if before != after {
                // A copy, because attachments live longer than what the event shares its bytes with.
                let key = Key::new(bytes::Bytes::copy_from_slice(key.as_slice()));
                moves.extend(key.map(|key| (key, before, after)));
            }
        }
        drop(state);
        let puts = batch.events.iter().filter(|event| !event.is_delete());
        for event in puts {
            let object_key = self.shared.space.object_key(event.change.key.as_slice(), event.change.revision);
            self.shared.values.remember(object_key, event.key_value.clone());
        }
        moves
    }
}

/// The part of a batch that lies above `position`.
fn rest_of(batch: &EventBatch, position: Revision) -> EventBatch {
    let events = batch.events.iter().filter(|event| event.change.revision > position);
    EventBatch { after: position, revision: batch.revision, events: events.cloned().collect() }
}

/// The event of a key's version that is known by its encoded `KeyValue`, as it comes from an owner. `previous` is the
/// revision that it replaced; an error says what is wrong with the bytes.
pub fn event_of(key_value: bytes::Bytes, previous: Revision, is_delete: bool) -> Result<Event, &'static str> {
    let meta = meta_of(&key_value)?;
    let key = Key::new(layout::object::key_of(&key_value)?).map_err(|_| "its key is empty")?;
    let kind = if is_delete { ChangeKind::Delete } else { ChangeKind::Put(meta) };
    let change = model::Change { revision: meta.mod_revision, key, kind, previous };
    Ok(Event::new(change, key_value))
}
