//! How the entries of a bucket are cut into pages: the same way when a file is laid out and when it is written.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::format::{
    ELEMENT_BYTES, HEADER_BYTES, Header, IS_BUCKET, KEY_LEN_MAX, Kind, PAGE_BYTES, VALUE_LEN_MAX,
};

/// A branch page leads to at least so many pages, however long their keys are: else a tree would not get narrower.
const CHILDREN_MIN: usize = 2;
/// The elements of a page are counted in 16 bits.
const ELEMENTS_MAX: usize = u16::MAX as usize;

/// An entry that a file cannot take.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EntryError {
    /// A bucket needs a name and an entry a key, of at most 32 KiB.
    #[error("a key of {0} bytes cannot be kept in bbolt: it takes 1 to 32768")]
    KeyLen(usize),
    /// bbolt takes at most 2 GiB.
    #[error("a value of {0} bytes cannot be kept in bbolt")]
    ValueLen(usize),
    /// Keys of a bucket, and names of buckets, come in ascending order.
    #[error("the key {0} does not come after the one before it")]
    Order(String),
    /// What is written is not what was laid out.
    #[error("what is written at {0} is not what the file was laid out for")]
    NotPlanned(String),
}

/// A value, or what is known of it while a file is laid out.
pub(crate) trait Value {
    fn len(&self) -> usize;
    fn put(&self, to: &mut BytesMut);
}

/// The length of a value.
impl Value for usize {
    fn len(&self) -> usize {
        *self
    }

    fn put(&self, _: &mut BytesMut) {}
}

impl Value for Bytes {
    fn len(&self) -> usize {
        Bytes::len(self)
    }

    fn put(&self, to: &mut BytesMut) {
        to.extend_from_slice(self);
    }
}

/// Where pages go: away, when a file is laid out.
pub(crate) trait Pages {
    fn page(&mut self, encode: impl FnOnce(&mut BytesMut));
}

/// A page that another one leads to.
struct Child {
    first_key: Bytes,
    page: u64,
}

/// The tree of one bucket while its entries come in.
pub(crate) struct Tree<V> {
    leaf: Vec<(Bytes, V)>,
    leaf_bytes: usize,
    last_key: Bytes,
    children: Vec<Child>,
    /// Whether the values are buckets.
    of_buckets: bool,
}

impl<V: Value> Tree<V> {
    pub(crate) fn new(of_buckets: bool) -> Tree<V> {
        let (leaf, children, last_key) = (Vec::new(), Vec::new(), Bytes::new());
        Tree { leaf, leaf_bytes: HEADER_BYTES, last_key, children, of_buckets }
    }

    /// Adds the next entry; `next_page` is the page that the next full one becomes.
    pub(crate) fn add(
        &mut self,
        key: Bytes,
        value: V,
        (next_page, pages): (&mut u64, &mut impl Pages),
    ) -> Result<(), EntryError> {
        if key.is_empty() || key.len() > KEY_LEN_MAX {
            return Err(EntryError::KeyLen(key.len()));
        }
        if value.len() > VALUE_LEN_MAX {
            return Err(EntryError::ValueLen(value.len()));
        }
        if key <= self.last_key {
            return Err(EntryError::Order(key.escape_ascii().to_string()));
        }
        let bytes = ELEMENT_BYTES + key.len() + value.len();
        if !self.leaf.is_empty() && self.leaf_bytes + bytes > PAGE_BYTES {
            self.finish_leaf(next_page, pages);
        }
        self.leaf_bytes += bytes;
        self.last_key = key.clone();
        self.leaf.push((key, value));
        Ok(())
    }

    fn finish_leaf(&mut self, next_page: &mut u64, pages: &mut impl Pages) {
        let leaf = std::mem::take(&mut self.leaf);
        let bytes = std::mem::replace(&mut self.leaf_bytes, HEADER_BYTES);
        let first_key = leaf.first().map_or_else(Bytes::new, |(key, _)| key.clone());
        let (page, of_buckets) = (take_pages(next_page, bytes), self.of_buckets);
        pages.page(|to| put_leaf(to, (page, bytes), &leaf, of_buckets));
        self.children.push(Child { first_key, page });
    }

    /// Ends the bucket and answers its root page.
    pub(crate) fn finish(mut self, next_page: &mut u64, pages: &mut impl Pages) -> u64 {
        if !self.leaf.is_empty() || self.children.is_empty() {
            self.finish_leaf(next_page, pages);
        }
        while self.children.len() > 1 {
            self.children = level_above(self.children, next_page, pages);
        }
        self.children.first().map_or(0, |root| root.page)
    }
}

/// The branch pages that lead to `children`.
fn level_above(children: Vec<Child>, next_page: &mut u64, pages: &mut impl Pages) -> Vec<Child> {
    let (mut above, mut branch, mut bytes) = (Vec::new(), Vec::new(), HEADER_BYTES);
    let mut finish = |branch: Vec<Child>, bytes| {
        let page = take_pages(next_page, bytes);
        pages.page(|to| put_branch(to, (page, bytes), &branch));
        branch.into_iter().next().map(|first| Child { page, ..first })
    };
    for child in children {
        let more = ELEMENT_BYTES + child.first_key.len();
        let is_full = bytes + more > PAGE_BYTES && branch.len() >= CHILDREN_MIN;
        if is_full || branch.len() == ELEMENTS_MAX {
            above.extend(finish(std::mem::take(&mut branch), bytes));
            bytes = HEADER_BYTES;
        }
        bytes += more;
        branch.push(child);
    }
    above.extend(finish(branch, bytes));
    above
}

/// The id of the next page, which has so many bytes, and the pages that it overflows into.
fn take_pages(next_page: &mut u64, bytes: usize) -> u64 {
    let page = *next_page;
    *next_page += bytes.div_ceil(PAGE_BYTES) as u64;
    page
}

fn header(kind: Kind, (id, bytes): (u64, usize), count: usize) -> Header {
    let overflow = u32::try_from(bytes.div_ceil(PAGE_BYTES) - 1).unwrap_or(u32::MAX);
    Header { id, flags: kind as u16, count: u16::try_from(count).unwrap_or(u16::MAX), overflow }
}

fn put_leaf<V: Value>(to: &mut BytesMut, page: (u64, usize), leaf: &[(Bytes, V)], of_buckets: bool) {
    let start = to.len();
    header(Kind::Leaf, page, leaf.len()).put(to);
    // An element says how far behind itself its key begins.
    let mut offset = leaf.len() * ELEMENT_BYTES;
    for (key, value) in leaf {
        to.put_u32_le(if of_buckets { IS_BUCKET } else { 0 });
        to.put_u32_le(u32_of(offset));
        to.put_u32_le(u32_of(key.len()));
        to.put_u32_le(u32_of(value.len()));
        offset = offset + key.len() + value.len() - ELEMENT_BYTES;
    }
    for (key, value) in leaf {
        to.extend_from_slice(key);
        value.put(to);
    }
    pad(to, start);
}

fn put_branch(to: &mut BytesMut, page: (u64, usize), branch: &[Child]) {
    let start = to.len();
    header(Kind::Branch, page, branch.len()).put(to);
    let mut offset = branch.len() * ELEMENT_BYTES;
    for Child { first_key, page } in branch {
        to.put_u32_le(u32_of(offset));
        to.put_u32_le(u32_of(first_key.len()));
        to.put_u64_le(*page);
        offset = offset + first_key.len() - ELEMENT_BYTES;
    }
    for Child { first_key, .. } in branch {
        to.extend_from_slice(first_key);
    }
    pad(to, start);
}

/// Fills up with zeros what is left of the page that began at `start`.
pub(crate) fn pad(to: &mut BytesMut, start: usize) {
    let bytes = (to.len() - start).next_multiple_of(PAGE_BYTES);
    to.resize(start + bytes, 0);
}

/// Lengths were checked, so they fit.
fn u32_of(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
