//! Every request of the API: decoded, written again, and converted into what the store runs, or refused as etcd would.

use model::{Op, ReadRevision, Revision, Txn};
use prost::Message;
use proto::etcdserverpb as wire;
use server::fuzzing as convert;

/// The most operations that the converted transactions may have: few, so that the bound is met.
const OPS_MAX: usize = 16;

/// Reads the input behind its first byte as the request that this byte names.
pub fn check(input: &[u8]) {
    let Some((&kind, bytes)) = input.split_first() else { return };
    match kind % 16 {
        0 => ranges(bytes),
        1 => drop(request::<wire::PutRequest>(bytes).map(convert::put)),
        2 => drop(request::<wire::DeleteRangeRequest>(bytes).map(convert::delete)),
        3..=5 => txn(bytes),
        6 => compaction(bytes),
        7 => drop(request::<wire::WatchRequest>(bytes)),
        8 => drop(request::<wire::LeaseGrantRequest>(bytes)),
        9 => drop(request::<wire::LeaseRevokeRequest>(bytes)),
        10 => drop(request::<wire::LeaseKeepAliveRequest>(bytes)),
        11 => drop(request::<wire::LeaseTimeToLiveRequest>(bytes)),
        12 => drop(request::<wire::AlarmRequest>(bytes)),
        13 => drop(request::<wire::HashKvRequest>(bytes)),
        14 => drop(request::<wire::MemberListRequest>(bytes)),
        _ => drop(request::<wire::Compare>(bytes)),
    }
}

/// A request, which is the same after it was written and read again.
fn request<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let written = message.encode_to_vec();
    let again = M::decode(written.as_slice()).expect("what is written reads back");
    assert!(again == message, "it reads back as {again:?} instead of {message:?}");
    Some(message)
}

fn ranges(bytes: &[u8]) {
    let Some(request) = request::<wire::RangeRequest>(bytes) else { return };
    let streamed = convert::range_stream(request.clone());
    let Ok(op) = convert::range(request.clone()) else {
        assert!(streamed.is_err(), "a stream refuses all that a range refuses");
        return;
    };
    assert_eq!(op.revision == ReadRevision::Latest, request.revision <= 0);
    assert_eq!(op.limit as i64, request.limit.max(0));
    assert!(!op.range.start().is_empty());
    if let Ok(streamed) = streamed {
        assert!(streamed.is_plain());
    }
}

fn compaction(bytes: &[u8]) {
    let Some(request) = request::<wire::CompactionRequest>(bytes) else { return };
    let number = request.revision;
    assert_eq!(convert::compaction(request).ok(), (number >= 0).then(|| Revision::new(number.max(0))));
}

fn txn(bytes: &[u8]) {
    let Some(request) = request::<wire::TxnRequest>(bytes) else { return };
    if let Ok(txn) = convert::txn(request, OPS_MAX) {
        check_bounds(&txn, OPS_MAX, convert::TXN_DEPTH_MAX);
    }
}

/// No transaction in it is larger or deeper than it may be.
fn check_bounds(txn: &Txn, ops_left: usize, depth_left: usize) {
    let used = txn.success.len().max(txn.failure.len()).max(txn.compares.len());
    assert!(used <= ops_left && depth_left > 0);
    for op in txn.success.iter().chain(&txn.failure) {
        if let Op::Txn(nested) = op {
            check_bounds(nested, ops_left - used, depth_left - 1);
        }
    }
}
