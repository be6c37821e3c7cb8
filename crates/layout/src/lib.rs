//! How records lie in an engine: their keys, their values, and the proof that what is read is what was written.
//!
//! One file per kind of record, each with its encoding, decoding and property tests. Nothing here reads or
//! writes an engine; nothing outside knows a byte of the format. `docs/key-layout.md` shows worked examples.
//!
//! Every key is the cluster's prefix, one byte of kind, and what the kind says:
//!
//! | kind | key after it | value | how many | changes |
//! |---|---|---|---|---|
//! | [`meta`] 1 | name | format and cluster, compacted revision, positions | a handful | overwritten |
//! | [`log`] 2 | partition, slot | who wrote it, what changed | one per batch, until compacted | never |
//! | [`index`] 3 | user key | revisions, version, lease, value length | one per live key | overwritten, deleted with its key |
//! | [`object`] 4 | user key, revision | the encoded `KeyValue`, or a tombstone | one per version, until compacted | never |
//! | [`system`] 5 | lease or alarm | granted time to live and state | one per lease | overwritten |
//!
//! Every value starts with one byte that says how to read it and ends with a checksum over the key (without the
//! prefix) and the value: a mismatch is an error that names the record, never a repair.

mod codec;
pub mod index;
mod keyspace;
pub mod log;
pub mod map;
pub mod meta;
pub mod object;
pub mod system;

pub use codec::Damaged;
pub use keyspace::{BadPrefix, KeySpace, Span};
