//! A sum over what happened, in whatever order it is added.

use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::quality::FixedState;
use model::{ChangeKind, Key, Revision};

/// Equal for the same changes in any order, and, but for one chance in 2^64, for no others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    count: u64,
    total: u64,
}

impl Sum {
    /// Adds that `key` was changed at `revision`, and which revision that replaced.
    pub(crate) fn add(&mut self, key: &Key, revision: Revision, kind: &ChangeKind, previous: Revision) {
        let mut hasher = FixedState::with_seed(0).build_hasher();
        (key.as_slice(), revision.get(), previous.get()).hash(&mut hasher);
        if let ChangeKind::Put(meta) = kind {
            let numbers = [meta.create_revision.get(), meta.mod_revision.get(), meta.version, meta.lease.0];
            (numbers, meta.value_len).hash(&mut hasher);
        }
        self.count += 1;
        self.total = self.total.wrapping_add(hasher.finish());
    }
}
