//! What becomes of the versions that a range holds: filtered, sorted, cut and loaded, as etcd does it.

use std::cmp::Reverse;

use bytes::Bytes;
use layout::object::value_of;
use model::{RangeFilter, RangeOp, Revision, SortOrder, SortTarget};

use crate::error::ReadFailure;
use crate::outcome::RangeOutcome;
use crate::values::{Found, Values};

/// Whether the versions are wanted in the order of their keys and unfiltered, so that the limit can cut first.
///
/// A range that is sorted by something else but in no order is one of these: etcd cuts it at the limit and sorts
/// what is left, and so do we.
fn is_cut_first(op: &RangeOp) -> bool {
    let in_key_order =
        op.order == SortOrder::None || (op.target == SortTarget::Key && op.order == SortOrder::Ascend);
    in_key_order && op.filter == RangeFilter::default()
}

/// How many versions of the range must be looked at, in the order of their keys, to answer it.
pub(crate) fn versions_needed(op: &RangeOp) -> usize {
    match op.limit {
        _ if op.count_only => 0,
        0 => usize::MAX,
        // One more tells whether the limit cut any off.
        limit if is_cut_first(op) => limit.saturating_add(1),
        _ => usize::MAX,
    }
}

/// Whether the range needs values, be it only to sort by them.
pub(crate) fn wants_values(op: &RangeOp) -> bool {
    !op.keys_only || op.target == SortTarget::Value
}

/// Makes the answer to `op` from the versions found in the state at a revision and the number of keys in the range.
pub(crate) async fn finish(
    op: &RangeOp,
    mut found: Vec<Found>,
    count: usize,
    (values, at): (&Values, Revision),
) -> Result<RangeOutcome, ReadFailure> {
    if op.filter != RangeFilter::default() {
        found.retain(|found| op.filter.admits(found.meta.create_revision, found.meta.mod_revision));
    }
    let order = match op.order {
        SortOrder::None if op.target != SortTarget::Key => SortOrder::Ascend,
        order => order,
    };
    if op.target == SortTarget::Value {
        return sort_by_value(op, order, found, count, (values, at)).await;
    }
    match op.target {
        SortTarget::Version => sort(&mut found, order, |found| found.meta.version),
        SortTarget::Create => sort(&mut found, order, |found| found.meta.create_revision),
        SortTarget::Mod => sort(&mut found, order, |found| found.meta.mod_revision),
        SortTarget::Key if order == SortOrder::Descend => found.reverse(),
        SortTarget::Key | SortTarget::Value => {}
    }
    let more = cut(&mut found, op.limit);
    Ok(RangeOutcome { versions: values.load(found, at).await?, more, count })
}

async fn sort_by_value(
    op: &RangeOp,
    order: SortOrder,
    found: Vec<Found>,
    count: usize,
    (values, at): (&Values, Revision),
) -> Result<RangeOutcome, ReadFailure> {
    let metas: Vec<_> = found.iter().map(|found| found.meta).collect();
    let key_values = values.load(found, at).await?;
    let mut versions: Vec<_> = key_values
        .into_iter()
        .zip(metas)
        .map(|(key_value, meta)| (value_of(&key_value).unwrap_or_default(), key_value, meta))
        .collect();
    sort(&mut versions, order, |(value, _, _)| value.clone());
    let more = cut(&mut versions, op.limit);
    let strip = |key_value: Bytes| match op.keys_only {
        true => layout::object::without_value(&key_value).map_err(|why| ReadFailure::Corrupt(why.to_owned())),
        false => Ok(key_value),
    };
    let versions =
        versions.into_iter().map(|(_, key_value, _)| strip(key_value)).collect::<Result<_, _>>()?;
    Ok(RangeOutcome { versions, more, count })
}

/// Equal ones stay in the order of their keys.
fn sort<T, K: Ord>(versions: &mut [T], order: SortOrder, key: impl Fn(&T) -> K) {
    match order {
        SortOrder::None => {}
        SortOrder::Ascend => versions.sort_by_key(key),
        SortOrder::Descend => versions.sort_by_key(|version| Reverse(key(version))),
    }
}

fn cut<T>(versions: &mut Vec<T>, limit: usize) -> bool {
    let more = limit > 0 && versions.len() > limit;
    if more {
        versions.truncate(limit);
    }
    more
}
