use bytes::Bytes;
use model::{Key, KeyMeta, Revision};

use crate::schema::key_value_len;

/// What a snapshot will hold: every live key with the revision of its last change, and what the newest revision deleted.
///
/// Memory: the keys, and 32 bytes for each.
#[derive(Debug, Default)]
pub struct Catalogue {
    keys: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    revision: Revision,
    key_at: usize,
    key_len: u32,
    value_len: Option<u32>,
}

/// A version in a catalogue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listed<'c> {
    pub(crate) revision: Revision,
    /// How many changes of the same revision come before it.
    pub(crate) place: u64,
    pub(crate) key: &'c [u8],
    /// The length of its encoded `KeyValue`; `None` where the key was deleted.
    pub(crate) value_len: Option<u32>,
}

impl Catalogue {
    /// Adds a live key.
    pub fn add(&mut self, key: &Key, meta: &KeyMeta) {
        // A request has at most 4 GiB, and so has what a store was ever given.
        let len = u32::try_from(key_value_len(key.as_slice().len(), meta)).unwrap_or(u32::MAX);
        self.push(key, meta.mod_revision, Some(len));
    }

    /// Adds a key that the newest revision deleted.
    pub fn add_deleted(&mut self, key: &Key, revision: Revision) {
        self.push(key, revision, None);
    }

    /// How many versions there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn push(&mut self, key: &Key, revision: Revision, value_len: Option<u32>) {
        let (key_at, key) = (self.keys.len(), key.as_slice());
        self.keys.extend_from_slice(key);
        let key_len = u32::try_from(key.len()).unwrap_or(u32::MAX);
        self.entries.push(Entry { revision, key_at, key_len, value_len });
    }

    /// Puts the versions into the order of their revisions, and those of one revision into that of their keys.
    pub(crate) fn sort(&mut self) {
        let keys = &self.keys;
        let key = |entry: &Entry| keys.get(entry.key_at..entry.key_at + entry.key_len as usize);
        self.entries.sort_unstable_by(|a, b| (a.revision, key(a)).cmp(&(b.revision, key(b))));
    }

    /// The version at `at`, once the catalogue is sorted; `before` is the one before it.
    pub(crate) fn get(&self, at: usize, before: Option<(Revision, u64)>) -> Option<Listed<'_>> {
        let Entry { revision, key_at, key_len, value_len } = *self.entries.get(at)?;
        let place = match before {
            Some((last, place)) if last == revision => place + 1,
            _ => 0,
        };
        Some(Listed { revision, place, key: self.keys.get(key_at..key_at + key_len as usize)?, value_len })
    }
}

impl Listed<'_> {
    pub(crate) fn owned_key(&self) -> Bytes {
        Bytes::copy_from_slice(self.key)
    }
}
