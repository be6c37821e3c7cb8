//! Files of bbolt, the store below etcd: written front to back in one go, and read without trust in what they hold.
//!
//! A file is a tree of pages; its first two pages say where the tree's root is, and they come first. So a file is laid
//! out before it is written: a [`Planner`] is told the key and the length of every value, in order, and answers a
//! [`Layout`]; the [`Writer`] is then given the same entries with their values, and yields the file piece by piece.
//! What has been taken from it is never touched again. Nothing needs a file on the way.
//!
//! This crate knows pages, buckets, keys and values, and must never learn what they mean to etcd. Nested buckets are
//! neither written nor read: etcd has none.
//!
//! Invariants: a written file has the length that its layout said, no free page, and passes bbolt's own check; whatever
//! bytes are read, the answer is an entry that is there, in order, or an error that names the page.

mod format;
mod plan;
mod read;
#[cfg(test)]
mod tests;
mod tree;
mod write;

pub use format::PAGE_BYTES;
pub use plan::{Layout, Planner};
pub use read::{Entries, ReadError, Reader};
pub use tree::EntryError;
pub use write::Writer;
