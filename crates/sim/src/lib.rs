//! A deterministic simulation: the real partition, watch and lease code on simulated time, chance, engine, network and
//! processes, all on one thread and all decided by one seed.
//!
//! [`run()`] plays a seed. The world chooses who takes the next step; a process can be killed, paused or doubled before
//! any step, which is at any `await` of its code. Batches travel to the engine and may be refused, lost, late, or
//! applied without an answer, also after their process has died. An oracle sees every batch at the moment at which it is
//! applied, holds it against the invariants (`docs/invariants.md`) and writes down what happened; clients hold every
//! answer and every event against that.
//!
//! What is not simulated: connections and protobuf (`server`'s surface), the embedded engine's files, which have a
//! simulation of their own, and the fleet, which is not built.
//!
//! This crate must never be depended on by another.

mod clients;
mod engine;
mod evaluate;
mod history;
mod link;
mod oracle;
mod plan;
mod process;
pub mod protocol;
mod run;
mod world;

pub use run::{Options, Report, run};
