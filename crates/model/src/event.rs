use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::{Change, ChangeKind, Revision};

/// A change as watchers see it. One value is shared by everyone who watches its key.
#[derive(Debug)]
pub struct Event {
    /// What happened.
    pub change: Change,
    /// The encoded etcd `KeyValue` of the event: the new version, or the deleted key and the revision.
    pub key_value: Bytes,
    /// The encoded `KeyValue` of the version that was replaced, once somebody asked for it.
    previous: OnceLock<Bytes>,
}

impl Event {
    /// The event of `change`, with the encoded `KeyValue` that it shows.
    pub fn new(change: Change, key_value: Bytes) -> Event {
        Event { change, key_value, previous: OnceLock::new() }
    }

    /// Whether the event deletes its key.
    pub fn is_delete(&self) -> bool {
        self.change.kind == ChangeKind::Delete
    }

    /// The encoded version that was replaced, where it was looked up before.
    pub fn previous(&self) -> Option<&Bytes> {
        self.previous.get()
    }

    /// Keeps the encoded version that was replaced for the next one who asks.
    pub fn remember_previous(&self, key_value: Bytes) {
        // A second look-up found the same bytes: an object never changes.
        let _ = self.previous.set(key_value);
    }

    /// What the event weighs in memory, about.
    pub fn weight(&self) -> usize {
        size_of::<Event>() + self.change.key.as_slice().len() + self.key_value.len()
    }
}

/// What one durable batch changed: the events of one or more transactions, in the order of their revisions.
#[derive(Debug)]
pub struct EventBatch {
    /// The partition's revision before the batch.
    pub after: Revision,
    /// The partition's revision with the batch: nothing at or below it can appear any more.
    pub revision: Revision,
    /// The events; those of one transaction share their revision.
    pub events: Vec<Arc<Event>>,
}
