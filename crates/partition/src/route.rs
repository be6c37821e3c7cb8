//! Which partitions a transaction touches.

use std::collections::BTreeSet;

use layout::map::PartitionMap;
use model::{Op, Txn};

/// The places in the map of the partitions that some way through `txn` reads or writes; the first one when there is none.
pub(crate) fn touched(txn: &Txn, map: &PartitionMap) -> BTreeSet<usize> {
    let mut places = BTreeSet::new();
    add(txn, map, &mut places);
    if places.is_empty() {
        places.insert(0);
    }
    places
}

fn add(txn: &Txn, map: &PartitionMap, places: &mut BTreeSet<usize>) {
    for compare in &txn.compares {
        places.extend(map.overlapping(&compare.range));
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Range(range) => places.extend(map.overlapping(&range.range)),
            Op::Put(put) => drop(places.insert(map.position(put.key.as_slice()))),
            Op::Delete(delete) => places.extend(map.overlapping(&delete.range)),
            Op::Txn(nested) => add(nested, map, places),
        }
    }
}
