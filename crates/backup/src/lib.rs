//! A backup file of Orlop: keys with their facts and values, and leases, at one revision.
//!
//! It must never depend on an engine, a store or a network: it is given records and gives them back. `docs/backup.md`
//! has the format.
//!
//! Invariants: nothing of a block is believed before its checksum was right; blocks are in their order and none is
//! missing; without its last block a file is no backup; memory is that of one block, whatever a file says.

mod block;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod read;
#[cfg(test)]
mod tests;
mod write;

use model::{KeyMeta, LeaseId};

pub use block::BLOCK_BYTES_MAX;
pub use read::{Left, ReadError, Reader};
pub use write::{WriteError, Writer};

/// What every file begins with. The end of line and the bytes that are no text show a copy that changed them.
const MAGIC: [u8; 8] = *b"\x89ORLBK\r\n";
/// The version of the format that is written, and the highest that is read.
pub const VERSION: u32 = 1;

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The cluster that it was taken from.
    pub cluster_id: u64,
    /// The revision of its state.
    pub revision: i64,
    /// How many keys there were, as the server said when it began.
    pub keys: u64,
}

/// What a backup holds, as its last block says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Keys.
    pub keys: u64,
    /// Leases.
    pub leases: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// One record of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A lease and its time to live in seconds.
    Lease(LeaseId, i64),
    /// A live key. They come in the order of keys, each once.
    Key(model::Key, KeyMeta, bytes::Bytes),
}
