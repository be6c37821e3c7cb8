//! Sequences of requests, as the fuzzer makes them: keys that begin one another, small numbers, and now and then any.

use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::Bytes;
use proto::etcdserverpb::compare::TargetUnion;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

const KEYS: [&[u8]; 8] = [b"\0", b"a", b"a\0", b"ab", b"b", b"b\0\xff", b"c", b"\xff\xff"];
const VALUES: [&[u8]; 4] = [b"", b"x", b"y", b"yy"];
/// Few: the more there are, the more often a key is changed twice, and all of them refused.
const OPS_MAX: usize = 3;
const DEPTH_MAX: usize = 2;
/// Leases that can be granted.
pub(crate) const LEASES: [i64; 3] = [1, 7, -5];

/// One step of a store's life.
#[derive(Debug)]
pub(crate) enum Step {
    Txn(TxnRequest),
    Range(RangeRequest),
    Compact(i64),
    Grant(i64),
    Revoke(i64),
    Restart,
}

impl<'a> Arbitrary<'a> for Step {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Step> {
        Ok(match input.int_in_range(0..=15)? {
            0..=4 => Step::Txn(txn(input, DEPTH_MAX)?),
            5..=7 => Step::Range(range(input)?),
            8..=11 => Step::Txn(only(Request::RequestPut(put(input)?))),
            12 => Step::Compact(number(input)?),
            13 => Step::Grant(*input.choose(&LEASES)?),
            14 => Step::Revoke(*input.choose(&LEASES)?),
            _ => Step::Restart,
        })
    }
}

fn only(request: Request) -> TxnRequest {
    TxnRequest { success: vec![RequestOp { request: Some(request) }], ..TxnRequest::default() }
}

fn txn(input: &mut Unstructured<'_>, depth_left: usize) -> Result<TxnRequest> {
    let compares = input.int_in_range(0..=2)?;
    Ok(TxnRequest {
        compare: (0..compares).map(|_| compare(input)).collect::<Result<_>>()?,
        success: ops(input, depth_left)?,
        failure: ops(input, depth_left)?,
    })
}

fn ops(input: &mut Unstructured<'_>, depth_left: usize) -> Result<Vec<RequestOp>> {
    let count = input.int_in_range(0..=OPS_MAX)?;
    let op = |input: &mut Unstructured<'_>| {
        let request = match input.int_in_range(0..=9)? {
            0..=2 => Request::RequestRange(range(input)?),
            3..=7 => Request::RequestPut(put(input)?),
            8 => {
                let (key, range_end) = keys(input)?;
                let prev_kv = bool::arbitrary(input)?;
                Request::RequestDeleteRange(DeleteRangeRequest { key, range_end, prev_kv })
            }
            _ if depth_left > 0 => Request::RequestTxn(txn(input, depth_left - 1)?),
            _ => Request::RequestRange(range(input)?),
        };
        Ok(RequestOp { request: Some(request) })
    };
    (0..count).map(|_| op(input)).collect()
}

fn put(input: &mut Unstructured<'_>) -> Result<PutRequest> {
    let (ignore_value, ignore_lease) = (input.ratio(1, 8)?, input.ratio(1, 8)?);
    Ok(PutRequest {
        key: key(input)?,
        value: if ignore_value { Bytes::new() } else { value(input)? },
        lease: if ignore_lease { 0 } else { lease(input)? },
        prev_kv: bool::arbitrary(input)?,
        ignore_value,
        ignore_lease,
    })
}

fn range(input: &mut Unstructured<'_>) -> Result<RangeRequest> {
    let (key, range_end) = keys(input)?;
    let mut request = RangeRequest { key, range_end, ..RangeRequest::default() };
    if bool::arbitrary(input)? {
        request.revision = number(input)?;
    }
    if bool::arbitrary(input)? {
        request.limit = i64::from(input.int_in_range(0..=4_u8)?);
    }
    if bool::arbitrary(input)? {
        request.sort_order = input.int_in_range(0..=2)?;
        request.sort_target = input.int_in_range(0..=4)?;
    }
    if input.ratio(1, 4)? {
        request.min_mod_revision = number(input)?;
        request.max_mod_revision = number(input)?;
        request.min_create_revision = number(input)?;
        request.max_create_revision = number(input)?;
    }
    request.keys_only = input.ratio(1, 4)?;
    request.count_only = input.ratio(1, 8)?;
    Ok(request)
}

fn compare(input: &mut Unstructured<'_>) -> Result<Compare> {
    let (key, range_end) = keys(input)?;
    // Also those that no client knows.
    let (result, target) = (input.int_in_range(0..=4)?, input.int_in_range(0..=5)?);
    let number = number(input)?;
    let union = match input.int_in_range(0..=7)? {
        0 => TargetUnion::Version(number),
        1 => TargetUnion::CreateRevision(number),
        2 => TargetUnion::ModRevision(number),
        3 => TargetUnion::Lease(number),
        4 => TargetUnion::Value(value(input)?),
        // Most often the one that belongs to the target.
        _ => match target {
            0 => TargetUnion::Version(number),
            1 => TargetUnion::CreateRevision(number),
            2 => TargetUnion::ModRevision(number),
            3 => TargetUnion::Value(value(input)?),
            _ => TargetUnion::Lease(number),
        },
    };
    Ok(Compare { result, target, key, range_end, target_union: Some(union) })
}

fn key(input: &mut Unstructured<'_>) -> Result<Bytes> {
    Ok(Bytes::from_static(input.choose(&KEYS)?))
}

fn value(input: &mut Unstructured<'_>) -> Result<Bytes> {
    Ok(Bytes::from_static(input.choose(&VALUES)?))
}

fn lease(input: &mut Unstructured<'_>) -> Result<i64> {
    Ok(if input.ratio(1, 6)? { *input.choose(&LEASES)? } else { 0 })
}

/// A key, and where its range ends.
fn keys(input: &mut Unstructured<'_>) -> Result<(Bytes, Bytes)> {
    let end = match input.int_in_range(0..=4)? {
        0 | 1 => Bytes::new(),
        2 => Bytes::from_static(&[0]),
        _ => key(input)?,
    };
    Ok((key(input)?, end))
}

/// About as large as revisions, versions and limits are here, or any.
fn number(input: &mut Unstructured<'_>) -> Result<i64> {
    if input.ratio(1, 16)? { i64::arbitrary(input) } else { Ok(i64::from(input.int_in_range(-1..=30_i8)?)) }
}
