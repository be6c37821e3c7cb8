use std::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::{PORTION_BYTES, PORTION_RECORDS_MAX, PORTION_RECORDS_MIN};

/// How large a record is taken to be before any was seen: too little costs a request or two, too much a refusal.
const RECORD_BYTES_GUESS: usize = 512 << 10;
/// Keys without values are at most this large in what is stored here.
const KEY_BYTES_GUESS: usize = 256;

/// How many records to ask TiKV for at once: it takes a count and no limit in bytes. The size of what came back last
/// tells what to expect.
#[derive(Debug)]
pub(crate) struct Portion {
    record_bytes: AtomicUsize,
}

impl Default for Portion {
    fn default() -> Portion {
        Portion { record_bytes: AtomicUsize::new(RECORD_BYTES_GUESS) }
    }
}

impl Portion {
    /// Records to ask for.
    pub(crate) fn records(&self, values: bool) -> usize {
        let each = if values { self.record_bytes.load(Ordering::Relaxed) } else { KEY_BYTES_GUESS };
        (PORTION_BYTES / each.max(1)).clamp(PORTION_RECORDS_MIN, PORTION_RECORDS_MAX)
    }

    /// So many records were too many.
    pub(crate) fn was_too_large(&self, records: usize) {
        self.record_bytes.fetch_max(PORTION_BYTES * 2 / records.max(1), Ordering::Relaxed);
    }

    /// What came back: a portion that was larger than expected counts at once, a smaller one by and by.
    pub(crate) fn seen(&self, records: usize, bytes: usize) {
        if records == 0 {
            return;
        }
        let (seen, expected) = (bytes / records, self.record_bytes.load(Ordering::Relaxed));
        let next = if seen > expected { seen } else { (expected + seen) / 2 };
        self.record_bytes.store(next.max(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portion_holds_about_the_same_bytes_whatever_the_size_of_the_records() {
        let portion = Portion::default();
        assert_eq!(portion.records(true), PORTION_BYTES / RECORD_BYTES_GUESS);
        for _ in 0..100 {
            portion.seen(100, 100 * 100);
        }
        assert_eq!(portion.records(true), PORTION_RECORDS_MAX);
        portion.seen(10, 10 * (256 << 10));
        assert_eq!(portion.records(true), 8, "a larger one counts at once");
        portion.was_too_large(8);
        assert_eq!(portion.records(true), 4);
        portion.seen(1, 64 << 20);
        assert_eq!(portion.records(true), PORTION_RECORDS_MIN);
        assert_eq!(portion.records(false), PORTION_RECORDS_MAX, "keys alone are small");
    }
}
