use std::collections::VecDeque;
use std::sync::Arc;

use model::{EventBatch, Revision};

/// The newest batches of a partition, in memory: what watchers read, and how far back the index tells old states.
#[derive(Debug)]
pub(crate) struct History {
    batches: VecDeque<Arc<EventBatch>>,
    weight_bytes: usize,
    weight_bytes_max: usize,
    floor: Revision,
}

impl History {
    /// An empty history that begins after `floor` and keeps about `weight_bytes_max` bytes.
    pub(crate) fn new(floor: Revision, weight_bytes_max: usize) -> History {
        History { batches: VecDeque::new(), weight_bytes: 0, weight_bytes_max, floor }
    }

    /// Every event above this revision is here, and the index tells every state from it on.
    pub(crate) fn floor(&self) -> Revision {
        self.floor
    }

    /// Adds the next batch. Returns the batches that had to go for it, oldest first.
    pub(crate) fn push(&mut self, batch: Arc<EventBatch>) -> Vec<Arc<EventBatch>> {
        assert!(
            self.batches.back().is_none_or(|last| last.revision == batch.after),
            "batches follow one another without a gap"
        );
        self.weight_bytes += weight(&batch);
        self.batches.push_back(batch);
        let mut forgotten = Vec::new();
        // The newest batch stays, however large it is.
        while self.weight_bytes > self.weight_bytes_max && self.batches.len() > 1 {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.weight_bytes -= weight(&oldest);
            self.floor = oldest.revision;
            forgotten.push(oldest);
        }
        forgotten
    }

    /// The batches with revisions from `from` on, at most `count`. `from` must be above the floor.
    pub(crate) fn since(&self, from: Revision, count: usize) -> Vec<Arc<EventBatch>> {
        assert!(from > self.floor, "history below the floor is in the engine");
        let first = self.batches.partition_point(|batch| batch.revision < from);
        self.batches.range(first..).take(count).cloned().collect()
    }
}

fn weight(batch: &EventBatch) -> usize {
    size_of::<EventBatch>() + batch.events.iter().map(|event| event.weight()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use model::{Change, ChangeKind, Event, Key};

    fn batch(revision: i64, size: usize) -> Arc<EventBatch> {
        let revision = Revision::new(revision);
        let key = Key::new("k").unwrap();
        let change = Change { revision, key, kind: ChangeKind::Delete, previous: Revision::NONE };
        let event = Arc::new(Event::new(change, Bytes::from(vec![0; size])));
        Arc::new(EventBatch { after: revision.previous(), revision, events: vec![event] })
    }

    #[test]
    fn history_keeps_the_newest_batches_within_its_bound() {
        let mut history = History::new(Revision::new(1), 10_000);
        let mut forgotten = Vec::new();
        for revision in 2..50 {
            forgotten.extend(history.push(batch(revision, 1_000)).iter().map(|batch| batch.revision.get()));
        }
        let floor = history.floor().get();
        assert_eq!(forgotten, (2..=floor).collect::<Vec<_>>());
        assert!(history.weight_bytes <= 10_000 && floor < 49);
        let kept = history.since(Revision::new(floor + 1), usize::MAX);
        assert_eq!(kept.first().unwrap().revision.get(), floor + 1);
        assert_eq!(kept.last().unwrap().revision.get(), 49);
        assert_eq!(history.since(Revision::new(45), 2).len(), 2);
    }

    #[test]
    fn a_batch_larger_than_the_bound_is_kept_while_it_is_the_newest() {
        let mut history = History::new(Revision::new(1), 100);
        assert!(history.push(batch(2, 1_000)).is_empty());
        assert_eq!(history.push(batch(3, 1_000)).len(), 1);
        assert_eq!(history.floor(), Revision::new(2));
    }
}
