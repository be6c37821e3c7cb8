use std::collections::BTreeMap;
use std::sync::Arc;

use model::Revision;
use parking_lot::Mutex;

/// The revisions at which reads are under way: reclaiming leaves alone what they need.
///
/// A reader pins first and looks at the compacted revision after; reclaiming moves the compacted revision first
/// and looks at the pins after. So one of the two always sees the other.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    readers: Mutex<BTreeMap<Revision, usize>>,
}

/// One reader's hold on the state at a revision, until it is dropped.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: Arc<Pins>,
    revision: Revision,
}

impl Pins {
    pub(crate) fn pin(self: &Arc<Pins>, revision: Revision) -> Pin {
        *self.readers.lock().entry(revision).or_default() += 1;
        Pin { pins: self.clone(), revision }
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
}
