//! What is counted of published batches, and when each revision was published: so it is known how late watchers hear.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use base::Clock;
use model::{EventBatch, Revision};
use partition::Follower;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::{Histogram, OfPartition, USER_PARTITION, UnsignedGauge};

/// Of so many revisions it is remembered when they were published. A watcher that is further behind is counted as slow,
/// and its delay not measured. 64 KiB.
const PUBLISHED_AT_MAX: usize = 4096;

/// What is counted of the batches of the partition with user keys, whoever owns it.
#[derive(Debug)]
pub(crate) struct PublishedMetrics {
    batch_txns: Histogram,
    batch_events: Histogram,
    put_bytes: UnsignedGauge,
    delivery_secs: Histogram,
    published_at: Box<[Moment]>,
}

/// When a revision was published. Written by the one who publishes; whoever reads looks at the revision twice.
#[derive(Debug, Default)]
struct Moment {
    revision: AtomicI64,
    nanos: AtomicU64,
}

impl PublishedMetrics {
    pub(super) fn new(registry: &mut Registry) -> PublishedMetrics {
        let sizes = || Histogram::of_numbers(1, 4, 7);
        let txns = Family::<OfPartition, Histogram>::new_with_constructor(sizes);
        let events = Family::<OfPartition, Histogram>::new_with_constructor(sizes);
        let help = "Revisions in a published batch: transactions that changed something and shared a commit";
        registry.register("orlop_partition_batch_revisions", help, txns.clone());
        let help = "Events in a published batch: keys put or deleted";
        registry.register("orlop_partition_batch_events", help, events.clone());
        let metrics = PublishedMetrics {
            batch_txns: txns.get_or_create_owned(&USER_PARTITION),
            batch_events: events.get_or_create_owned(&USER_PARTITION),
            put_bytes: UnsignedGauge::default(),
            // 0.1 ms to 13 s.
            delivery_secs: Histogram::of_durations(Duration::from_micros(100), 18),
            published_at: (0..PUBLISHED_AT_MAX).map(|_| Moment::default()).collect(),
        };
        let help = "Bytes of keys and values put since the start, as they are stored";
        registry.register("etcd_debugging_mvcc_total_put_size_in_bytes", help, metrics.put_bytes.clone());
        let help = "From when a revision is visible to when a watcher's response with it is handed to the connection; \
                    only of watchers that are less than 4096 revisions behind";
        registry.register("orlop_watch_delivery_seconds", help, metrics.delivery_secs.clone());
        metrics
    }

    fn published(&self, batch: &EventBatch, now: Duration) {
        let EventBatch { after, revision, events } = batch;
        self.batch_txns.count(revision.get().abs_diff(after.get()));
        self.batch_events.count(events.len() as u64);
        let put = events.iter().filter(|event| !event.is_delete()).map(|event| event.key_value.len() as u64);
        self.put_bytes.inc_by(put.sum::<u64>());
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        for event in events {
            let revision = event.change.revision.get();
            let Some(moment) = self.moment(revision) else { continue };
            if moment.revision.load(Ordering::SeqCst) == revision {
                continue;
            }
            // Nobody may take the new time for that of the old revision, or the other way round.
            moment.revision.store(0, Ordering::SeqCst);
            moment.nanos.store(nanos, Ordering::SeqCst);
            moment.revision.store(revision, Ordering::SeqCst);
        }
    }

    /// A watcher's response with `revision` is handed over now.
    pub(crate) fn delivered(&self, revision: Revision, now: Duration) {
        let Some(moment) = self.moment(revision.get()) else { return };
        let is_known = || moment.revision.load(Ordering::SeqCst) == revision.get();
        if !is_known() {
            return;
        }
        let at = Duration::from_nanos(moment.nanos.load(Ordering::SeqCst));
        if is_known() {
            self.delivery_secs.observe(now.saturating_sub(at));
        }
    }

    fn moment(&self, revision: i64) -> Option<&Moment> {
        let place = usize::try_from(revision).ok()? % PUBLISHED_AT_MAX;
        self.published_at.get(place)
    }
}

/// Counts the batches of the partition with user keys. To be the first that follows it: others go by its times.
pub(crate) struct CountingFollower {
    pub(crate) metrics: Arc<PublishedMetrics>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Follower for CountingFollower {
    fn published(&self, batch: &Arc<EventBatch>) {
        self.metrics.published(batch, self.clock.now());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use model::{Change, ChangeKind, Event, Key};
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn batch(after: i64, through: i64) -> EventBatch {
        let events = (after + 1..=through).map(|revision| {
            let (revision, key) = (Revision::new(revision), Key::new("k").unwrap());
            let change = Change { revision, key, kind: ChangeKind::Delete, previous: Revision::NONE };
            Arc::new(Event::new(change, Bytes::new()))
        });
        EventBatch { after: Revision::new(after), revision: Revision::new(through), events: events.collect() }
    }

    #[test]
    fn the_delay_of_a_delivery_is_counted_from_its_batch_on() {
        let mut registry = Registry::default();
        let metrics = PublishedMetrics::new(&mut registry);
        metrics.published(&batch(1, 4), Duration::from_secs(10));
        metrics.published(&batch(4, 5), Duration::from_secs(11));
        metrics.delivered(Revision::new(3), Duration::from_millis(10_250));
        metrics.delivered(Revision::new(5), Duration::from_millis(11_500));
        // Not published here; then overtaken by a later one in its place.
        metrics.delivered(Revision::new(6), Duration::from_secs(99));
        let later = 5 + PUBLISHED_AT_MAX as i64;
        metrics.published(&batch(later - 1, later), Duration::from_secs(12));
        metrics.delivered(Revision::new(5), Duration::from_secs(99));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "orlop_watch_delivery_seconds_count 2",
            "orlop_watch_delivery_seconds_sum 0.75",
            "orlop_partition_batch_revisions_sum{partition=\"1\"} 5.0",
            "orlop_partition_batch_events_count{partition=\"1\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
