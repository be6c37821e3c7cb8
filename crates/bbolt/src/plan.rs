use bytes::{Bytes, BytesMut};

use crate::format::{BUCKET_BYTES, PAGE_BYTES};
use crate::tree::{EntryError, Pages, Tree};

/// Two meta pages and the list of free pages come before everything else.
pub(crate) const FIRST_PAGE: u64 = 3;

/// Lays a file out. Memory: a key and 40 bytes for every page of entries.
pub struct Planner {
    next_page: u64,
    buckets: Tree<usize>,
    /// The bucket whose entries come in.
    open: Option<(Bytes, Tree<usize>)>,
}

/// Where everything in a file goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub(crate) root: u64,
    pub(crate) page_count: u64,
}

impl Layout {
    /// The length of the file in bytes: a multiple of [`PAGE_BYTES`].
    pub fn file_len(&self) -> u64 {
        self.page_count * PAGE_BYTES as u64
    }
}

/// Pages that nobody needs.
struct Away;

impl Pages for Away {
    fn page(&mut self, _: impl FnOnce(&mut BytesMut)) {}
}

impl Default for Planner {
    fn default() -> Planner {
        Planner { next_page: FIRST_PAGE, buckets: Tree::new(true), open: None }
    }
}

impl Planner {
    /// A planner of a file without buckets.
    pub fn new() -> Planner {
        Planner::default()
    }

    /// Begins the next bucket, whose name comes after those before it.
    pub fn bucket(&mut self, name: &[u8]) -> Result<(), EntryError> {
        self.finish_bucket()?;
        self.open = Some((Bytes::copy_from_slice(name), Tree::new(false)));
        Ok(())
    }

    /// Adds an entry to the bucket that was begun last, whose key comes after those before it.
    pub fn entry(&mut self, key: &[u8], value_len: usize) -> Result<(), EntryError> {
        let Some((_, tree)) = &mut self.open else {
            return Err(EntryError::NotPlanned(key.escape_ascii().to_string()));
        };
        tree.add(Bytes::copy_from_slice(key), value_len, (&mut self.next_page, &mut Away))
    }

    /// Ends the file.
    pub fn finish(mut self) -> Result<Layout, EntryError> {
        self.finish_bucket()?;
        let root = self.buckets.finish(&mut self.next_page, &mut Away);
        Ok(Layout { root, page_count: self.next_page })
    }

    fn finish_bucket(&mut self) -> Result<(), EntryError> {
        let Some((name, tree)) = self.open.take() else { return Ok(()) };
        tree.finish(&mut self.next_page, &mut Away);
        self.buckets.add(name, BUCKET_BYTES, (&mut self.next_page, &mut Away))
    }
}
