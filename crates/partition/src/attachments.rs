use std::collections::{BTreeSet, HashMap};

use model::{Key, KeyRange, LeaseId};

/// Which keys hang on which lease. Derived from the index; only keys with a lease are here.
#[derive(Debug, Default)]
pub(crate) struct Attachments {
    keys: HashMap<LeaseId, BTreeSet<Key>>,
}

impl Attachments {
    /// Moves `key` from the lease that it hung on to the one that it hangs on now; either may be none. The key is
    /// kept as it is: it should share its bytes with nothing larger.
    pub(crate) fn moved(&mut self, key: &Key, from: LeaseId, to: LeaseId) {
        if from == to {
            return;
        }
        if !from.is_none()
            && let Some(keys) = self.keys.get_mut(&from)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.keys.remove(&from);
            }
        }
        if !to.is_none() {
            self.keys.entry(to).or_default().insert(key.clone());
        }
    }

    /// The keys that hang on `lease`, in order.
    pub(crate) fn of(&self, lease: LeaseId) -> impl Iterator<Item = &Key> {
        self.keys.get(&lease).into_iter().flatten()
    }

    /// Whether `key` hangs on `lease`.
    pub(crate) fn has(&self, lease: LeaseId, key: &Key) -> bool {
        self.keys.get(&lease).is_some_and(|keys| keys.contains(key))
    }

    /// How many keys in `range` hang on `lease`.
    pub(crate) fn count(&self, lease: LeaseId, range: &KeyRange) -> usize {
        match self.keys.get(&lease) {
            Some(keys) if *range == KeyRange::all() => keys.len(),
            Some(keys) => keys.iter().filter(|key| range.contains(key.as_slice())).count(),
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_hangs_on_the_lease_that_it_was_moved_to_last() {
        let (a, b) = (Key::new("a").unwrap(), Key::new("b").unwrap());
        let (one, two) = (LeaseId(1), LeaseId(2));
        let mut attachments = Attachments::default();
        attachments.moved(&b, LeaseId::NONE, one);
        attachments.moved(&a, LeaseId::NONE, one);
        assert_eq!(attachments.of(one).collect::<Vec<_>>(), [&a, &b]);
        attachments.moved(&a, one, two);
        attachments.moved(&b, one, LeaseId::NONE);
        let all = KeyRange::all();
        assert_eq!((attachments.count(one, &all), attachments.count(two, &all)), (0, 1));
        assert_eq!(attachments.count(two, &KeyRange::from(&b)), 0);
        attachments.moved(&a, two, LeaseId::NONE);
        assert!(attachments.keys.is_empty(), "nothing is left of leases without keys");
    }
}
