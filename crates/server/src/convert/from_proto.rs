//! Requests, checked as etcd checks them before it runs them: the same errors, found in the same order.
//!
//! What only the state of the store can decide (a lease or a key that must exist, a revision that must be there) is
//! decided where the request runs. A range's `serializable` is no part of the model: it permits a state that is not the
//! newest any more, and one process answers from the newest at no cost.
//!
//! On purpose different from etcd, in requests that nobody is known to send:
//! - Transactions nest at most [`TXN_DEPTH_MAX`] deep (etcd: as deep as the number of operations permits).
//! - A branch that puts a key in one nested transaction and deletes it in a later one, or puts a key that it deletes
//!   by a range without end, is refused as [`EtcdError::DuplicateKey`]. etcd lets both through, and gives one key
//!   two changes at one revision.

mod duplicates;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use model::{
    Compare, CompareOperator, CompareTarget, DeleteOp, Key, KeyRange, LeaseId, Op, PutLease, PutOp, PutValue,
    RangeFilter, RangeOp, ReadRevision, Revision, SortOrder, SortTarget, Txn,
};
use proto::etcdserverpb::compare::{
    CompareResult as WireOperator, CompareTarget as WireTarget, TargetUnion as WireUnion,
};
use proto::etcdserverpb::range_request::{SortOrder as WireOrder, SortTarget as WireSortTarget};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{
    CompactionRequest, Compare as WireCompare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
};

use crate::error::EtcdError;

/// etcd's default for the most conditions, and the most operations in one branch, that a transaction may have.
pub const TXN_OPS_MAX_DEFAULT: usize = 128;

/// How deep transactions may nest, the outermost counted: conversion, evaluation and the answer recurse as deep, so
/// the bound keeps a request from overflowing a stack. Below it lies the protobuf decoder's own bound: it gives up at
/// 100 nested messages, which are 50 transactions, with a decoding error instead of [`EtcdError::TooManyOps`].
pub const TXN_DEPTH_MAX: usize = 32;

/// A read on its own. A negative revision reads the newest state, as zero does.
pub fn range(request: RangeRequest) -> Result<RangeOp, EtcdError> {
    range_op(request, ReadRevision::Latest)
}

/// A read that is answered in pieces: in key order and unfiltered only.
pub fn range_stream(request: RangeRequest) -> Result<RangeOp, EtcdError> {
    let is_filtered = request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0;
    let mut op = range(request)?;
    match (op.order, op.target) {
        // etcd lets through what names no order but something to order by, sorts each piece by that, and goes on
        // behind the key that happens to be last, so that keys are lost. Here it is in key order.
        (SortOrder::None, _) | (SortOrder::Ascend, SortTarget::Key) => {}
        _ => return Err(EtcdError::RangeStreamSorted),
    }
    if is_filtered {
        return Err(EtcdError::RangeStreamFiltered);
    }
    (op.order, op.target, op.filter) = (SortOrder::None, SortTarget::Key, RangeFilter::default());
    Ok(op)
}

/// A read, where `negative` is what a negative revision stands for.
fn range_op(request: RangeRequest, negative: ReadRevision) -> Result<RangeOp, EtcdError> {
    let range = key_range(request.key, request.range_end)?;
    let order = WireOrder::try_from(request.sort_order).map_err(|_| EtcdError::InvalidSortOption)?;
    let target = WireSortTarget::try_from(request.sort_target).map_err(|_| EtcdError::InvalidSortOption)?;
    Ok(RangeOp {
        range,
        revision: match request.revision {
            0 => ReadRevision::Latest,
            ..0 => negative,
            number => ReadRevision::At(Revision::new(number)),
        },
        limit: usize::try_from(request.limit).unwrap_or(0),
        order: match order {
            WireOrder::None => SortOrder::None,
            WireOrder::Ascend => SortOrder::Ascend,
            WireOrder::Descend => SortOrder::Descend,
        },
        target: match target {
            WireSortTarget::Key => SortTarget::Key,
            WireSortTarget::Version => SortTarget::Version,
            WireSortTarget::Create => SortTarget::Create,
            WireSortTarget::Mod => SortTarget::Mod,
            WireSortTarget::Value => SortTarget::Value,
        },
        filter: {
            let (mod_revision_min, mod_revision_max) =
                bounds(request.min_mod_revision, request.max_mod_revision);
            let (create_revision_min, create_revision_max) =
                bounds(request.min_create_revision, request.max_create_revision);
            RangeFilter { mod_revision_min, mod_revision_max, create_revision_min, create_revision_max }
        },
        keys_only: request.keys_only,
        count_only: request.count_only,
    })
}

/// The bounds on a revision. No revision lies below a negative minimum, so it bounds nothing; all lie above a
/// negative maximum, so nothing may pass: the range from [`Revision::MAX`] on holds no revision of a key.
fn bounds(min: i64, max: i64) -> (Revision, Revision) {
    if max < 0 { (Revision::MAX, Revision::MAX) } else { (Revision::new(min.max(0)), Revision::new(max)) }
}

/// A put.
pub fn put(request: PutRequest) -> Result<PutOp, EtcdError> {
    let key = Key::new(request.key).map_err(|_| EtcdError::EmptyKey)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(EtcdError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(EtcdError::LeaseProvided);
    }
    Ok(PutOp {
        key,
        value: if request.ignore_value { PutValue::Keep } else { PutValue::Set(request.value) },
        lease: if request.ignore_lease { PutLease::Keep } else { PutLease::Set(LeaseId(request.lease)) },
        return_previous: request.prev_kv,
    })
}

/// A deletion.
pub fn delete(request: DeleteRangeRequest) -> Result<DeleteOp, EtcdError> {
    let range = key_range(request.key, request.range_end)?;
    Ok(DeleteOp { range, return_previous: request.prev_kv })
}

/// The revision that a compaction names; a negative one lies below everything that can still be compacted.
pub fn compaction(request: CompactionRequest) -> Result<Revision, EtcdError> {
    if request.revision < 0 { Err(EtcdError::Compacted) } else { Ok(Revision::new(request.revision)) }
}

/// A transaction with at most `ops_max` conditions, and operations in each branch; one nested in it has as many less
/// as its parent uses.
///
/// A read in it at a negative revision becomes one at [`Revision::NONE`]: below every revision, so that running it
/// fails as compacted, but only if it is in the branch that runs. What etcd makes of a condition with an unknown
/// operator or target is kept too.
pub fn txn(request: TxnRequest, ops_max: usize) -> Result<Txn, EtcdError> {
    let txn = txn_at(request, ops_max, TXN_DEPTH_MAX)?;
    duplicates::check(&txn.success)?;
    duplicates::check(&txn.failure)?;
    Ok(txn)
}

fn txn_at(request: TxnRequest, ops_max: usize, depth_left: usize) -> Result<Txn, EtcdError> {
    let used = request.compare.len().max(request.success.len()).max(request.failure.len());
    let (Some(ops_max), Some(depth_left)) = (ops_max.checked_sub(used), depth_left.checked_sub(1)) else {
        return Err(EtcdError::TooManyOps);
    };
    let branch = |ops: Vec<RequestOp>| -> Result<Vec<Op>, EtcdError> {
        ops.into_iter().map(|request| op(request, ops_max, depth_left)).collect()
    };
    Ok(Txn {
        compares: request
            .compare
            .into_iter()
            .filter_map(|it| compare(it).transpose())
            .collect::<Result<_, _>>()?,
        success: branch(request.success)?,
        failure: branch(request.failure)?,
    })
}

fn op(request: RequestOp, ops_max: usize, depth_left: usize) -> Result<Op, EtcdError> {
    match request.request.ok_or(EtcdError::KeyNotFound)? {
        Request::RequestRange(it) => Ok(Op::Range(range_op(it, ReadRevision::At(Revision::NONE))?)),
        Request::RequestPut(it) => Ok(Op::Put(put(it)?)),
        Request::RequestDeleteRange(it) => Ok(Op::Delete(delete(it)?)),
        Request::RequestTxn(it) => Ok(Op::Txn(txn_at(it, ops_max, depth_left)?)),
    }
}

/// A condition; `None` for one that always holds.
fn compare(request: WireCompare) -> Result<Option<Compare>, EtcdError> {
    let range = key_range(request.key, request.range_end)?;
    let operator = WireOperator::try_from(request.result).ok();
    let target = WireTarget::try_from(request.target).ok();
    let (operator, target) = match (operator.map(operator_from), target) {
        (Some(operator), Some(target)) => (operator, target_from(target, request.target_union)),
        // etcd accepts everything with an operator that it does not know, except the value of no key.
        (None, Some(WireTarget::Value)) => (CompareOperator::NotEqual, CompareTarget::Version(0)),
        (None, _) => return Ok(None),
        // A fact that it does not know counts as equal to whatever it is compared with.
        (Some(CompareOperator::Equal), None) => return Ok(None),
        (Some(_), None) => (CompareOperator::Less, CompareTarget::Version(i64::MIN)),
    };
    Ok(Some(Compare { range, operator, target }))
}

fn operator_from(operator: WireOperator) -> CompareOperator {
    match operator {
        WireOperator::Equal => CompareOperator::Equal,
        WireOperator::Greater => CompareOperator::Greater,
        WireOperator::Less => CompareOperator::Less,
        WireOperator::NotEqual => CompareOperator::NotEqual,
    }
}

/// What to compare with; a union that belongs to another target counts as unset.
fn target_from(target: WireTarget, union: Option<WireUnion>) -> CompareTarget {
    match (target, union) {
        (WireTarget::Version, Some(WireUnion::Version(number))) => CompareTarget::Version(number),
        (WireTarget::Version, _) => CompareTarget::Version(0),
        (WireTarget::Create, Some(WireUnion::CreateRevision(number))) => {
            CompareTarget::CreateRevision(number)
        }
        (WireTarget::Create, _) => CompareTarget::CreateRevision(0),
        (WireTarget::Mod, Some(WireUnion::ModRevision(number))) => CompareTarget::ModRevision(number),
        (WireTarget::Mod, _) => CompareTarget::ModRevision(0),
        (WireTarget::Value, Some(WireUnion::Value(value))) => CompareTarget::Value(value),
        (WireTarget::Value, _) => CompareTarget::Value(Bytes::new()),
        (WireTarget::Lease, Some(WireUnion::Lease(id))) => CompareTarget::Lease(id),
        (WireTarget::Lease, _) => CompareTarget::Lease(0),
    }
}

fn key_range(key: Bytes, range_end: Bytes) -> Result<KeyRange, EtcdError> {
    KeyRange::from_wire(key, range_end).map_err(|_| EtcdError::EmptyKey)
}
