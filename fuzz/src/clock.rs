//! A clock for stores that nothing may wait in.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use base::{Clock, ManualClock};

/// A clock on which every sleep is over at once: what a store waits for never takes real time.
#[derive(Clone, Default)]
pub(crate) struct EagerClock(ManualClock);

impl Clock for EagerClock {
    fn now(&self) -> Duration {
        self.0.now()
    }

    fn sleep_until(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            self.0.advance(deadline.saturating_sub(self.0.now()));
            tokio::task::yield_now().await;
        })
    }
}
