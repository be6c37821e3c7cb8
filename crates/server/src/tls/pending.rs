use std::collections::BTreeMap;
use std::sync::Arc;

use base::Shutdown;
use parking_lot::Mutex;

/// Handshakes under way at a time. An honest one takes some round trips, so that this is far more than honest clients
/// need; each can hold some 64 KiB.
const HANDSHAKES_MAX: usize = 1024;

/// The handshakes under way. When there are too many, the oldest is given up: a client that says nothing loses its
/// place, one that talks has long been through.
#[derive(Clone, Default)]
pub(super) struct Pending(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    next: u64,
    waiting: BTreeMap<u64, Shutdown>,
}

/// A place among them, until it is dropped.
pub(super) struct Place {
    pending: Pending,
    number: u64,
    lost: Shutdown,
}

impl Pending {
    /// Takes a place, if need be from the oldest.
    pub(super) fn enter(&self) -> Place {
        let lost = Shutdown::new();
        let mut queue = self.0.lock();
        let number = queue.next;
        queue.next += 1;
        if queue.waiting.len() >= HANDSHAKES_MAX
            && let Some((_, oldest)) = queue.waiting.pop_first()
        {
            oldest.begin();
        }
        queue.waiting.insert(number, lost.clone());
        drop(queue);
        Place { pending: self.clone(), number, lost }
    }
}

impl Place {
    /// Completes when another has taken the place.
    pub(super) async fn lost(&self) {
        self.lost.begun().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pending.0.lock().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_oldest_loses_its_place_and_only_when_there_are_too_many() {
        let pending = Pending::default();
        let mut places: Vec<_> = (0..HANDSHAKES_MAX).map(|_| pending.enter()).collect();
        assert!(places.iter().all(|place| !place.lost.has_begun()));
        drop(places.remove(7));
        let _one_more = pending.enter();
        assert!(places.iter().all(|place| !place.lost.has_begun()), "one place was free");
        let _too_many = pending.enter();
        places[0].lost().await;
        assert!(places[1..].iter().all(|place| !place.lost.has_begun()));
    }
}
