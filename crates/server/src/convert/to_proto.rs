//! Answers and events, shaped as etcd shapes them.
//!
//! Versions of keys come as encoded `mvccpb.KeyValue`s and go out as they are.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use model::{Event, Revision};
use partition::{BranchOutcome, OpOutcome, RangeOutcome, TxnOutcome};
use prost::Message;
use proto::etcdserverpb::ResponseHeader;
use proto::mvccpb::event::EventType;
use proto::spliced::{
    DeleteRangeResponse, Event as WireEvent, PutResponse, RangeResponse, Response, ResponseOp, TxnResponse,
};

/// Who answers: what every header says beside the revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster, the same for ever.
    pub cluster_id: u64,
    /// The member that answers.
    pub member_id: u64,
    /// The term of the leader.
    pub raft_term: u64,
}

impl Identity {
    /// The header of an answer given at `revision`.
    pub fn header(&self, revision: Revision) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision: revision.get(),
            raft_term: self.raft_term,
        }
    }
}

/// The header of an answer inside a transaction's answer: etcd fills in the revision alone.
fn inner_header(revision: Revision) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision: revision.get(), ..ResponseHeader::default() })
}

/// The answer to a read.
pub fn range(header: ResponseHeader, outcome: RangeOutcome) -> RangeResponse {
    RangeResponse {
        header: Some(header),
        kvs: outcome.versions,
        more: outcome.more,
        count: number(outcome.count),
    }
}

/// The answer to a put that was a transaction of its own.
///
/// # Panics
/// When the outcome is not that of a single put, which is a mistake in this program.
pub fn put(identity: &Identity, outcome: TxnOutcome) -> PutResponse {
    let header = Some(identity.header(outcome.revision));
    let previous = only(outcome, |op| match op {
        OpOutcome::Put { previous, .. } => Some(previous),
        _ => None,
    });
    PutResponse { header, prev_kv: previous }
}

/// The answer to a deletion that was a transaction of its own.
///
/// # Panics
/// When the outcome is not that of a single deletion, which is a mistake in this program.
pub fn delete(identity: &Identity, outcome: TxnOutcome) -> DeleteRangeResponse {
    let header = Some(identity.header(outcome.revision));
    let (deleted, previous) = only(outcome, |op| match op {
        OpOutcome::Delete { deleted, previous, .. } => Some((deleted, previous)),
        _ => None,
    });
    DeleteRangeResponse { header, deleted: number(deleted), prev_kvs: previous }
}

fn only<T>(outcome: TxnOutcome, pick: impl FnOnce(OpOutcome) -> Option<T>) -> T {
    let op = outcome.branch.ops.into_iter().next();
    op.and_then(pick).expect("a transaction of one operation has the outcome of that operation")
}

/// The answer to a transaction.
pub fn txn(identity: &Identity, outcome: TxnOutcome) -> TxnResponse {
    branch(identity.header(outcome.revision), outcome.branch)
}

fn branch(header: ResponseHeader, outcome: BranchOutcome) -> TxnResponse {
    let responses =
        outcome.ops.into_iter().map(|outcome| ResponseOp { response: Some(op(outcome)) }).collect();
    TxnResponse { header: Some(header), succeeded: outcome.succeeded, responses }
}

fn op(outcome: OpOutcome) -> Response {
    match outcome {
        OpOutcome::Range { revision, outcome } => Response::ResponseRange(RangeResponse {
            header: inner_header(revision),
            kvs: outcome.versions,
            more: outcome.more,
            count: number(outcome.count),
        }),
        OpOutcome::Put { revision, previous } => {
            Response::ResponsePut(PutResponse { header: inner_header(revision), prev_kv: previous })
        }
        OpOutcome::Delete { revision, deleted, previous } => {
            Response::ResponseDeleteRange(DeleteRangeResponse {
                header: inner_header(revision),
                deleted: number(deleted),
                prev_kvs: previous,
            })
        }
        // The header of a nested transaction is there, but etcd leaves it empty.
        OpOutcome::Txn(nested) => Response::ResponseTxn(branch(ResponseHeader::default(), nested)),
    }
}

/// The encoded `mvccpb.Event`, worth sharing between its watchers: with `previous`, the encoded version that was
/// replaced, for those who ask for it, and without for the others.
pub fn event(event: &Event, previous: Option<Bytes>) -> Bytes {
    let kind = if event.is_delete() { EventType::Delete } else { EventType::Put };
    let event = WireEvent { r#type: kind.into(), kv: Some(event.key_value.clone()), prev_kv: previous };
    event.encode_to_vec().into()
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
