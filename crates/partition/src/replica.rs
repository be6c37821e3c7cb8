//! The state in a process that does not own the keys: fed with what the owner publishes, or from the logs in the engine.

use std::sync::Arc;

use base::{PlantedBug, is_planted};
use layout::log::{PartitionId, Slot};
use layout::object::meta_of;
use model::{ChangeKind, Event, EventBatch, Key, Revision};
use parking_lot::Mutex;

use crate::error::ReadFailure;
use crate::state::Shared;

/// What became of a batch that a replica was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is visible now.
    Done,
    /// The replica has it, or needs none any more because this process owns the keys.
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
    /// when another one took over is the first thing that this one knows. Of several partitions no log tells this: then
    /// there is nothing to be followed without the owner's word.
    AllButNewest,
    /// Everything: there is no owner that answers.
    End,
}

/// What feeds the state while another process owns the keys. Cheap to clone.
///
/// Whatever order batches come in, from the owner and from the log at once, each becomes visible once, in order, and
/// nothing between two of them is left out: a batch names the revision that it follows.
#[derive(Clone)]
pub struct Replica {
    shared: Arc<Shared>,
    /// Held while a batch is applied.
    fed: Arc<Mutex<Fed>>,
}

/// How far a partition's log went when the state was loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) partition: PartitionId,
    pub(crate) slot: Slot,
    pub(crate) revision: Revision,
}

struct Fed {
    open: bool,
    /// Partitions whose logs ended below what was loaded of others, each with its last slot: something in between may have
    /// been on its way. Nothing else is applied before that is here.
    behind: Vec<(PartitionId, Slot)>,
}

impl Replica {
    /// `loaded` is how far the log of each partition went when it was loaded.
    pub(crate) fn new(shared: Arc<Shared>, loaded: &[Position]) -> Replica {
        let position = shared.published();
        let behind =
            loaded.iter().filter(|of| of.revision < position).map(|of| (of.partition, of.slot)).collect();
        Replica { shared, fed: Arc::new(Mutex::new(Fed { open: true, behind })) }
    }

    /// Everything at or below this revision is visible here.
    pub fn position(&self) -> Revision {
        self.shared.published()
    }

    /// Notes how far the owner has given history up.
    pub fn compacted(&self, revision: Revision) {
        self.shared.raise_compacted(revision);
    }

    /// Makes a batch visible that the owner has published; before that the fate of what this process has begun below it has
    /// to be known.
    pub async fn apply(&self, batch: Arc<EventBatch>) -> Applied {
        self.shared.begun.may_show(batch.revision).await;
        self.apply_now(batch)
    }

    fn apply_now(&self, batch: Arc<EventBatch>) -> Applied {
        let fed = self.fed.lock();
        let position = self.position();
        if !fed.open || batch.revision <= position {
            return Applied::Known;
        }
        if batch.after > position || !fed.behind.is_empty() {
            return Applied::Gap;
        }
        let batch = if batch.after < position { Arc::new(rest_of(&batch, position)) } else { batch };
        let moves = self.shared.take_in(batch.events.iter().map(|event| &event.change));
        self.shared.remember(&batch.events);
        self.shared.publish(batch, &moves);
        Applied::Done
    }

    /// Follows the log in the engine as far as `through` says. [`ReadFailure::Compacted`] when what is missing was given
    /// up: then the state has to be loaded anew.
    pub async fn catch_up(&self, through: Through) -> Result<Revision, ReadFailure> {
        let through = match through {
            _ if is_planted(PlantedBug::UnpublishedShown) => Revision::MAX,
            Through::Published(revision) => revision,
            Through::AllButNewest => match self.shared.revision_before_newest().await? {
                Some(revision) => revision,
                None => return Ok(self.position()),
            },
            Through::End => Revision::MAX,
        };
        if through >= self.position() {
            self.fill().await?;
        }
        loop {
            let after = self.position();
            if after >= through {
                return Ok(after);
            }
            let page = self.shared.events_of_log(after.next()..=through).await?;
            if page.through <= after {
                return Ok(after);
            }
            self.apply(Arc::new(EventBatch { after, revision: page.through, events: page.events })).await;
        }
    }

    /// [`ReadFailure::Compacted`] when the logs do not tell any more what is missing here.
    pub(crate) async fn check_nothing_is_missing(&self) -> Result<(), ReadFailure> {
        let snapshot = self.shared.engine.snapshot().await?;
        match self.shared.values.compacted_in(snapshot.as_ref()).await? {
            Some(compacted) if self.position().next() < compacted => Err(ReadFailure::Compacted(compacted)),
            _ => Ok(()),
        }
    }

    /// Reads what was on its way when the state was loaded: nothing at or below what was loaded can follow any more.
    async fn fill(&self) -> Result<(), ReadFailure> {
        let (behind, position) = {
            let fed = self.fed.lock();
            (fed.behind.clone(), self.position())
        };
        for from in behind {
            let changes = self.shared.changes_after(from, position).await?;
            let mut fed = self.fed.lock();
            // Somebody else may have been faster, or this process owns everything by now.
            if !fed.open || !fed.behind.contains(&from) {
                continue;
            }
            let moves = self.shared.take_in(changes.iter());
            let mut state = self.shared.state.write();
            state.attach(&moves);
            // History begins above.
            changes.iter().for_each(|change| state.index.forget(change));
            drop(state);
            fed.behind.retain(|of| *of != from);
        }
        Ok(())
    }

    /// Takes no batches any more: this process owns the keys, and makes them.
    pub(crate) fn close(&self) {
        self.fed.lock().open = false;
    }

    /// Whether something is still to be read that was on its way when the state was loaded.
    pub(crate) fn is_behind(&self) -> bool {
        !self.fed.lock().behind.is_empty()
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
