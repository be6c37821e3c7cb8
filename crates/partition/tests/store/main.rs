//! A store on the memory engine and the fault wrapper, through its public face; and what it leaves in the engine.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
mod compaction;
mod faults;
mod histories;
mod import;
mod leases;
mod log_reader;
mod long_histories;
mod model;
mod ownership;
mod partitions;
mod replica;
mod settling;
mod system;
mod visibility;
