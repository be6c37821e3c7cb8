//! The engine on TiKV: each batch is one transaction of a TiKV cluster, each snapshot a timestamp of its PD.
//!
//! It knows the engine contract and `tikv-client`, and must never learn what the bytes mean. `tikv-client`, and what
//! it is built on, stays inside this crate.
//!
//! What always holds:
//! - a batch is one optimistic transaction with the plain two-phase commit, and its first insert is the primary key:
//!   whether the batch is applied is decided at that one key, atomically;
//! - no commit is reported as not applied unless it never can be: either its commit request was never sent, or its
//!   primary key was looked at after it had been settled for ever;
//! - a transaction is rolled back after every certain failure, and never while it may have been committed: that would
//!   tear it;
//! - a snapshot that is older than half the time for which old versions are kept fails, by PD's clock and not by the
//!   machine's. It never misses keys;
//! - a lock whose owner is gone holds nobody up for longer than it lives.
//!
//! Its tests need a TiKV cluster, and are behind the feature `cluster-tests`: `cargo xtask test --only tikv`.

mod commit;
mod config;
mod cursor;
mod engine;
mod error;
mod gc;
mod limits;
mod locks;
mod pd;
mod portion;
mod read;
mod regions;
mod retry;
mod shared;
mod snapshot;
#[cfg(all(test, feature = "cluster-tests"))]
mod tests;

pub use config::{Collecting, Config, ConfigError, Tls};
pub use engine::{ConnectError, TikvEngine};
pub use gc::Collected;
