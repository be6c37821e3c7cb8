//! A transaction changes a key at most once: the check that no branch can do otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Included, Unbounded};

use bytes::Bytes;
use model::{Key, Op, RangeEnd, Txn};

use crate::error::EtcdError;

/// Refuses a branch in which a key is put twice, or put and deleted, whatever the conditions of the transactions
/// nested in it say. Deletions may overlap: what is gone cannot be deleted again.
///
/// Takes time in proportion to the number of operations and little more: a request of the largest size holds more
/// than a hundred thousand.
pub(super) fn check(branch: &[Op]) -> Result<(), EtcdError> {
    // One operation has nothing beside it. This is every branch that kube-apiserver sends.
    if let [] | [Op::Range(_) | Op::Put(_) | Op::Delete(_)] = branch {
        return Ok(());
    }
    touched(branch).map(|_| ())
}

fn touched(branch: &[Op]) -> Result<Touched, EtcdError> {
    let mut all = Touched::default();
    for op in branch {
        let one = match op {
            Op::Range(_) => continue,
            Op::Put(put) => Touched { puts: BTreeSet::from([put.key.bytes().clone()]), ..Touched::default() },
            Op::Delete(delete) => {
                let end = match delete.range.end() {
                    RangeEnd::Single => Some(successor(delete.range.start())),
                    RangeEnd::Before(end) => Some(end.clone()),
                    RangeEnd::Unbounded => None,
                };
                let mut deletes = Intervals::default();
                deletes.insert(delete.range.start().clone(), end);
                Touched { deletes, ..Touched::default() }
            }
            Op::Txn(nested) => either(nested)?,
        };
        if all.conflicts_with(&one) {
            return Err(EtcdError::DuplicateKey);
        }
        all = all.union(one);
    }
    Ok(all)
}

/// What one branch or the other can touch. Only one of them runs, so that they may touch the same keys.
fn either(txn: &Txn) -> Result<Touched, EtcdError> {
    let (success, failure) = (touched(&txn.success)?, touched(&txn.failure)?);
    Ok(success.union(failure))
}

fn successor(key: &Bytes) -> Bytes {
    Key::new(key.clone()).map(|key| key.successor().bytes().clone()).unwrap_or_default()
}

/// The keys that operations can change.
#[derive(Default)]
struct Touched {
    puts: BTreeSet<Bytes>,
    deletes: Intervals,
}

impl Touched {
    fn conflicts_with(&self, other: &Touched) -> bool {
        let (few, many) = if self.puts.len() < other.puts.len() { (self, other) } else { (other, self) };
        few.puts.iter().any(|key| many.puts.contains(key))
            || self.deletes.hit_any(&other.puts)
            || other.deletes.hit_any(&self.puts)
    }

    fn union(self, other: Touched) -> Touched {
        let (mut puts, more_puts) = larger_first(self.puts, other.puts, BTreeSet::len);
        puts.extend(more_puts);
        let (mut deletes, more_deletes) = larger_first(self.deletes, other.deletes, |it| it.ends.len());
        for (start, end) in more_deletes.ends {
            deletes.insert(start, end);
        }
        Touched { puts, deletes }
    }
}

/// Moving the smaller set into the larger one keeps deep nesting from moving every key at every level.
fn larger_first<T>(one: T, other: T, len: impl Fn(&T) -> usize) -> (T, T) {
    if len(&one) < len(&other) { (other, one) } else { (one, other) }
}

/// Ranges of keys, kept apart: each start with the first key behind it, `None` where there is no end.
#[derive(Default)]
struct Intervals {
    ends: BTreeMap<Bytes, Option<Bytes>>,
}

impl Intervals {
    fn insert(&mut self, mut start: Bytes, mut end: Option<Bytes>) {
        if end.as_ref().is_some_and(|end| *end <= start) {
            return;
        }
        let before = self.ends.range::<[u8], _>((Unbounded, Included(start.as_ref()))).next_back();
        if let Some((first, last)) = before
            && reaches(last, &start)
        {
            start = first.clone();
        }
        while let Some((first, last)) =
            self.ends.range::<[u8], _>((Included(start.as_ref()), Unbounded)).next()
            && reaches(&end, first)
        {
            let (first, last) = (first.clone(), last.clone());
            self.ends.remove(&first);
            end = end.zip(last).map(|(one, other)| one.max(other));
        }
        self.ends.insert(start, end);
    }

    fn contains(&self, key: &[u8]) -> bool {
        let before = self.ends.range::<[u8], _>((Unbounded, Included(key))).next_back();
        before.is_some_and(|(_, end)| end.as_ref().is_none_or(|end| key < end.as_ref()))
    }

    fn hit_any(&self, keys: &BTreeSet<Bytes>) -> bool {
        if keys.len() < self.ends.len() {
            return keys.iter().any(|key| self.contains(key));
        }
        self.ends.iter().any(|(start, end)| {
            let end = end.as_ref().map_or(Unbounded, |end| Excluded(end.as_ref()));
            keys.range::<[u8], _>((Included(start.as_ref()), end)).next().is_some()
        })
    }
}

fn reaches(end: &Option<Bytes>, key: &[u8]) -> bool {
    end.as_ref().is_none_or(|end| key <= end.as_ref())
}

#[cfg(test)]
mod tests {
    use model::{DeleteOp, KeyRange, LeaseId, PutLease, PutOp, PutValue};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const KEYS: [&str; 6] = ["a", "a\0", "b", "c", "d", "e"];

    fn put(key: &'static str) -> Op {
        let (value, lease) = (PutValue::Set(Bytes::new()), PutLease::Set(LeaseId::NONE));
        Op::Put(PutOp { key: Key::new(key).unwrap(), value, lease, return_previous: false })
    }

    fn delete(key: &'static str, range_end: &'static str) -> Op {
        Op::Delete(DeleteOp { range: KeyRange::from_wire(key, range_end).unwrap(), return_previous: false })
    }

    fn branch() -> impl Strategy<Value = Vec<Op>> {
        let key = || prop::sample::select(&KEYS[..]);
        let end = prop_oneof![Just(""), Just("\0"), key()];
        let leaf = prop_oneof![key().prop_map(put), (key(), end).prop_map(|(key, end)| delete(key, end))];
        let op = leaf.prop_recursive(2, 8, 3, |op| {
            let nested = |(success, failure)| Op::Txn(Txn { compares: Vec::new(), success, failure });
            (vec(op.clone(), 0..3), vec(op, 0..3)).prop_map(nested)
        });
        vec(op, 0..4)
    }

    /// Every order of operations that the branch can come to, as what each does to which keys.
    fn runs(branch: &[Op]) -> Vec<Vec<&Op>> {
        branch.iter().fold(vec![Vec::new()], |before, op| {
            let then = match op {
                Op::Txn(nested) => [runs(&nested.success), runs(&nested.failure)].concat(),
                op => vec![vec![op]],
            };
            before.iter().flat_map(|run| then.iter().map(move |more| [&run[..], more].concat())).collect()
        })
    }

    fn changes_a_key_twice(run: &[&Op]) -> bool {
        KEYS.iter().any(|key| {
            let puts =
                run.iter().filter(|op| matches!(op, Op::Put(put) if put.key.as_slice() == key.as_bytes()));
            let is_deleted = run
                .iter()
                .any(|op| matches!(op, Op::Delete(delete) if delete.range.contains(key.as_bytes())));
            puts.count() + usize::from(is_deleted) > 1
        })
    }

    proptest! {
        #[test]
        fn a_branch_is_refused_if_a_way_through_it_changes_a_key_twice(branch in branch()) {
            let expected = runs(&branch).iter().any(|run| changes_a_key_twice(run));
            prop_assert_eq!(check(&branch).is_err(), expected);
        }
    }
}
