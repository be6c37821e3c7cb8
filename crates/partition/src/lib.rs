//! The user keys, and all that is done with them: partitions, each a contiguous range of keys with one log and one owner,
//! over one state in memory.
//!
//! A write travels [`UserKeys::txn`] → the sequencer of its partition, or the one for several (evaluated against the index,
//! together with all that wait) → one engine batch that inserts the log's next slot → publication in the order of revisions
//! (history, followers), and the answer. A read opens a [`View`] at one exact revision and pages through it. Watchers follow
//! the published batches and read what lies further back through [`UserKeys::events`].
//!
//! A process that does not own the partitions has the same state as a [`Replica`], fed with what the owner publishes or
//! from the logs; it becomes the owner through a [`Candidate`], without loading anything again.
//!
//! This crate must never depend on the wire protocol, on how watchers and leases are driven, or on which engine it
//! runs on.
//!
//! Invariants (`docs/invariants.md`): only one batch can ever hold a slot, and it is wholly visible or not at all;
//! nothing of a batch is shown before it is durable; a read at X sees exactly the writes at or below X; nothing at
//! or below a published revision appears later; an error says whether the write can have happened.

mod asking;
mod assignment;
mod assignments;
mod attachments;
mod begun;
mod desk;
mod error;
mod evaluate;
mod events;
mod history;
mod import;
mod index;
mod leadership;
mod log_reader;
mod log_writer;
mod numbering;
mod open;
mod outcome;
mod ownership;
mod pins;
mod range;
mod reader;
mod reclaim;
mod replica;
mod role;
mod route;
mod sequencer;
mod shared_log;
mod source;
mod state;
mod system;
mod traced;
mod user_keys;
mod values;

pub use assignment::{FromOwner, Grant, Settled, Tenure, ToOwner};
pub use assignments::{Assignments, Owners};
pub use error::{ReadFailure, SystemFailure, TxnFailure};
pub use events::EventsPage;
pub use import::{Import, ImportFailure};
pub use layout::meta::Leader;
pub use leadership::{LeaderLease, NotConfirmed};
pub use log_reader::{Content, LogFailure, LogHead, LogItem, LogPage, LogReader};
pub use open::{Candidate, OpenFailure, Presence, Settings, Store, World};
pub use outcome::{BranchOutcome, OpOutcome, RangeOutcome, TxnOutcome};
pub use reader::{Chunk, ChunkLimits, Facts, View};
pub use replica::{Applied, Replica, Through, event_of};
pub use role::{Authority, Confirmed};
pub use sequencer::Detached;
pub use state::Follower;
pub use system::{System, SystemFollower};
pub use user_keys::{UserKeys, Waiting};
