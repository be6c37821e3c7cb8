use bytes::{BufMut, Bytes, BytesMut};

use crate::format::{BUCKET_BYTES, Header, Kind, Meta, PAGE_BYTES};
use crate::plan::{FIRST_PAGE, Layout};
use crate::tree::{EntryError, Pages, Tree, pad};

/// Writes a file that was laid out. Memory: what has not been taken yet, one page, and what the [`crate::Planner`] took.
pub struct Writer {
    layout: Layout,
    next_page: u64,
    buckets: Tree<Bytes>,
    open: Option<(Bytes, Tree<Bytes>)>,
    out: Out,
}

#[derive(Default)]
struct Out(BytesMut);

impl Pages for Out {
    fn page(&mut self, encode: impl FnOnce(&mut BytesMut)) {
        encode(&mut self.0);
    }
}

impl Writer {
    /// A writer of the file that `layout` is of.
    pub fn new(layout: Layout) -> Writer {
        let mut out = BytesMut::new();
        for id in [0, 1] {
            let start = out.len();
            Header { id, flags: Kind::Meta as u16, count: 0, overflow: 0 }.put(&mut out);
            // Both say the same: bbolt goes by the one with the higher transaction, which lies on the page of its parity.
            let meta = Meta {
                page_bytes: PAGE_BYTES as u32,
                root: layout.root,
                sequence: 0,
                freelist: FIRST_PAGE - 1,
                page_count: layout.page_count,
                transaction: 2 + id,
            };
            meta.put(&mut out);
            pad(&mut out, start);
        }
        let start = out.len();
        Header { id: FIRST_PAGE - 1, flags: Kind::Freelist as u16, count: 0, overflow: 0 }.put(&mut out);
        pad(&mut out, start);
        Writer { layout, next_page: FIRST_PAGE, buckets: Tree::new(true), open: None, out: Out(out) }
    }

    /// Begins the next bucket, as the planner was told.
    pub fn bucket(&mut self, name: &[u8]) -> Result<(), EntryError> {
        self.finish_bucket()?;
        self.open = Some((Bytes::copy_from_slice(name), Tree::new(false)));
        Ok(())
    }

    /// Adds the next entry, as the planner was told.
    pub fn entry(&mut self, key: &[u8], value: Bytes) -> Result<(), EntryError> {
        let Some((_, tree)) = &mut self.open else {
            return Err(EntryError::NotPlanned(key.escape_ascii().to_string()));
        };
        tree.add(Bytes::copy_from_slice(key), value, (&mut self.next_page, &mut self.out))
    }

    /// How many bytes can be taken.
    pub fn ready_len(&self) -> usize {
        self.out.0.len()
    }

    /// The next `len` bytes of the file, or what is ready of them.
    pub fn take(&mut self, len: usize) -> Bytes {
        let len = len.min(self.out.0.len());
        self.out.0.split_to(len).freeze()
    }

    /// Ends the file; what is left of it can be taken. An error when it is not as it was laid out: what was taken before
    /// is then of no use.
    pub fn finish(&mut self) -> Result<(), EntryError> {
        self.finish_bucket()?;
        let buckets = std::mem::replace(&mut self.buckets, Tree::new(true));
        let root = buckets.finish(&mut self.next_page, &mut self.out);
        if (Layout { root, page_count: self.next_page }) != self.layout {
            return Err(EntryError::NotPlanned("the end".to_owned()));
        }
        Ok(())
    }

    fn finish_bucket(&mut self) -> Result<(), EntryError> {
        let Some((name, tree)) = self.open.take() else { return Ok(()) };
        let root = tree.finish(&mut self.next_page, &mut self.out);
        let mut value = BytesMut::with_capacity(BUCKET_BYTES);
        value.put_u64_le(root);
        value.put_u64_le(0);
        self.buckets.add(name, value.freeze(), (&mut self.next_page, &mut self.out))
    }
}
