//! The requests of the loads, in the shapes that kube-apiserver sends, and their keys.

use bytes::Bytes;
use proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
    WatchRequest, compare, compare::TargetUnion, request_op::Request, watch_request::RequestUnion,
};

/// A kind of object: what all of its keys begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kind(pub(crate) &'static str);

/// What every key begins with: a name that nothing else has, as it is emptied where a store cannot be new.
const ALL: Kind = Kind("/benchreg/");
/// Pods, which most loads are made of.
pub(crate) const PODS: Kind = Kind("/benchreg/pods/");
/// What clients update while something else is measured.
pub(crate) const OTHERS: Kind = Kind("/benchreg/cfgs/");
/// The leases of nodes.
pub(crate) const LEASES: Kind = Kind("/benchreg/leas/");
/// Objects that expire.
pub(crate) const EVENTS: Kind = Kind("/benchreg/evts/");

impl Kind {
    /// The key of an object: 70 bytes. Neighbours in number are not neighbours in order.
    pub(crate) fn key(self, number: u64) -> Bytes {
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("{}namespace-{:04}/bench-{spread:016x}-{number:017}", self.0, spread % 1000).into()
    }

    /// The first key, and the end of all keys.
    pub(crate) fn bounds(self) -> (Bytes, Bytes) {
        let end = self.0.strip_suffix('/').unwrap_or(self.0);
        // The byte after the slash.
        (Bytes::from_static(self.0.as_bytes()), format!("{end}0").into())
    }
}

/// A value of so many bytes, the same for every object: no store of these compresses.
pub(crate) fn value(bytes: usize) -> Bytes {
    // Not all the same byte, so that a file system that compresses does not save it all.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(byte).take(bytes).collect::<Vec<u8>>().into()
}

/// kube-apiserver's creation: put if the key does not exist.
pub(crate) fn create(key: Bytes, value: Bytes, lease: i64) -> TxnRequest {
    let put = PutRequest { key: key.clone(), value, lease, ..PutRequest::default() };
    TxnRequest {
        compare: vec![revision_is(key, 0)],
        success: vec![op(Request::RequestPut(put))],
        failure: vec![],
    }
}

/// kube-apiserver's update: put if the revision is still the one that was read, else read.
pub(crate) fn update(key: Bytes, value: Bytes, revision: i64) -> TxnRequest {
    let put = PutRequest { key: key.clone(), value, ..PutRequest::default() };
    conditional(key, revision, Request::RequestPut(put))
}

/// kube-apiserver's deletion: delete if the revision is still the one that was read, else read.
pub(crate) fn delete(key: Bytes, revision: i64) -> TxnRequest {
    let delete = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
    conditional(key, revision, Request::RequestDeleteRange(delete))
}

/// The deletion of everything that any load writes.
pub(crate) fn delete_all() -> DeleteRangeRequest {
    let (key, range_end) = ALL.bounds();
    DeleteRangeRequest { key, range_end, ..DeleteRangeRequest::default() }
}

/// One transaction with many puts, which fills a store faster than single ones.
pub(crate) fn fill(puts: impl Iterator<Item = (Bytes, Bytes)>) -> TxnRequest {
    let success = puts
        .map(|(key, value)| op(Request::RequestPut(PutRequest { key, value, ..PutRequest::default() })))
        .collect();
    TxnRequest { compare: vec![], success, failure: vec![] }
}

/// A read of one key.
pub(crate) fn get(key: Bytes) -> RangeRequest {
    RangeRequest { key, ..RangeRequest::default() }
}

/// A watch of all keys of a kind, from a revision on (0: from now on).
pub(crate) fn watch(kind: Kind, start_revision: i64) -> WatchRequest {
    let (key, range_end) = kind.bounds();
    let create = WatchCreateRequest { key, range_end, start_revision, ..WatchCreateRequest::default() };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

fn conditional(key: Bytes, revision: i64, then: Request) -> TxnRequest {
    let read = op(Request::RequestRange(get(key.clone())));
    TxnRequest { compare: vec![revision_is(key, revision)], success: vec![op(then)], failure: vec![read] }
}

fn revision_is(key: Bytes, revision: i64) -> Compare {
    Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Mod.into(),
        key,
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Compare::default()
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_70_bytes_lie_in_their_kind_and_differ() {
        let (first, end) = PODS.bounds();
        let keys: std::collections::BTreeSet<Bytes> = (0..1000).map(|number| PODS.key(number)).collect();
        assert_eq!(keys.len(), 1000);
        assert!(keys.iter().all(|key| key.len() == 70 && *key > first && *key < end));
        assert!(LEASES.key(1).len() == 70 && EVENTS.key(1).len() == 70 && OTHERS.key(1).len() == 70);
    }

    #[test]
    fn a_value_has_the_bytes_that_were_asked_for_and_not_all_alike() {
        let value = value(512);
        assert_eq!(value.len(), 512);
        assert!(value.iter().collect::<std::collections::BTreeSet<_>>().len() > 64);
    }
}
