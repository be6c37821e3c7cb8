use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// A histogram that counts without a lock and without memory: it is fed by every call. Cheap to clone; all clones count
/// together.
///
/// Who reads it while it is fed may see a sum that is some observations ahead of the counts, or behind.
#[derive(Clone, Debug)]
pub(crate) struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// How many pieces of what is counted make one of the unit that is shown: a second has a billion nanoseconds.
    pieces_per_unit: f64,
    /// The largest value of each bucket, in pieces, ascending; one more bucket takes what is above.
    bounds: Box<[u64]>,
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Of durations, shown in seconds: buckets from `first` on, each twice as wide as the one before.
    pub(crate) fn of_durations(first: Duration, buckets: usize) -> Histogram {
        Histogram::new(1e9, (0..buckets).map(|bucket| nanos(first) << bucket))
    }

    /// Of durations, shown in seconds, with these buckets in milliseconds.
    pub(crate) fn of_millis(bounds: &[u64]) -> Histogram {
        Histogram::new(1e9, bounds.iter().map(|millis| millis * 1_000_000))
    }

    /// Of numbers: buckets from `first` on, each `factor` times as wide as the one before.
    pub(crate) fn of_numbers(first: u64, factor: u64, buckets: usize) -> Histogram {
        let bounds = std::iter::successors(Some(first), |bound| bound.checked_mul(factor));
        Histogram::new(1.0, bounds.take(buckets))
    }

    fn new(pieces_per_unit: f64, bounds: impl Iterator<Item = u64>) -> Histogram {
        let bounds: Box<[u64]> = bounds.collect();
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram(Arc::new(Inner { pieces_per_unit, bounds, counts, sum: AtomicU64::new(0) }))
    }

    /// Something took so long.
    pub(crate) fn observe(&self, took: Duration) {
        self.count(nanos(took));
    }

    /// Something was so large.
    pub(crate) fn count(&self, pieces: u64) {
        let Inner { bounds, counts, sum, .. } = self.0.as_ref();
        let bucket = bounds.partition_point(|bound| *bound < pieces);
        if let Some(count) = counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        sum.fetch_add(pieces, Ordering::Relaxed);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let Inner { pieces_per_unit, bounds, counts, sum } = self.0.as_ref();
        // What the encoder writes as infinity.
        let bounds = bounds.iter().map(|bound| *bound as f64 / pieces_per_unit).chain([f64::INFINITY]);
        let counts = counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = sum.load(Ordering::Relaxed) as f64 / pieces_per_unit;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    fn shown(histogram: &Histogram) -> String {
        let mut registry = Registry::default();
        registry.register("h", "H", histogram.clone());
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn each_bucket_counts_what_is_not_above_its_bound() {
        let histogram = Histogram::of_durations(Duration::from_millis(1), 3);
        for micros in [0, 1000, 1001, 4000, 9_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let text = shown(&histogram);
        for line in [
            "h_bucket{le=\"0.001\"} 2",
            "h_bucket{le=\"0.002\"} 3",
            "h_bucket{le=\"0.004\"} 4",
            "h_bucket{le=\"+Inf\"} 5",
            "h_count 5",
            "h_sum 9.006001",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn numbers_are_shown_as_they_are() {
        let histogram = Histogram::of_numbers(1, 4, 3);
        [1, 4, 5, 17].into_iter().for_each(|number| histogram.count(number));
        let text = shown(&histogram);
        for line in ["h_bucket{le=\"4.0\"} 2", "h_bucket{le=\"16.0\"} 3", "h_count 4", "h_sum 27.0"] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
