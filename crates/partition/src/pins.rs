use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::Revision;
use parking_lot::Mutex;

/// The revisions at which reads are under way: reclaiming leaves alone what they need.
///
/// A reader pins first and looks at the compacted revision after; reclaiming moves the compacted revision first
/// and looks at the pins after. So one of the two always sees the other.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    /// Whether this process is the one that reclaims, and knows of every compaction before.
    counting: AtomicBool,
    readers: Mutex<BTreeMap<Revision, usize>>,
}

/// One reader's hold on the state at a revision, until it is dropped.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: Arc<Pins>,
    /// Whether it was this process that reclaims when the pin was taken: else it holds nothing up.
    pub(crate) counts: bool,
    revision: Revision,
}

impl Pins {
    pub(crate) fn pin(self: &Arc<Pins>, revision: Revision) -> Pin {
        let counts = self.counting.load(Ordering::SeqCst);
        *self.readers.lock().entry(revision).or_default() += 1;
        Pin { pins: self.clone(), counts, revision }
    }

    /// From here on this process reclaims, and nobody else does until somebody takes over.
    pub(crate) fn start_counting(&self) {
        self.counting.store(true, Ordering::SeqCst);
    }

    /// The lowest revision that a reader holds.
    pub(crate) fn lowest(&self) -> Option<Revision> {
        self.readers.lock().keys().next().copied()
    }
}

impl Pin {
    /// The revision that is held.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut readers = self.pins.readers.lock();
        if let Some(count) = readers.get_mut(&self.revision) {
            *count -= 1;
            if *count == 0 {
                readers.remove(&self.revision);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_pin_counts_until_its_last_holder_is_gone() {
        let pins = Arc::new(Pins::default());
        let (first, again, higher) =
            (pins.pin(Revision::new(3)), pins.pin(Revision::new(3)), pins.pin(Revision::new(9)));
        drop(first);
        assert_eq!(pins.lowest(), Some(Revision::new(3)));
        drop(again);
        assert_eq!(pins.lowest(), Some(Revision::new(9)));
        drop(higher);
        assert_eq!(pins.lowest(), None);
    }

    #[test]
    fn a_pin_from_before_this_process_reclaimed_counts_for_nothing() {
        let pins = Arc::new(Pins::default());
        let early = pins.pin(Revision::new(3));
        pins.start_counting();
        assert!(!early.counts && pins.pin(Revision::new(3)).counts);
    }
}
