use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use crate::index::Entry;

/// What changed records were before, for as long as an open snapshot needs it.
///
/// It holds nothing when no snapshot is open, and at most one version per key and open snapshot.
#[derive(Default)]
pub(crate) struct Undo {
    /// Per key, in order: the batch that changed it, and what the record was before.
    versions: BTreeMap<Bytes, VecDeque<(u64, Option<Entry>)>>,
    /// All of them in the order of the batches.
    order: VecDeque<(u64, Bytes)>,
}

impl Undo {
    /// Keeps what the record of `key` was before the batch `seq`. When the newest open snapshot is known and
    /// the key was changed since, no snapshot would ever ask for this version.
    pub(crate) fn push(&mut self, seq: u64, key: &Bytes, old: Option<Entry>, newest: Option<u64>) {
        let versions = self.versions.entry(key.clone()).or_default();
        if let (Some((last, _)), Some(newest)) = (versions.back(), newest)
            && *last > newest
        {
            return;
        }
        versions.push_back((seq, old));
        self.order.push_back((seq, key.clone()));
    }

    /// What the record of `key` was in the snapshot `at`, if it was changed since.
    pub(crate) fn before(&self, key: &[u8], at: u64) -> Option<&Option<Entry>> {
        if self.versions.is_empty() {
            return None;
        }
        version(self.versions.get(key)?, at)
    }

    /// Forgets up to `steps` versions that were replaced up to the batch `horizon`. Whether some are left.
    pub(crate) fn forget(&mut self, horizon: u64, steps: usize) -> bool {
        for _ in 0..steps {
            match self.order.front() {
                Some((seq, _)) if *seq <= horizon => {}
                _ => return false,
            }
            let Some((_, key)) = self.order.pop_front() else { return false };
            if let Some(versions) = self.versions.get_mut(&key) {
                versions.pop_front();
                if versions.is_empty() {
                    self.versions.remove(&key);
                }
            }
        }
        self.order.front().is_some_and(|(seq, _)| *seq <= horizon)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// The keys of the span that changed since `at`, and what they were then; lowest first.
    pub(crate) fn range<'a>(
        &'a self,
        start: Bound<&'a [u8]>,
        end: Bound<&'a [u8]>,
        at: u64,
    ) -> impl DoubleEndedIterator<Item = (&'a Bytes, &'a Option<Entry>)> {
        self.versions
            .range::<[u8], _>((start, end))
            .filter_map(move |(key, versions)| Some((key, version(versions, at)?)))
    }
}

fn version(versions: &VecDeque<(u64, Option<Entry>)>, at: u64) -> Option<&Option<Entry>> {
    versions.iter().find(|(seq, _)| *seq > at).map(|(_, old)| old)
}
