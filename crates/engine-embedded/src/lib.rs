//! The engine for one machine: an append-only, checksummed log of batches in segment files, and an ordered index
//! of all live records in memory.
//!
//! It knows the engine contract and files, and must never learn what the bytes mean. All file access goes through
//! one small trait, so that tests can fill the disk, fail an fsync and cut the power.
//!
//! What always holds:
//! - a batch is one frame in one segment, and visible (as a whole) only after an fsync that covers it;
//! - the newest version of a record is the one with the highest batch number, wherever it lies; a copy keeps its
//!   number; and only the newest version is ever copied;
//! - as long as a segment holds an older version of a deleted record, the deletion is kept;
//! - a segment is complete and durable before the first frame of the next one is written;
//! - after a failed fsync nothing is written any more: the engine answers `Closed` until it is opened again, and then
//!   what no later frame says to be durable is written again before it is shown;
//! - bytes that do not match their checksum are an error that names file and position, never skipped, except for
//!   the remains of a write behind everything that was ever known to be durable: those are cut off when the
//!   directory is opened.
//!
//! What cannot be told from such remains: damage to the batches of the very last fsync, when it happens before
//! anything was written behind them. Within a fifth of a second without writes a mark is written there.

mod config;
mod engine;
mod error;
mod format;
mod fs;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod hint;
mod index;
mod log;
mod queue;
mod read;
mod read_only;
mod recover;
mod shared;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod upkeep;
mod walk;
mod writer;

pub use config::{Config, Observer};
pub use engine::EmbeddedEngine;
pub use error::OpenError;
pub use read_only::ReadOnlyEngine;
pub use shared::Stats;
