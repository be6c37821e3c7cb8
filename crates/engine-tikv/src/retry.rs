use std::future::Future;
use std::time::Duration;

use base::Clock;

use crate::limits::{PAUSE_FIRST, PAUSE_MAX};

/// The tries of one operation: pauses that grow, up to a point in time.
pub(crate) struct Tries<'c> {
    clock: &'c dyn Clock,
    deadline: Duration,
    pause: Duration,
}

/// The time was up before the work was done.
pub(crate) struct TimeIsUp;

impl<'c> Tries<'c> {
    /// Tries from now on, for `length`.
    pub(crate) fn new(clock: &'c dyn Clock, length: Duration) -> Tries<'c> {
        Tries { clock, deadline: clock.now() + length, pause: PAUSE_FIRST }
    }

    /// Runs `work`, and drops it when the time is up.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, TimeIsUp> {
        tokio::select! {
            // What is done counts, however late.
            biased;
            output = work => Ok(output),
            () = self.clock.sleep_until(self.deadline) => Err(TimeIsUp),
        }
    }

    /// Pauses before the next try. `false`: there is none, the time is up.
    pub(crate) async fn again(&mut self) -> bool {
        let next = self.clock.now() + self.pause;
        if next >= self.deadline {
            return false;
        }
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.clock.sleep_until(next).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base::ManualClock;

    use super::*;

    #[tokio::test]
    async fn tries_end_with_their_time() {
        let clock = ManualClock::default();
        let tries = Tries::new(&clock, Duration::from_secs(1));
        assert!(matches!(tries.run(std::future::ready(7)).await, Ok(7)));
        clock.advance(Duration::from_secs(1));
        assert!(matches!(tries.run(std::future::ready(7)).await, Ok(7)), "what is done counts");
        assert!(tries.run(std::future::pending::<()>()).await.is_err());
    }

    #[tokio::test]
    async fn pauses_double_up_to_a_bound_and_there_is_no_try_after_the_end() {
        let clock = Arc::new(ManualClock::default());
        let mut tries = Tries::new(&*clock, Duration::from_secs(60));
        let mut pauses = Vec::new();
        while tries.pause < PAUSE_MAX {
            let pause = tries.pause;
            let (again, ()) = tokio::join!(tries.again(), async { clock.advance(pause) });
            assert!(again);
            pauses.push(pause);
        }
        assert!(pauses.windows(2).all(|two| two[1] == two[0] * 2) && pauses[0] == PAUSE_FIRST);
        clock.advance(Duration::from_secs(60));
        assert!(!tries.again().await);
    }
}
