use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use crate::format::{
    BUCKET_BYTES, ELEMENT_BYTES, HEADER_BYTES, Header, IS_BUCKET, Kind, META_BYTES, Meta, PAGE_BYTES_MAX,
    PAGE_BYTES_MIN,
};

/// A page and those that it overflows into hold at most this much: many times what an etcd takes as one request, and no
/// more than a machine can spare for a file that is damaged.
const NODE_BYTES_MAX: u64 = 512 << 20;
/// A tree is at most so deep. A page leads to two others at least, and no file has more than 2^40 pages.
const DEPTH_MAX: usize = 40;

/// Why a file cannot be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The operating system says so.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Neither of the first two pages begins a bbolt file.
    #[error("it is no bbolt file: neither of its first two pages says so")]
    NotBbolt,
    /// It is shorter than it says.
    #[error("it is cut off: it has {has} bytes, and should have {needs}")]
    Truncated {
        /// The length that its pages take.
        needs: u64,
        /// The length that it has.
        has: u64,
    },
    /// A page is not what was written.
    #[error("page {page} is damaged: {reason}")]
    Damaged {
        /// Its number.
        page: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
}

fn damaged(page: u64, reason: &'static str) -> ReadError {
    ReadError::Damaged { page, reason }
}

/// Reads a file.
#[derive(Debug)]
pub struct Reader {
    file: File,
    meta: Meta,
}

/// A page with those that it overflows into.
#[derive(Clone, Debug)]
struct Node {
    id: u64,
    kind: Kind,
    count: usize,
    bytes: Bytes,
}

enum Value {
    Entry(Bytes),
    Bucket(Bytes),
}

impl Reader {
    /// Looks at the first `len` bytes of `file`, which hold a bbolt file.
    pub fn open(file: File, len: u64) -> Result<Reader, ReadError> {
        let newest = metas(&file, len)?.into_iter().flatten().max_by_key(|meta| meta.transaction);
        let meta = newest.ok_or(ReadError::NotBbolt)?;
        let needs = meta.page_count.checked_mul(meta.page_bytes.into());
        match needs {
            Some(needs) if needs <= len => Ok(Reader { file, meta }),
            needs => Err(ReadError::Truncated { needs: needs.unwrap_or(u64::MAX), has: len }),
        }
    }

    /// The entries of the bucket with this name, in the order of their keys; `None` when there is no such bucket.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Entries<'_>>, ReadError> {
        let mut buckets = Walk::new(self, self.node(self.meta.root)?);
        while let Some((key, value)) = buckets.next()? {
            if key != name {
                continue;
            }
            let Value::Bucket(bucket) = value else { return Ok(None) };
            return Ok(Some(Entries(Walk::new(self, self.root_of(bucket)?))));
        }
        Ok(None)
    }

    /// The root of a bucket: a page of its own, or, of a small one, right behind what the entry says of it.
    fn root_of(&self, bucket: Bytes) -> Result<Node, ReadError> {
        let reason = "a bucket on it is too short";
        let page = bucket.clone().try_get_u64_le().map_err(|_| damaged(self.meta.root, reason))?;
        if page != 0 {
            return self.node(page);
        }
        let inline = (bucket.len() >= BUCKET_BYTES + HEADER_BYTES).then(|| bucket.slice(BUCKET_BYTES..));
        let inline = inline.ok_or_else(|| damaged(self.meta.root, reason))?;
        let header = Header::take(&inline).ok_or_else(|| damaged(self.meta.root, reason))?;
        node_of(self.meta.root, header, inline)
    }

    fn node(&self, id: u64) -> Result<Node, ReadError> {
        let page_bytes = u64::from(self.meta.page_bytes);
        if id < 2 || id >= self.meta.page_count {
            return Err(damaged(id, "it is led to, and is none of the file's"));
        }
        let mut header = [0; HEADER_BYTES];
        self.file.read_exact_at(&mut header, id * page_bytes)?;
        let header = Header::take(&header).ok_or_else(|| damaged(id, "it has no header"))?;
        if header.id != id {
            return Err(damaged(id, "it says that it is another one"));
        }
        let pages = u64::from(header.overflow) + 1;
        let bytes = pages * page_bytes;
        if id + pages > self.meta.page_count || bytes > NODE_BYTES_MAX {
            return Err(damaged(id, "it says that it is longer than it can be"));
        }
        let mut node = BytesMut::zeroed(usize::try_from(bytes).unwrap_or_default());
        self.file.read_exact_at(&mut node, id * page_bytes)?;
        node_of(id, header, node.freeze())
    }
}

fn node_of(id: u64, header: Header, bytes: Bytes) -> Result<Node, ReadError> {
    match Kind::from_flags(header.flags) {
        Some(kind @ (Kind::Leaf | Kind::Branch)) => Ok(Node { id, kind, count: header.count.into(), bytes }),
        _ => Err(damaged(id, "it should hold entries, and does not")),
    }
}

/// What the first two pages say. The size of the pages is in them, so the second is looked for at each place.
fn metas(file: &File, len: u64) -> Result<[Option<Meta>; 2], ReadError> {
    let at = |offset: u64| {
        let mut page = [0; HEADER_BYTES + META_BYTES];
        if offset + page.len() as u64 > len {
            return Ok(None);
        }
        file.read_exact_at(&mut page, offset)?;
        Ok::<_, io::Error>(page.get(HEADER_BYTES..).and_then(Meta::take))
    };
    let first = at(0)?;
    if let Some(meta) = first {
        return Ok([first, at(meta.page_bytes.into())?]);
    }
    let mut page_bytes = PAGE_BYTES_MIN;
    while page_bytes <= PAGE_BYTES_MAX {
        let second = at(page_bytes as u64)?.filter(|meta| meta.page_bytes as usize == page_bytes);
        if second.is_some() {
            return Ok([None, second]);
        }
        page_bytes *= 2;
    }
    Ok([None, None])
}

impl Node {
    /// The four numbers of an element of a leaf, and where it begins.
    fn element(&self, at: usize) -> Result<(usize, Bytes), ReadError> {
        let start = HEADER_BYTES + at * ELEMENT_BYTES;
        let end = start + ELEMENT_BYTES;
        if end > self.bytes.len() {
            return Err(damaged(self.id, "it has fewer elements than it says"));
        }
        Ok((start, self.bytes.slice(start..end)))
    }

    fn part(&self, start: usize, offset: u32, len: u32) -> Result<Bytes, ReadError> {
        let start = start + offset as usize;
        let end = start + len as usize;
        if end > self.bytes.len() {
            return Err(damaged(self.id, "an element lies beyond its end"));
        }
        Ok(self.bytes.slice(start..end))
    }

    fn entry(&self, at: usize) -> Result<(Bytes, Value), ReadError> {
        let (start, mut element) = self.element(at)?;
        let [flags, offset, key_len, value_len] = [(); 4].map(|()| element.get_u32_le());
        let key = self.part(start, offset, key_len)?;
        let value = self.part(start + key_len as usize, offset, value_len)?;
        Ok((key, if flags & IS_BUCKET == 0 { Value::Entry(value) } else { Value::Bucket(value) }))
    }

    fn child(&self, at: usize) -> Result<u64, ReadError> {
        let (_, mut element) = self.element(at)?;
        element.advance(8);
        Ok(element.get_u64_le())
    }
}

/// The way through a tree: the nodes from its root to where it is, each with its next element.
struct Walk<'r> {
    reader: &'r Reader,
    path: Vec<(Node, usize)>,
    last_key: Bytes,
}

impl<'r> Walk<'r> {
    fn new(reader: &'r Reader, root: Node) -> Walk<'r> {
        Walk { reader, path: vec![(root, 0)], last_key: Bytes::new() }
    }

    fn next(&mut self) -> Result<Option<(Bytes, Value)>, ReadError> {
        while let Some((node, at)) = self.path.last_mut() {
            if *at == node.count {
                self.path.pop();
                continue;
            }
            let (id, this) = (node.id, *at);
            *at += 1;
            if node.kind == Kind::Branch {
                let child = node.child(this)?;
                if self.path.len() == DEPTH_MAX {
                    return Err(damaged(id, "it leads too deep"));
                }
                let child = self.reader.node(child)?;
                self.path.push((child, 0));
                continue;
            }
            let (key, value) = node.entry(this)?;
            // Keys that go up without end are as many as the file has: so a page that leads back to itself is found.
            if key <= self.last_key {
                return Err(damaged(id, "its keys are not in order"));
            }
            self.last_key = key.clone();
            return Ok(Some((key, value)));
        }
        Ok(None)
    }
}

/// The entries of a bucket, in the order of their keys. After an error there are no more.
pub struct Entries<'r>(Walk<'r>);

impl Iterator for Entries<'_> {
    type Item = Result<(Bytes, Bytes), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = match self.0.next() {
            Ok(Some((key, Value::Entry(value)))) => Ok((key, value)),
            Ok(Some((_, Value::Bucket(_)))) => Err(damaged(self.0.reader.meta.root, "a bucket has buckets")),
            Ok(None) => return None,
            Err(error) => Err(error),
        };
        if entry.is_err() {
            self.0.path.clear();
        }
        Some(entry)
    }
}
