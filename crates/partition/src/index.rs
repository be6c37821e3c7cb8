//! What a partition knows of its keys without reading a value: the newest version of each, and beside it the
//! recent ones that it replaced, so that a read at a recent revision needs no engine either.
//!
//! Worked example. Revisions 2, 5 and 7 put, deleted and put key `a` again. The entry of `a` then has the version
//! of 7 as its newest and the tombstone of 5 and the version of 2 as its older ones. A read at 6 finds the newest
//! that is not above 6, the tombstone: no key. When history forgets the batch of 5, the version of 2 and the
//! tombstone go (nobody can ask for a revision below 5 any more); the version of 7 stays. Had 7 not happened, the
//! entry would go with the tombstone.
//!
//! The owner's sequencer applies a batch before it is durable and takes it back if it fails. Readers never notice:
//! they read at a published revision, and a pending version lies above every published one.

mod block;
mod entry;

use std::cmp::Ordering;
use std::ops::ControlFlow;

use model::{Change, Key, KeyMeta, KeyRange, Revision};

use block::Block;
use entry::Entry;
pub(crate) use entry::Replaced;

/// Keys of one partition in order, each with its newest version and its recent older ones.
///
/// A sorted list of sorted blocks: a look-up is two binary searches, a count adds up whole blocks, and an
/// insertion moves at most one block's entries.
#[derive(Debug, Default)]
pub(crate) struct Index {
    blocks: Vec<Block>,
    live: usize,
}

impl Index {
    /// Builds an index from live keys in ascending order.
    pub(crate) fn loader() -> Loader {
        Loader { index: Index::default(), block: Block::default() }
    }

    /// The number of keys that exist in the newest state.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// The newest version of `key`, pending ones included, unless the key is deleted.
    pub(crate) fn newest(&self, key: &[u8]) -> Option<KeyMeta> {
        self.entry(key).and_then(Entry::newest)
    }

    /// The revision of the newest version or deletion of `key` that is known, pending ones included.
    pub(crate) fn newest_revision(&self, key: &[u8]) -> Revision {
        self.entry(key).map_or(Revision::NONE, Entry::newest_revision)
    }

    /// The version of `key` as of `revision`.
    #[cfg(test)]
    pub(crate) fn at(&self, key: &[u8], revision: Revision) -> Option<KeyMeta> {
        self.entry(key).and_then(|entry| entry.at(revision))
    }

    /// How many keys of `range` exist as of `revision`.
    pub(crate) fn count(&self, range: &KeyRange, revision: Revision) -> usize {
        if range.is_single() {
            return self.entry(range.start()).and_then(|entry| entry.at(revision)).map_or(0, |_| 1);
        }
        let mut count = 0;
        for block in self.blocks_from(range.start()) {
            match block.position_in(range) {
                block::Position::Behind => break,
                block::Position::Inside => count += block.count(revision),
                block::Position::Across => {
                    let inside = block.entries().iter().filter(|entry| range.contains(&entry.key));
                    count += inside.filter(|entry| entry.at(revision).is_some()).count();
                }
            }
        }
        count
    }

    /// Shows the keys of `range` that exist as of `revision` to `visit`, in order, until it breaks.
    pub(crate) fn visit(
        &self,
        range: &KeyRange,
        revision: Revision,
        mut visit: impl FnMut(&[u8], KeyMeta) -> ControlFlow<()>,
    ) {
        for block in self.blocks_from(range.start()) {
            for entry in block.entries_from(range.start()) {
                if range.compare_to_end(&entry.key) != Ordering::Less {
                    return;
                }
                if let Some(meta) = entry.at(revision)
                    && visit(&entry.key, meta).is_break()
                {
                    return;
                }
            }
        }
    }

    /// Applies a change, whose revision must be above all others of its key. Returns what it replaced.
    pub(crate) fn apply(&mut self, change: &Change) -> Replaced {
        if self.blocks.is_empty() {
            self.blocks.push(Block::default());
        }
        let at = self.block_of(change.key.as_slice());
        let Some(block) = self.blocks.get_mut(at) else { return Replaced::default() };
        let live_before = block.live();
        let replaced = block.apply(change);
        self.live = self.live + block.live() - live_before;
        if let Some(upper) = block.split_if_large() {
            self.blocks.insert(at + 1, upper);
        }
        replaced
    }

    /// Takes back a change that did not become durable; it must be the newest of its key.
    pub(crate) fn revert(&mut self, change: &Change) {
        self.edit(change.key.as_slice(), |block, key| block.revert(key, change.revision));
    }

    /// Drops what nobody can ask for once every revision before `change` is out of reach: the versions that it
    /// replaced, and its tombstone.
    pub(crate) fn forget(&mut self, change: &Change) {
        self.edit(change.key.as_slice(), |block, key| block.forget(key, change.revision));
    }

    fn edit(&mut self, key: &[u8], edit: impl FnOnce(&mut Block, &[u8])) {
        let at = self.block_of(key);
        let Some(block) = self.blocks.get_mut(at) else { return };
        let live_before = block.live();
        edit(block, key);
        self.live = self.live + block.live() - live_before;
        self.merge_if_small(at);
    }

    /// Puts a block that has become small into its neighbour, so that deletions leave no trail of tiny blocks.
    fn merge_if_small(&mut self, at: usize) {
        let Some(block) = self.blocks.get(at) else { return };
        if block.len() == 0 {
            self.blocks.remove(at);
            return;
        }
        let fits = |other: Option<&Block>| {
            other.is_some_and(|other| other.len() + block.len() <= block::ENTRIES_MERGED_MAX)
        };
        if block.len() > block::ENTRIES_SMALL {
            return;
        }
        let lower = if fits(self.blocks.get(at + 1)) {
            at
        } else if at > 0 && fits(self.blocks.get(at - 1)) {
            at - 1
        } else {
            return;
        };
        let upper = self.blocks.remove(lower + 1);
        if let Some(block) = self.blocks.get_mut(lower) {
            block.append(upper);
        }
    }

    fn entry(&self, key: &[u8]) -> Option<&Entry> {
        self.blocks.get(self.block_of(key)).and_then(|block| block.get(key))
    }

    /// Where the block that holds `key`, or would, is.
    fn block_of(&self, key: &[u8]) -> usize {
        self.blocks.partition_point(|block| block.first_key() <= key).saturating_sub(1)
    }

    fn blocks_from(&self, key: &[u8]) -> impl Iterator<Item = &Block> {
        self.blocks.get(self.block_of(key)..).unwrap_or_default().iter()
    }
}

/// An index that is being built.
pub(crate) struct Loader {
    index: Index,
    block: Block,
}

impl Loader {
    /// Adds a key that lies behind all that were added before.
    pub(crate) fn add(&mut self, key: &Key, meta: KeyMeta) {
        self.block.push(Entry::new(key.as_slice(), meta));
        self.index.live += 1;
        if self.block.len() == block::ENTRIES_LOADED {
            self.index.blocks.push(std::mem::take(&mut self.block));
        }
    }

    pub(crate) fn finish(mut self) -> Index {
        if self.block.len() > 0 {
            self.index.blocks.push(self.block);
        }
        self.index
    }
}

#[cfg(test)]
mod tests;
