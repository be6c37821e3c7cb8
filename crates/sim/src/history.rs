//! What a store has gone through, written out plainly: every state, every event. Knows nothing of how Orlop works.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use model::{KeyRange, LeaseId};

/// A version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyValue {
    pub(crate) key: Bytes,
    pub(crate) create: i64,
    pub(crate) modified: i64,
    pub(crate) version: i64,
    pub(crate) value: Bytes,
    pub(crate) lease: LeaseId,
}

impl KeyValue {
    /// The version that is encoded as etcd's `KeyValue`.
    pub(crate) fn decode(encoded: &Bytes) -> Result<KeyValue, String> {
        let damaged = |reason: &str| format!("{reason}: {}", encoded.escape_ascii());
        let meta = layout::object::meta_of(encoded).map_err(damaged)?;
        Ok(KeyValue {
            key: layout::object::key_of(encoded).map_err(damaged)?,
            create: meta.create_revision.get(),
            modified: meta.mod_revision.get(),
            version: meta.version,
            value: layout::object::value_of(encoded).map_err(damaged)?,
            lease: meta.lease,
        })
    }
}

/// The live keys at one revision.
pub(crate) type State = BTreeMap<Bytes, KeyValue>;

/// What a transaction did to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Happened {
    pub(crate) key: Bytes,
    pub(crate) revision: i64,
    /// The new version; none where the key was deleted.
    pub(crate) after: Option<KeyValue>,
    /// The version before.
    pub(crate) before: Option<KeyValue>,
}

/// Everything that a store has gone through: the state at `r` is the `r`-th. Where a number came to nothing, the state is
/// that before it.
pub(crate) struct History {
    states: Vec<Arc<State>>,
    events: Vec<Vec<Happened>>,
}

impl Default for History {
    /// An empty store, at revision 1.
    fn default() -> History {
        History { states: vec![Arc::default(); 2], events: vec![Vec::new(); 2] }
    }
}

impl History {
    /// The revision of the newest state.
    pub(crate) fn revision(&self) -> i64 {
        self.states.len() as i64 - 1
    }

    /// The state at a revision that was reached; later, as long as nothing is known above it.
    pub(crate) fn at(&self, revision: i64) -> Option<Arc<State>> {
        self.states.get(usize::try_from(revision).ok()?).cloned()
    }

    pub(crate) fn newest(&self) -> Arc<State> {
        self.states.last().cloned().unwrap_or_default()
    }

    /// What the transaction of a revision did.
    pub(crate) fn of(&self, revision: i64) -> &[Happened] {
        usize::try_from(revision).ok().and_then(|at| self.events.get(at)).map_or(&[], Vec::as_slice)
    }

    /// What happened in `range` in these revisions.
    pub(crate) fn events(&self, range: &KeyRange, from: i64, through: i64) -> Vec<&Happened> {
        let revisions = from.max(2)..=through.min(self.revision());
        revisions.flat_map(|at| self.of(at)).filter(|event| range.contains(&event.key)).collect()
    }

    /// The transaction of a revision, or a part of it. Others above it may be known already, of other keys.
    pub(crate) fn insert(&mut self, revision: i64, events: Vec<Happened>) {
        while self.revision() < revision {
            self.states.push(self.newest());
            self.events.push(Vec::new());
        }
        let from = usize::try_from(revision).unwrap_or_default();
        for state in self.states.iter_mut().skip(from) {
            let mut with = State::clone(state);
            for event in &events {
                match &event.after {
                    Some(version) => drop(with.insert(event.key.clone(), version.clone())),
                    None => drop(with.remove(&event.key)),
                }
            }
            *state = Arc::new(with);
        }
        if let Some(of_revision) = self.events.get_mut(from) {
            of_revision.extend(events);
        }
    }
}
