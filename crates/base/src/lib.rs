//! What every other crate takes from the world outside: time, randomness, tasks and the signal to stop.
//!
//! This is the only crate that may read a clock, draw random numbers or spawn a task, so that a simulation can
//! put its own in their place. It must never depend on another crate of the project.

mod clock;
mod planted;
mod random;
mod tasks;
mod trace;

pub use clock::{Clock, ManualClock, SystemClock};
#[cfg(feature = "planted")]
pub use planted::{Planted, plant};
pub use planted::{PlantedBug, is_planted};
pub use random::{Random, SeededRandom, SystemRandom};
pub use tasks::{Cancelled, Failure, Shutdown, Spawn, Supervisor, TaskKind};
pub use trace::{TRACE, step, traced};
