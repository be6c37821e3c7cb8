use std::collections::HashMap;
use std::sync::Arc;

use model::KeyRange;
use tonic::{Extensions, Status};
use watch::WatchId;

use crate::backend::Backend;
use crate::permissions::Access;

/// What the client of a stream may watch: asked when a watcher begins, and again when the rules have changed.
pub(super) struct Permits {
    backend: Arc<Backend>,
    /// Who the client is.
    extensions: Extensions,
    /// What it could do when that was asked last.
    access: Access,
    /// What its watchers watch; nothing without permissions.
    watched: HashMap<WatchId, KeyRange>,
}

impl Permits {
    pub(super) fn new(backend: Arc<Backend>, extensions: Extensions) -> Permits {
        let access = backend.access(&extensions);
        Permits { backend, extensions, access, watched: HashMap::new() }
    }

    /// Whether a range may be watched now.
    pub(super) fn ask(&self, range: &KeyRange) -> Result<(), Status> {
        self.backend.access(&self.extensions).read(range)
    }

    /// Remembers what a watcher watches.
    pub(super) fn begin(&mut self, id: WatchId, range: KeyRange) {
        if self.backend.permissions.is_some() {
            self.watched.insert(id, range);
        }
    }

    /// Forgets a watcher.
    pub(super) fn end(&mut self, id: WatchId) {
        self.watched.remove(&id);
    }

    /// The watchers that may no longer watch what they do, in no order: none while the rules stay as they are.
    pub(super) fn withdrawn(&mut self) -> Vec<WatchId> {
        if self.watched.is_empty() {
            return Vec::new();
        }
        let access = self.backend.access(&self.extensions);
        if access.is_the_same_as(&self.access) {
            return Vec::new();
        }
        self.access = access;
        let denied = self.watched.iter().filter(|(_, range)| self.access.read(range).is_err());
        denied.map(|(id, _)| *id).collect()
    }
}
