use model::{Change, ChangeKind, KeyMeta, LeaseId, Revision};

/// A key with its newest version and, where history still needs them, the ones that it replaced.
///
/// A deletion is a version too, with version number 0.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: Box<[u8]>,
    newest: KeyMeta,
    /// Older versions, oldest first. Boxed: almost every key has none, and pays eight bytes.
    #[expect(clippy::box_collection, reason = "the box is what keeps an entry without history small")]
    older: Option<Box<Vec<KeyMeta>>>,
}

/// What a change replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Replaced {
    /// The version, unless that was a deletion.
    pub(crate) version: Option<KeyMeta>,
    /// The revision of the version or the deletion.
    pub(crate) revision: Revision,
}

/// What a deletion at `revision` leaves.
fn tombstone(revision: Revision) -> KeyMeta {
    KeyMeta {
        create_revision: Revision::NONE,
        mod_revision: revision,
        version: 0,
        lease: LeaseId::NONE,
        value_len: 0,
    }
}

fn live(meta: KeyMeta) -> Option<KeyMeta> {
    (meta.version != 0).then_some(meta)
}

impl Entry {
    pub(crate) fn new(key: &[u8], newest: KeyMeta) -> Entry {
        Entry { key: key.into(), newest, older: None }
    }

    pub(crate) fn created_by(change: &Change) -> Entry {
        Entry::new(change.key.as_slice(), version_of(change))
    }

    /// The newest version, unless it is a deletion.
    pub(crate) fn newest(&self) -> Option<KeyMeta> {
        live(self.newest)
    }

    pub(crate) fn newest_revision(&self) -> Revision {
        self.newest.mod_revision
    }

    /// The version as of `revision`, unless it is a deletion or there was none.
    pub(crate) fn at(&self, revision: Revision) -> Option<KeyMeta> {
        if self.newest.mod_revision <= revision {
            return live(self.newest);
        }
        let older = self.older.as_deref()?;
        older.iter().rev().find(|meta| meta.mod_revision <= revision).copied().and_then(live)
    }

    /// Puts the change on top. Returns what it replaced.
    pub(crate) fn apply(&mut self, change: &Change) -> Replaced {
        assert!(
            change.revision > self.newest.mod_revision,
            "changes of a key come in the order of revisions"
        );
        let replaced = std::mem::replace(&mut self.newest, version_of(change));
        self.older.get_or_insert_default().push(replaced);
        Replaced { version: live(replaced), revision: replaced.mod_revision }
    }

    /// Takes the newest version back. `false` when nothing is left of the entry.
    pub(crate) fn revert(&mut self, revision: Revision) -> bool {
        assert!(self.newest.mod_revision == revision, "only the newest version can be taken back");
        match self.older.as_mut().and_then(|older| older.pop()) {
            Some(before) => {
                self.newest = before;
                self.drop_empty_list();
                true
            }
            None => false,
        }
    }

    /// Drops the versions below `revision`, and its own if that is a deletion. `false` when nothing is left.
    pub(crate) fn forget(&mut self, revision: Revision) -> bool {
        if let Some(older) = self.older.as_mut() {
            older.retain(|meta| {
                meta.mod_revision > revision || (meta.mod_revision == revision && meta.version != 0)
            });
            self.drop_empty_list();
        }
        let gone = self.newest.mod_revision <= revision && self.newest.version == 0;
        !gone || self.older.is_some()
    }

    fn drop_empty_list(&mut self) {
        if self.older.as_ref().is_some_and(|older| older.is_empty()) {
            self.older = None;
        }
    }
}

fn version_of(change: &Change) -> KeyMeta {
    match change.kind {
        ChangeKind::Put(meta) => meta,
        ChangeKind::Delete => tombstone(change.revision),
    }
}
