use crate::{Key, LeaseId, Revision};

/// What the store knows of a key's version without its value: the facts that compares, counts and key lists need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyMeta {
    /// The revision that created the key (its first put since it last did not exist).
    pub create_revision: Revision,
    /// The revision of this version.
    pub mod_revision: Revision,
    /// How many puts the key has seen since it was created; 1 after the creation.
    pub version: i64,
    /// The lease that the key hangs on, or [`LeaseId::NONE`].
    pub lease: LeaseId,
    /// The length of the value in bytes.
    pub value_len: u32,
}

/// What a change did to its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The key was created or overwritten; the facts of its new version.
    Put(KeyMeta),
    /// The key was deleted.
    Delete,
}

/// One key's change by one transaction: the unit of the log, of history and of watch events.
///
/// A transaction changes a key at most once, so `(key, revision)` names a change, and an object, for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The revision of the transaction.
    pub revision: Revision,
    /// The key that it changed.
    pub key: Key,
    /// What it did.
    pub kind: ChangeKind,
    /// The revision of the version that it replaced; [`Revision::NONE`] where the key did not exist.
    pub previous: Revision,
}

impl Change {
    /// Whether the change created its key.
    pub fn is_create(&self) -> bool {
        matches!(self.kind, ChangeKind::Put(meta) if meta.create_revision == meta.mod_revision)
    }
}
