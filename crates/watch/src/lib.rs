//! Watching: who is told of which events, in which order, and what may be said about progress.
//!
//! A [`Hub`] follows the published batches of the store and hands each event to the watchers of its key. A
//! [`Session`] is one client's stream with all of its watchers: it merges what the hub hands out with what lies
//! further back in [`History`], and says what to send next.
//!
//! This crate must never depend on an engine, on partitions or on the wire protocol.
//!
//! Invariants (`docs/invariants.md`): a watcher gets every event of its range from its start on, once, in the order
//! of revisions, those of one revision together; progress at R is said only when every event at or below R was
//! handed out before it on the same stream; a watcher that cannot be given an event whole is cancelled with the
//! compacted revision, never passed over.

mod groups;
mod history;
mod hub;
mod session;
mod watcher;

pub use history::{History, HistoryError, HistoryPage};
pub use hub::Hub;
pub use session::{Refusal, Session, Update, Watched};
pub use watcher::{Filter, Request, WatchId};
