//! Every spliced response has the bytes of its plain twin, and reads back from them.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::etcdserverpb as plain;
use crate::etcdserverpb::response_op::Response as PlainResponse;
use crate::mvccpb;

/// The spliced twin of a plain message.
trait Splice: Message + Default + PartialEq + std::fmt::Debug {
    type Spliced: Message + Default + PartialEq;

    fn splice(&self) -> Self::Spliced;
}

impl Splice for crate::peer::FollowResponse {
    type Spliced = FollowResponse;

    fn splice(&self) -> FollowResponse {
        FollowResponse {
            batch: self.batch.as_ref().map(|batch| batch.encode_to_vec().into()),
            compacted: self.compacted,
            published: self.published,
            owners: self.owners.clone(),
        }
    }
}

fn encoded<M: Message>(messages: &[M]) -> Vec<Bytes> {
    messages.iter().map(|message| message.encode_to_vec().into()).collect()
}

impl Splice for plain::RangeResponse {
    type Spliced = RangeResponse;

    fn splice(&self) -> RangeResponse {
        RangeResponse { header: self.header, kvs: encoded(&self.kvs), more: self.more, count: self.count }
    }
}

impl Splice for plain::RangeStreamResponse {
    type Spliced = RangeStreamResponse;

    fn splice(&self) -> RangeStreamResponse {
        RangeStreamResponse { range_response: self.range_response.as_ref().map(Splice::splice) }
    }
}

impl Splice for plain::PutResponse {
    type Spliced = PutResponse;

    fn splice(&self) -> PutResponse {
        PutResponse {
            header: self.header,
            prev_kv: self.prev_kv.as_ref().map(|kv| kv.encode_to_vec().into()),
        }
    }
}

impl Splice for plain::DeleteRangeResponse {
    type Spliced = DeleteRangeResponse;

    fn splice(&self) -> DeleteRangeResponse {
        DeleteRangeResponse { header: self.header, deleted: self.deleted, prev_kvs: encoded(&self.prev_kvs) }
    }
}

impl Splice for plain::ResponseOp {
    type Spliced = ResponseOp;

    fn splice(&self) -> ResponseOp {
        let response = self.response.as_ref().map(|response| match response {
            PlainResponse::ResponseRange(it) => Response::ResponseRange(it.splice()),
            PlainResponse::ResponsePut(it) => Response::ResponsePut(it.splice()),
            PlainResponse::ResponseDeleteRange(it) => Response::ResponseDeleteRange(it.splice()),
            PlainResponse::ResponseTxn(it) => Response::ResponseTxn(it.splice()),
        });
        ResponseOp { response }
    }
}

impl Splice for plain::TxnResponse {
    type Spliced = TxnResponse;

    fn splice(&self) -> TxnResponse {
        TxnResponse {
            header: self.header,
            succeeded: self.succeeded,
            responses: self.responses.iter().map(Splice::splice).collect(),
        }
    }
}

impl Splice for plain::WatchResponse {
    type Spliced = WatchResponse;

    fn splice(&self) -> WatchResponse {
        WatchResponse {
            header: self.header,
            watch_id: self.watch_id,
            created: self.created,
            canceled: self.canceled,
            compact_revision: self.compact_revision,
            cancel_reason: self.cancel_reason.clone(),
            fragment: self.fragment,
            events: encoded(&self.events),
        }
    }
}

impl Splice for mvccpb::Event {
    type Spliced = Event;

    fn splice(&self) -> Event {
        Event {
            r#type: self.r#type,
            kv: self.kv.as_ref().map(|kv| kv.encode_to_vec().into()),
            prev_kv: self.prev_kv.as_ref().map(|kv| kv.encode_to_vec().into()),
        }
    }
}

fn check<M: Splice>(message: &M) {
    let (spliced, bytes) = (message.splice(), message.encode_to_vec());
    assert_eq!(spliced.encode_to_vec(), bytes, "{message:?}");
    assert_eq!(spliced.encoded_len(), bytes.len());
    assert!(M::Spliced::decode(bytes.as_slice()).unwrap() == spliced);
    assert!(M::decode(spliced.encode_to_vec().as_slice()).unwrap() == *message);
}

/// Zero, which is left out on the wire, as often as the numbers at the borders of the encoding.
fn number() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(1), Just(127), Just(128), Just(-1), Just(i64::MAX), any::<i64>()]
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![4 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 120..140)].prop_map(Bytes::from)
}

fn header() -> impl Strategy<Value = Option<ResponseHeader>> {
    let some = (any::<u64>(), any::<u64>(), number(), any::<u64>()).prop_map(
        |(cluster_id, member_id, revision, raft_term)| ResponseHeader {
            cluster_id,
            member_id,
            revision,
            raft_term,
        },
    );
    option::of(prop_oneof![1 => Just(ResponseHeader::default()), 3 => some])
}

fn key_value() -> impl Strategy<Value = mvccpb::KeyValue> {
    (bytes(), number(), number(), number(), bytes(), number()).prop_map(
        |(key, create_revision, mod_revision, version, value, lease)| mvccpb::KeyValue {
            key,
            create_revision,
            mod_revision,
            version,
            value,
            lease,
        },
    )
}

fn event() -> impl Strategy<Value = mvccpb::Event> {
    (0..3, option::of(key_value()), option::of(key_value())).prop_map(|(r#type, kv, prev_kv)| mvccpb::Event {
        r#type,
        kv,
        prev_kv,
    })
}

fn range() -> impl Strategy<Value = plain::RangeResponse> {
    (header(), vec(key_value(), 0..4), any::<bool>(), number())
        .prop_map(|(header, kvs, more, count)| plain::RangeResponse { header, kvs, more, count })
}

fn put() -> impl Strategy<Value = plain::PutResponse> {
    (header(), option::of(key_value())).prop_map(|(header, prev_kv)| plain::PutResponse { header, prev_kv })
}

fn delete() -> impl Strategy<Value = plain::DeleteRangeResponse> {
    (header(), number(), vec(key_value(), 0..4))
        .prop_map(|(header, deleted, prev_kvs)| plain::DeleteRangeResponse { header, deleted, prev_kvs })
}

fn txn() -> impl Strategy<Value = plain::TxnResponse> {
    let leaf = prop_oneof![
        Just(None),
        range().prop_map(|it| Some(PlainResponse::ResponseRange(it))),
        put().prop_map(|it| Some(PlainResponse::ResponsePut(it))),
        delete().prop_map(|it| Some(PlainResponse::ResponseDeleteRange(it))),
    ];
    let of = |ops: BoxedStrategy<Option<PlainResponse>>| {
        (header(), any::<bool>(), vec(ops.prop_map(|response| plain::ResponseOp { response }), 0..4))
            .prop_map(|(header, succeeded, responses)| plain::TxnResponse { header, succeeded, responses })
    };
    of(leaf
        .prop_recursive(3, 12, 4, move |inner| of(inner).prop_map(|it| Some(PlainResponse::ResponseTxn(it))))
        .boxed())
}

fn watch() -> impl Strategy<Value = plain::WatchResponse> {
    (header(), number(), any::<[bool; 3]>(), number(), ".{0,9}", vec(event(), 0..4)).prop_map(
        |(header, watch_id, [created, canceled, fragment], compact_revision, cancel_reason, events)| {
            let base = plain::WatchResponse { header, watch_id, created, canceled, ..Default::default() };
            plain::WatchResponse { compact_revision, cancel_reason, fragment, events, ..base }
        },
    )
}

proptest! {
    #[test]
    fn a_range_has_the_bytes_of_its_plain_twin(it in range()) {
        check(&it);
        check(&plain::RangeStreamResponse { range_response: Some(it) });
    }

    #[test]
    fn a_put_has_the_bytes_of_its_plain_twin(it in put()) {
        check(&it);
    }

    #[test]
    fn a_deletion_has_the_bytes_of_its_plain_twin(it in delete()) {
        check(&it);
    }

    #[test]
    fn a_transaction_has_the_bytes_of_its_plain_twin(it in txn()) {
        check(&it);
    }

    #[test]
    fn a_watch_response_has_the_bytes_of_its_plain_twin(it in watch()) {
        check(&it);
    }

    #[test]
    fn an_event_has_the_bytes_of_its_plain_twin(it in event()) {
        check(&it);
    }
}

#[test]
fn a_followed_batch_has_the_bytes_of_its_plain_twin() {
    use crate::peer;
    let event = peer::Event { previous: 3, deletes: true, key_value: Bytes::from_static(b"kv") };
    let batch = peer::Batch { after: 6, revision: 7, events: vec![event] };
    check(&peer::FollowResponse { batch: Some(batch), ..Default::default() });
    check(&peer::FollowResponse {
        batch: Some(peer::Batch::default()),
        compacted: Some(0),
        published: None,
        owners: None,
    });
    let member = Some(peer::Member { name: "a".to_owned(), ..peer::Member::default() });
    let owners = Some(peer::Owners { owners: vec![peer::Owner { partition: 3, member }] });
    check(&peer::FollowResponse { batch: None, compacted: Some(5), published: Some(7), owners });
}

#[test]
fn absent_and_empty_are_told_apart() {
    check(&plain::RangeStreamResponse::default());
    let put = |header, prev_kv| PutResponse { header, prev_kv }.encode_to_vec();
    assert_eq!(put(None, None), [0u8; 0]);
    assert_eq!(put(Some(ResponseHeader::default()), None), [0x0a, 0]);
    assert_eq!(put(None, Some(Bytes::new())), [0x12, 0]);
    let event = Event { prev_kv: Some(Bytes::new()), ..Default::default() };
    let read = mvccpb::Event::decode(event.encode_to_vec().as_slice()).unwrap();
    assert_eq!((read.kv, read.prev_kv), (None, Some(mvccpb::KeyValue::default())));
}
