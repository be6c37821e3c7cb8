//! What is fuzzed: one module for each target, whose `check` takes any bytes and panics if something does not hold.
//!
//! The programs of `fuzz_targets` hand them what libFuzzer makes; `tests/corpus.rs` hands them the inputs of `corpus`
//! in every ordinary test run. Nothing of the product may depend on this crate. `docs/fuzzing.md` says how to run it.

pub mod api;
pub mod backup;
pub mod bbolt;
mod clock;
pub mod config;
mod directory;
pub mod engine_bytes;
pub mod engine_directory;
pub mod fragments;
pub mod frames;
pub mod layout_records;
mod model;
mod pieces;
pub mod request_body;
pub mod requests;
pub mod self_test;
pub mod snapshot;
mod source;
pub mod spliced;
pub mod store;
mod store_input;

/// A target: its name, which is that of its program and its corpus, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target in which nothing may be found.
pub const TARGETS: &[Target] = &[
    ("api", api::check),
    ("backup", backup::check),
    ("bbolt", bbolt::check),
    ("config", config::check),
    ("engine_bytes", engine_bytes::check),
    ("engine_directory", engine_directory::check),
    ("fragments", fragments::check),
    ("frames", frames::check),
    ("layout_records", layout_records::check),
    ("request_body", request_body::check),
    ("requests", requests::check),
    ("snapshot", snapshot::check),
    ("spliced", spliced::check),
    ("store", store::check),
];
