//! What every engine promises, as checks that run on any engine.
//!
//! A crate with an engine writes a [`Factory`] and calls [`conformance_tests!`](crate::conformance_tests),
//! which makes one test of each check; [`run`] runs them all in turn. A check fails with the promise that was
//! broken and what was seen.

mod batches;
mod concurrency;
mod durability;
mod faults;
mod life;
mod list;
mod points;
mod random;
mod scans;
mod snapshots;
mod steps;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;

use self::steps::Detail;
use crate::Engine;

pub use self::list::CHECKS;
pub use self::random::random_operations;

/// Makes the engines that the checks run on.
#[async_trait]
pub trait Factory: Send + Sync {
    /// Opens the store `name`, which is empty when it is opened for the first time and shares nothing with
    /// stores of other names. A store is never opened a second time before it was closed or stopped.
    async fn open(&self, name: &str) -> Arc<dyn Engine>;

    /// Whether a store that is opened again holds what was committed to it before.
    fn is_durable(&self) -> bool {
        false
    }

    /// The largest value that the engine takes for certain.
    fn value_bytes_max(&self) -> usize {
        8 << 20
    }

    /// Ends `engine`, which nobody else holds, without closing it: as near to a crash as the process allows.
    /// When it returns, the store can be opened again.
    async fn stop(&self, engine: Arc<dyn Engine>) {
        drop(engine);
    }
}

/// Every function that gives a new, empty engine is a factory of engines that forget.
#[async_trait]
impl<F, Opened> Factory for F
where
    F: Fn() -> Opened + Send + Sync,
    Opened: Future<Output = Arc<dyn Engine>> + Send,
{
    async fn open(&self, _name: &str) -> Arc<dyn Engine> {
        self().await
    }
}

/// One promise and the code that checks it.
pub struct Check {
    /// The name of the check: an identifier.
    pub name: &'static str,
    /// The promise, in words.
    pub promise: &'static str,
    run: for<'a> fn(&'a dyn Factory) -> Outcome<'a>,
}

type Outcome<'a> = Pin<Box<dyn Future<Output = Result<(), Detail>> + Send + 'a>>;

/// A promise that an engine did not keep.
pub struct Broken {
    /// The name of the check that found it.
    pub check: &'static str,
    /// The promise.
    pub promise: &'static str,
    /// What was seen instead.
    pub detail: String,
}

impl Check {
    /// Runs the check on engines from `factory`.
    pub async fn run(&self, factory: &dyn Factory) -> Result<(), Broken> {
        (self.run)(factory).await.map_err(|detail| Broken {
            check: self.name,
            promise: self.promise,
            detail: detail.0,
        })
    }
}

/// Runs all checks, one after another, up to the first broken promise.
pub async fn run(factory: &dyn Factory) -> Result<(), Broken> {
    for check in CHECKS {
        check.run(factory).await?;
    }
    Ok(())
}

/// Runs the check called `name`; a name that there is not is a broken promise too.
pub async fn run_one(name: &'static str, factory: &dyn Factory) -> Result<(), Broken> {
    match CHECKS.iter().find(|check| check.name == name) {
        Some(check) => check.run(factory).await,
        None => {
            let detail = "there is no check of this name".to_owned();
            Err(Broken { check: name, promise: "every named check exists", detail })
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broken promise \"{}\" ({}): {}", self.promise, self.check, self.detail)
    }
}

/// As `Display`, because a test that returns an error prints its `Debug` form.
impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Broken {}
