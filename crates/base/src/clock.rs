use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

/// Time, injected. Durations since some fixed point of the process's past; never decreasing.
pub trait Clock: Send + Sync + 'static {
    /// The time since the clock's epoch. It runs on while the machine is suspended.
    fn now(&self) -> Duration;

    /// Completes when `now()` has reached `deadline`.
    fn sleep_until(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// The machine's clock: `CLOCK_BOOTTIME`, which a suspend does not stop (a lease must not live longer because
/// its holder slept).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        let time = clock_gettime(ClockId::Boottime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    }

    fn sleep_until(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            loop {
                let now = self.now();
                if now >= deadline {
                    return;
                }
                tokio::time::sleep(deadline - now).await;
            }
        })
    }
}

/// A clock that stands still until a test moves it.
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    now: Arc<Mutex<Duration>>,
    moved: Arc<Notify>,
}

impl ManualClock {
    /// Moves the clock on and wakes who has slept long enough.
    pub fn advance(&self, by: Duration) {
        *self.now.lock() += by;
        self.moved.notify_waiters();
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        *self.now.lock()
    }

    fn sleep_until(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            loop {
                // Registered before the look at the clock, so that no move falls in between.
                let moved = self.moved.notified();
                if self.now() >= deadline {
                    return;
                }
                moved.await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_does_not_go_back() {
        let first = SystemClock.now();
        assert!(SystemClock.now() >= first && !first.is_zero());
    }

    #[tokio::test]
    async fn a_sleeper_on_a_manual_clock_wakes_when_the_clock_is_moved_far_enough() {
        let clock = ManualClock::default();
        let sleeper = {
            let clock = clock.clone();
            async move { clock.sleep_until(Duration::from_secs(5)).await }
        };
        tokio::pin!(sleeper);
        assert!(futures_poll(&mut sleeper).await.is_none());
        clock.advance(Duration::from_secs(4));
        assert!(futures_poll(&mut sleeper).await.is_none());
        clock.advance(Duration::from_secs(1));
        sleeper.await;
    }

    /// Polls a future once.
    async fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        std::future::poll_fn(|context| {
            std::task::Poll::Ready(match Pin::new(&mut *future).poll(context) {
                std::task::Poll::Ready(output) => Some(output),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
