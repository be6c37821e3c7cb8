//! What an owner that does not lead has begun, and how that keeps what others do from becoming visible over it.
//!
//! The versions of a batch are in the index before it is durable. Nothing at or above its revisions becomes visible until its
//! fate is known: as long as the leader has not lost the owner it publishes nothing there, so that nobody waits; and when it
//! has, whoever reads here must not see a version that came to nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::Revision;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The batches that are begun. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Begun {
    state: Arc<Mutex<State>>,
    ended: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    /// By the partition's place, the first revision of its batch.
    firsts: BTreeMap<usize, Revision>,
    /// What others have done through this revision is visible, or about to be.
    shown: Revision,
}

/// A batch that is begun, until this is dropped: then its versions are durable, or out of the index again.
#[derive(Debug)]
pub(crate) struct BegunBatch {
    begun: Begun,
    place: usize,
}

impl Begun {
    /// Begins a batch of the partition at `place` with this first revision. `None` when others have got there already: the
    /// partition belongs to somebody else, whatever was said before.
    pub(crate) fn begin(&self, place: usize, first: Revision) -> Option<BegunBatch> {
        let mut state = self.state.lock();
        if state.shown >= first {
            return None;
        }
        state.firsts.insert(place, first);
        Some(BegunBatch { begun: self.clone(), place })
    }

    /// Completes when what others have done through `revision` may become visible; nothing begins below it from then on.
    pub(crate) async fn may_show(&self, revision: Revision) {
        loop {
            let ended = self.ended.notified();
            {
                let mut state = self.state.lock();
                if state.firsts.values().all(|first| *first > revision) {
                    state.shown = state.shown.max(revision);
                    return;
                }
            }
            ended.await;
        }
    }
}

impl Drop for BegunBatch {
    fn drop(&mut self) {
        self.begun.state.lock().firsts.remove(&self.place);
        self.begun.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_is_at_or_above_a_batch_waits_for_its_fate() {
        let begun = Begun::default();
        let (first, second) =
            (begun.begin(0, Revision::new(5)).unwrap(), begun.begin(1, Revision::new(7)).unwrap());
        assert!(begun.may_show(Revision::new(4)).now_or_never().is_some());
        let mut waits = Box::pin(begun.may_show(Revision::new(7)));
        assert!(waits.as_mut().now_or_never().is_none());
        drop(first);
        assert!(waits.as_mut().now_or_never().is_none(), "the other one is still on its way");
        drop(second);
        assert!(waits.now_or_never().is_some());
    }

    #[test]
    fn nothing_begins_below_what_is_shown() {
        let begun = Begun::default();
        assert!(begun.may_show(Revision::new(5)).now_or_never().is_some());
        assert!(begun.begin(0, Revision::new(5)).is_none());
        assert!(begun.begin(0, Revision::new(6)).is_some());
    }
}
