//! Responses whose keys and events are bytes that are encoded already.
//!
//! protobuf writes an embedded message exactly as it writes a bytes field that holds the message's encoding. So a
//! field declared as bytes here takes a stored `mvccpb.KeyValue`, or an event that is encoded once for all its
//! watchers, and costs one copy. Whoever fills such a field promises that the bytes are a valid encoding of the
//! message named at the field: nothing checks it on the way out.
//!
//! Numbers and order of the fields are those of `proto/`; see there for what each one means.

use bytes::Bytes;

use crate::etcdserverpb::ResponseHeader;
use crate::mvccpb::event::EventType;

/// An `etcdserverpb.RangeResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RangeResponse {
    /// Who answered, and at which revision.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// The keys, each an encoded `mvccpb.KeyValue`.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub kvs: Vec<Bytes>,
    /// The limit left keys out.
    #[prost(bool, tag = "3")]
    pub more: bool,
    /// How many keys the range has.
    #[prost(int64, tag = "4")]
    pub count: i64,
}

/// An `etcdserverpb.RangeStreamResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RangeStreamResponse {
    /// The piece.
    #[prost(message, optional, tag = "1")]
    pub range_response: Option<RangeResponse>,
}

/// An `etcdserverpb.PutResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PutResponse {
    /// Who answered, and at which revision.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// The version that was replaced, an encoded `mvccpb.KeyValue`.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub prev_kv: Option<Bytes>,
}

/// An `etcdserverpb.DeleteRangeResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeleteRangeResponse {
    /// Who answered, and at which revision.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// How many keys were deleted.
    #[prost(int64, tag = "2")]
    pub deleted: i64,
    /// The versions that were deleted, each an encoded `mvccpb.KeyValue`.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub prev_kvs: Vec<Bytes>,
}

/// An `etcdserverpb.ResponseOp`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResponseOp {
    /// The answer to the operation.
    #[prost(oneof = "Response", tags = "1, 2, 3, 4")]
    pub response: Option<Response>,
}

/// The union of an `etcdserverpb.ResponseOp`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Response {
    /// To a read.
    #[prost(message, tag = "1")]
    ResponseRange(RangeResponse),
    /// To a put.
    #[prost(message, tag = "2")]
    ResponsePut(PutResponse),
    /// To a deletion.
    #[prost(message, tag = "3")]
    ResponseDeleteRange(DeleteRangeResponse),
    /// To a transaction inside the transaction.
    #[prost(message, tag = "4")]
    ResponseTxn(TxnResponse),
}

/// An `etcdserverpb.TxnResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TxnResponse {
    /// Who answered, and at which revision.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// All conditions held.
    #[prost(bool, tag = "2")]
    pub succeeded: bool,
    /// One answer per operation that ran, in their order.
    #[prost(message, repeated, tag = "3")]
    pub responses: Vec<ResponseOp>,
}

/// An `etcdserverpb.WatchResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WatchResponse {
    /// Who answered, and how far the watcher has come.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// The watcher.
    #[prost(int64, tag = "2")]
    pub watch_id: i64,
    /// The answer to a creation.
    #[prost(bool, tag = "3")]
    pub created: bool,
    /// The watcher has ended.
    #[prost(bool, tag = "4")]
    pub canceled: bool,
    /// The oldest revision that can be watched, if the watcher ended because what it asked for is compacted.
    #[prost(int64, tag = "5")]
    pub compact_revision: i64,
    /// Why the watcher ended, for people.
    #[prost(string, tag = "6")]
    pub cancel_reason: String,
    /// More of the same revision follows.
    #[prost(bool, tag = "7")]
    pub fragment: bool,
    /// The changes, each an encoded `mvccpb.Event`: [`Event`] makes one.
    #[prost(bytes = "bytes", repeated, tag = "11")]
    pub events: Vec<Bytes>,
}

/// An `mvccpb.Event`, to be encoded once and then put into the responses of all its watchers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Event {
    /// What happened.
    #[prost(enumeration = "EventType", tag = "1")]
    pub r#type: i32,
    /// The version that the change left, an encoded `mvccpb.KeyValue`.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub kv: Option<Bytes>,
    /// The version before the change, an encoded `mvccpb.KeyValue`.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub prev_kv: Option<Bytes>,
}

/// An `orlop.peer.v1.FollowResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FollowResponse {
    /// What was published next, an encoded `orlop.peer.v1.Batch`: encoded once for all that follow.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub batch: Option<Bytes>,
    /// History was given up below this revision.
    #[prost(int64, optional, tag = "2")]
    pub compacted: Option<i64>,
    /// What was published before the stream began.
    #[prost(int64, optional, tag = "3")]
    pub published: Option<i64>,
    /// Who owns the partitions from now on.
    #[prost(message, optional, tag = "4")]
    pub owners: Option<crate::peer::Owners>,
}

#[cfg(test)]
mod tests;
