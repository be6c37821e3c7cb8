use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// How long a client may take nothing of an answer that waits for it. An answer is offered in small pieces, so that a
/// slow client is not taken for one that stands still.
pub(crate) const STALL_TIME_MAX: Duration = Duration::from_secs(60);

/// The answers of a connection that wait for the client, each since when.
#[derive(Default)]
pub(crate) struct Stalls(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    next: u64,
    since: HashMap<u64, Duration>,
}

/// One answer; it waits for nothing once it is dropped.
pub(crate) struct Answer {
    stalls: Arc<Stalls>,
    number: u64,
}

impl Stalls {
    /// An answer that waits from `now` on.
    pub(crate) fn begin(self: &Arc<Stalls>, now: Duration) -> Answer {
        let mut waiting = self.0.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.since.insert(number, now);
        Answer { stalls: self.clone(), number }
    }

    /// Whether the client has taken nothing of some answer for too long.
    pub(crate) fn are_there(&self, now: Duration) -> bool {
        self.0.lock().since.values().any(|since| now.saturating_sub(*since) >= STALL_TIME_MAX)
    }
}

impl Answer {
    /// Something waits for the client from `now` on.
    pub(crate) fn offered(&self, now: Duration) {
        self.stalls.0.lock().since.insert(self.number, now);
    }

    /// The client has taken everything that there was.
    pub(crate) fn taken(&self) {
        self.stalls.0.lock().since.remove(&self.number);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.taken();
    }
}
