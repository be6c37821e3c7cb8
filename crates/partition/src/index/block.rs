use std::cmp::Ordering;

use model::{Change, KeyRange, Revision};

use super::entry::{Entry, Replaced};

/// A block splits in halves when it grows beyond this. An insertion moves half a block on average (16 KiB of
/// entries), a count over n keys visits n/256 blocks or so: both stay within microseconds for millions of keys.
const ENTRIES_MAX: usize = 512;
/// How full blocks are when an index is loaded: with room, so that the first writes do not split all of them.
pub(super) const ENTRIES_LOADED: usize = 448;
/// A block with no more entries than this looks for a neighbour to join.
pub(super) const ENTRIES_SMALL: usize = 64;
/// What two joined blocks may have together, well below the size at which they would split again.
pub(super) const ENTRIES_MERGED_MAX: usize = 320;

/// A run of neighbouring keys.
#[derive(Debug, Default)]
pub(super) struct Block {
    entries: Vec<Entry>,
    /// How many of them exist in the newest state.
    live: usize,
    /// At or above the revision of every version in the block.
    newest: Revision,
}

/// How a block lies to a range of keys.
pub(super) enum Position {
    /// All of its keys are in the range.
    Inside,
    /// Some may be.
    Across,
    /// It begins behind the range, and so do all blocks after it.
    Behind,
}

impl Block {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn live(&self) -> usize {
        self.live
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn first_key(&self) -> &[u8] {
        self.entries.first().map_or(&[], |entry| &entry.key)
    }

    pub(super) fn entries_from(&self, key: &[u8]) -> &[Entry] {
        let at = self.entries.partition_point(|entry| entry.key.as_ref() < key);
        self.entries.get(at..).unwrap_or_default()
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.find(key).ok().and_then(|at| self.entries.get(at))
    }

    pub(super) fn position_in(&self, range: &KeyRange) -> Position {
        let (Some(first), Some(last)) = (self.entries.first(), self.entries.last()) else {
            return Position::Across;
        };
        if range.compare_to_end(&first.key) != Ordering::Less {
            Position::Behind
        } else if range.contains(&first.key) && range.contains(&last.key) {
            Position::Inside
        } else {
            Position::Across
        }
    }

    /// How many keys of the block exist as of `revision`.
    pub(super) fn count(&self, revision: Revision) -> usize {
        if self.newest <= revision {
            return self.live;
        }
        self.entries.iter().filter(|entry| entry.at(revision).is_some()).count()
    }

    /// Adds an entry behind all others.
    pub(super) fn push(&mut self, entry: Entry) {
        if self.entries.capacity() == 0 {
            self.entries.reserve_exact(ENTRIES_LOADED);
        }
        self.newest = self.newest.max(entry.newest_revision());
        self.live += usize::from(entry.newest().is_some());
        self.entries.push(entry);
    }

    /// Puts a change on top of its key. Returns what it replaced.
    pub(super) fn apply(&mut self, change: &Change) -> Replaced {
        self.newest = self.newest.max(change.revision);
        let (replaced, is_live) = match self.find(change.key.as_slice()) {
            Ok(at) => {
                let Some(entry) = self.entries.get_mut(at) else { return Replaced::default() };
                (entry.apply(change), entry.newest().is_some())
            }
            Err(at) => {
                let entry = Entry::created_by(change);
                let is_live = entry.newest().is_some();
                self.entries.insert(at, entry);
                (Replaced::default(), is_live)
            }
        };
        self.live = self.live + usize::from(is_live) - usize::from(replaced.version.is_some());
        replaced
    }

    pub(super) fn revert(&mut self, key: &[u8], revision: Revision) {
        self.change_entry(key, |entry| entry.revert(revision));
    }

    pub(super) fn forget(&mut self, key: &[u8], revision: Revision) {
        self.change_entry(key, |entry| entry.forget(revision));
    }

    fn change_entry(&mut self, key: &[u8], change: impl FnOnce(&mut Entry) -> bool) {
        let Ok(at) = self.find(key) else { return };
        let Some(entry) = self.entries.get_mut(at) else { return };
        let was_live = entry.newest().is_some();
        let stays = change(entry);
        let is_live = stays && entry.newest().is_some();
        if !stays {
            self.entries.remove(at);
        }
        self.live = self.live + usize::from(is_live) - usize::from(was_live);
    }

    /// Splits off the upper half when the block has become large.
    pub(super) fn split_if_large(&mut self) -> Option<Block> {
        if self.entries.len() <= ENTRIES_MAX {
            return None;
        }
        let entries = self.entries.split_off(self.entries.len() / 2);
        let live = entries.iter().filter(|entry| entry.newest().is_some()).count();
        self.live -= live;
        Some(Block { entries, live, newest: self.newest })
    }

    /// Takes over the entries of the block behind this one.
    pub(super) fn append(&mut self, mut behind: Block) {
        self.entries.append(&mut behind.entries);
        self.live += behind.live;
        self.newest = self.newest.max(behind.newest);
    }

    fn find(&self, key: &[u8]) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.key.as_ref().cmp(key))
    }
}
