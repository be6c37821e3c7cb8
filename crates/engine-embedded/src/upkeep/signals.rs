use std::collections::VecDeque;
use std::time::Duration;

use engine::ReadError;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// Something for the upkeep thread to do.
pub(crate) enum Work {
    Stop,
    /// Write the hint of this segment.
    Hint(u32),
    /// Prepare the file of the next segment.
    Spare,
    /// Rewrite segments if too much is dead.
    Check,
    /// Rewrite what is worth it, and say when it is done.
    Reclaim(oneshot::Sender<Result<(), ReadError>>),
    /// The time given is over.
    Nothing,
}

#[derive(Default)]
struct Wanted {
    stop: bool,
    /// At most one per segment file.
    hints: VecDeque<u32>,
    spare: bool,
    check: bool,
    /// One per caller of `reclaim` that waits.
    reclaims: Vec<oneshot::Sender<Result<(), ReadError>>>,
    full: bool,
}

/// What the upkeep thread was asked to do. Asking twice before it begins is asking once.
#[derive(Default)]
pub(crate) struct Signals {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

impl Signals {
    fn set(&self, change: impl FnOnce(&mut Wanted)) {
        change(&mut self.wanted.lock());
        self.changed.notify_one();
    }

    pub(crate) fn stop(&self) {
        self.set(|wanted| {
            wanted.stop = true;
            wanted.reclaims.clear();
        });
    }

    pub(crate) fn hint(&self, segment: u32) {
        self.set(|wanted| wanted.hints.push_back(segment));
    }

    pub(crate) fn prepare_spare(&self) {
        self.set(|wanted| wanted.spare = true);
    }

    pub(crate) fn check(&self) {
        self.set(|wanted| wanted.check = true);
    }

    pub(crate) fn disk_full(&self) {
        self.set(|wanted| {
            wanted.full = true;
            wanted.check = true;
        });
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.wanted.lock().full = full;
    }

    /// Whether space was missing lately.
    pub(crate) fn is_full(&self) -> bool {
        self.wanted.lock().full
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.wanted.lock().stop
    }

    /// Asks for a reclaim; the answer is dropped when the engine closes before.
    pub(crate) fn reclaim(&self) -> oneshot::Receiver<Result<(), ReadError>> {
        let (answer, answered) = oneshot::channel();
        self.set(|wanted| {
            if !wanted.stop {
                wanted.reclaims.push(answer);
            }
        });
        answered
    }

    /// The most urgent work; waits for some, with `retry` no longer than that. When `retry` is zero nothing but the
    /// end goes before it.
    pub(crate) fn take(&self, retry: Option<Duration>) -> Work {
        let mut wanted = self.wanted.lock();
        loop {
            if wanted.stop {
                return Work::Stop;
            }
            if retry.is_some_and(|retry| retry.is_zero()) {
                return Work::Nothing;
            }
            // The next segment first: commits may wait for it.
            if std::mem::take(&mut wanted.spare) {
                return Work::Spare;
            }
            if let Some(segment) = wanted.hints.pop_front() {
                return Work::Hint(segment);
            }
            if let Some(answer) = wanted.reclaims.pop() {
                return Work::Reclaim(answer);
            }
            if std::mem::take(&mut wanted.check) {
                return Work::Check;
            }
            match retry {
                Some(retry) => {
                    if self.changed.wait_for(&mut wanted, retry).timed_out() {
                        return Work::Nothing;
                    }
                }
                None => self.changed.wait(&mut wanted),
            }
        }
    }

    /// Urgent work that came while segments are rewritten.
    pub(crate) fn take_urgent(&self) -> Option<Work> {
        let mut wanted = self.wanted.lock();
        if std::mem::take(&mut wanted.spare) {
            return Some(Work::Spare);
        }
        wanted.hints.pop_front().map(Work::Hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_that_is_due_goes_before_what_is_asked_for_again_and_again() {
        let signals = Signals::default();
        signals.prepare_spare();
        signals.check();
        assert!(matches!(signals.take(Some(Duration::ZERO)), Work::Nothing));
        assert!(matches!(signals.take(Some(Duration::from_secs(60))), Work::Spare));
        assert!(matches!(signals.take(None), Work::Check));
    }

    #[test]
    fn the_end_goes_before_a_retry() {
        let signals = Signals::default();
        signals.stop();
        assert!(matches!(signals.take(Some(Duration::ZERO)), Work::Stop));
    }
}
