//! Which watchers watch a key: those of the very key, and those of the ranges that hold it.

use std::cmp::Ordering;
use std::collections::HashMap;

use bytes::Bytes;
use model::{KeyRange, RangeEnd};

/// A watcher's place in the hub.
pub(crate) type Place = usize;

/// Watchers by what they watch. Watchers of the same range share one entry, so that an event is compared with each
/// range once, however many watch it.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    keys: HashMap<Bytes, Vec<Place>>,
    /// In the order of their starts, and of their ends where the starts are equal.
    ranges: Vec<RangeGroup>,
}

#[derive(Debug)]
struct RangeGroup {
    range: KeyRange,
    places: Vec<Place>,
    /// The highest end among this range and all before it; `None` is no end. Looking back from a key, the first
    /// range whose mark is not above the key ends the search.
    end_max: Option<Bytes>,
}

impl Groups {
    /// Adds a watcher.
    pub(crate) fn add(&mut self, range: &KeyRange, place: Place) {
        if range.is_single() {
            self.keys.entry(range.start().clone()).or_default().push(place);
            return;
        }
        match self.find(range) {
            Ok(at) => {
                if let Some(group) = self.ranges.get_mut(at) {
                    group.places.push(place);
                }
            }
            Err(at) => {
                let group = RangeGroup { range: range.clone(), places: vec![place], end_max: None };
                self.ranges.insert(at, group);
                self.mark_ends_from(at);
            }
        }
    }

    /// Removes a watcher.
    pub(crate) fn remove(&mut self, range: &KeyRange, place: Place) {
        if range.is_single() {
            if let Some(places) = self.keys.get_mut(range.start()) {
                places.retain(|&other| other != place);
                if places.is_empty() {
                    self.keys.remove(range.start());
                }
            }
            return;
        }
        let Ok(at) = self.find(range) else { return };
        let Some(group) = self.ranges.get_mut(at) else { return };
        group.places.retain(|&other| other != place);
        if group.places.is_empty() {
            self.ranges.remove(at);
            self.mark_ends_from(at);
        }
    }

    /// Shows every watcher of `key`.
    pub(crate) fn visit(&self, key: &[u8], mut visit: impl FnMut(Place)) {
        self.keys.get(key).into_iter().flatten().copied().for_each(&mut visit);
        let behind = self.ranges.partition_point(|group| group.range.start().as_ref() <= key);
        for group in self.ranges.get(..behind).unwrap_or_default().iter().rev() {
            if group.end_max.as_ref().is_some_and(|end| end.as_ref() <= key) {
                return;
            }
            if group.range.contains(key) {
                group.places.iter().copied().for_each(&mut visit);
            }
        }
    }

    fn find(&self, range: &KeyRange) -> Result<usize, usize> {
        self.ranges.binary_search_by(|group| {
            group.range.start().cmp(range.start()).then_with(|| compare_ends(group.range.end(), range.end()))
        })
    }

    fn mark_ends_from(&mut self, at: usize) {
        let mut end_max = match at.checked_sub(1).and_then(|before| self.ranges.get(before)) {
            Some(before) => before.end_max.clone(),
            // Below every end that a range can have.
            None => Some(Bytes::new()),
        };
        for group in self.ranges.iter_mut().skip(at) {
            end_max = match (&end_max, group.range.end()) {
                (Some(highest), RangeEnd::Before(end)) => Some(highest.max(end).clone()),
                _ => None,
            };
            group.end_max = end_max.clone();
        }
    }
}

fn compare_ends(a: &RangeEnd, b: &RangeEnd) -> Ordering {
    let end = |end: &RangeEnd| match end {
        RangeEnd::Single => (0, Bytes::new()),
        RangeEnd::Before(end) => (1, end.clone()),
        RangeEnd::Unbounded => (2, Bytes::new()),
    };
    end(a).cmp(&end(b))
}

#[cfg(test)]
mod tests {
    use model::Key;
    use proptest::prelude::*;

    use super::*;

    fn key(number: u8) -> Key {
        Key::new(vec![number % 16 + b'a']).unwrap()
    }

    fn range(shape: u8, start: u8, end: u8) -> KeyRange {
        match shape % 5 {
            0 => KeyRange::single(&key(start)),
            1 => KeyRange::from(&key(start)),
            _ => KeyRange::between(&key(start), key(end).bytes().clone()),
        }
    }

    proptest! {
        #[test]
        fn a_key_finds_exactly_the_watchers_whose_ranges_hold_it(
            steps in proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>(), any::<bool>()), 0..60),
        ) {
            let mut groups = Groups::default();
            let mut watchers: Vec<Option<KeyRange>> = Vec::new();
            for (shape, start, end, remove) in steps {
                if remove && !watchers.is_empty() {
                    let place = usize::from(start) % watchers.len();
                    if let Some(range) = watchers[place].take() {
                        groups.remove(&range, place);
                    }
                } else {
                    let range = range(shape, start, end);
                    groups.add(&range, watchers.len());
                    watchers.push(Some(range));
                }
            }
            for number in 0..16 {
                let key = key(number);
                let mut found = Vec::new();
                groups.visit(key.as_slice(), |place| found.push(place));
                found.sort_unstable();
                let holds = |range: &Option<KeyRange>| {
                    range.as_ref().is_some_and(|range| range.contains(key.as_slice()))
                };
                let expected: Vec<_> = (0..watchers.len()).filter(|&at| holds(&watchers[at])).collect();
                prop_assert_eq!(found, expected);
            }
            for (place, range) in watchers.iter().enumerate() {
                if let Some(range) = range {
                    groups.remove(range, place);
                }
            }
            prop_assert!(groups.keys.is_empty() && groups.ranges.is_empty());
        }
    }
}
