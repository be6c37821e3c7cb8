use model::{Change, ChangeKind, Key, KeyMeta, LeaseId};
use proto::etcdserverpb as plain;
use proto::mvccpb::{self, KeyValue};

use super::*;

const IDENTITY: Identity = Identity { cluster_id: 7, member_id: 8, raft_term: 9 };
const AT: Revision = Revision::new(12);

fn key_value(key: &'static str) -> KeyValue {
    KeyValue { key: key.into(), value: "v".into(), mod_revision: 3, ..KeyValue::default() }
}

fn encoded(key: &'static str) -> Bytes {
    key_value(key).encode_to_vec().into()
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { cluster_id: 7, member_id: 8, revision, raft_term: 9 })
}

fn outcome(ops: Vec<OpOutcome>) -> TxnOutcome {
    TxnOutcome { revision: AT, branch: BranchOutcome { succeeded: true, ops } }
}

/// A client, who knows the plain messages only, reads `expected` from what is sent.
fn check<M: Message + Default + PartialEq + std::fmt::Debug>(sent: impl Message, expected: M) {
    assert_eq!(M::decode(sent.encode_to_vec().as_slice()).unwrap(), expected);
}

#[test]
fn a_range_is_answered_with_the_stored_versions() {
    let read = RangeOutcome { versions: vec![encoded("a"), encoded("b")], more: true, count: 5 };
    let expected = plain::RangeResponse {
        header: header(12),
        kvs: vec![key_value("a"), key_value("b")],
        more: true,
        count: 5,
    };
    check(range(IDENTITY.header(AT), read), expected);
}

#[test]
fn a_put_is_answered_with_the_version_that_it_replaced_if_there_was_one() {
    for previous in [None, Some("a")] {
        let op = OpOutcome::Put { revision: AT, previous: previous.map(encoded) };
        let expected = plain::PutResponse { header: header(12), prev_kv: previous.map(key_value) };
        check(put(&IDENTITY, outcome(vec![op])), expected);
    }
}

#[test]
fn a_deletion_is_answered_with_the_number_and_the_versions() {
    let op = OpOutcome::Delete { revision: AT, deleted: 2, previous: vec![encoded("a"), encoded("b")] };
    let expected = plain::DeleteRangeResponse {
        header: header(12),
        deleted: 2,
        prev_kvs: vec![key_value("a"), key_value("b")],
    };
    check(delete(&IDENTITY, outcome(vec![op])), expected);
}

#[test]
fn inside_a_transaction_headers_have_the_revision_alone_and_those_of_nested_ones_nothing() {
    let inner = |revision| Some(ResponseHeader { revision, ..ResponseHeader::default() });
    let read = RangeOutcome { versions: vec![encoded("a")], more: false, count: 1 };
    let sent = txn(
        &IDENTITY,
        outcome(vec![
            OpOutcome::Range { revision: Revision::new(11), outcome: read },
            OpOutcome::Put { revision: AT, previous: None },
            OpOutcome::Txn(BranchOutcome {
                succeeded: false,
                ops: vec![OpOutcome::Delete { revision: AT, deleted: 0, previous: Vec::new() }],
            }),
        ]),
    );
    use plain::response_op::Response;
    let range = plain::RangeResponse { header: inner(11), kvs: vec![key_value("a")], more: false, count: 1 };
    let delete = plain::DeleteRangeResponse { header: inner(12), ..Default::default() };
    let nested = plain::TxnResponse {
        header: Some(ResponseHeader::default()),
        succeeded: false,
        responses: vec![plain::ResponseOp { response: Some(Response::ResponseDeleteRange(delete)) }],
    };
    let responses = [
        Response::ResponseRange(range),
        Response::ResponsePut(plain::PutResponse { header: inner(12), prev_kv: None }),
        Response::ResponseTxn(nested),
    ];
    let responses = responses.map(|response| plain::ResponseOp { response: Some(response) }).to_vec();
    check(sent, plain::TxnResponse { header: header(12), succeeded: true, responses });
}

#[test]
fn an_event_shows_the_stored_version_and_the_one_before_it() {
    let meta = KeyMeta {
        create_revision: Revision::new(2),
        mod_revision: AT,
        version: 2,
        lease: LeaseId::NONE,
        value_len: 1,
    };
    for (kind, wire) in [(ChangeKind::Put(meta), EventType::Put), (ChangeKind::Delete, EventType::Delete)] {
        let change = Change { revision: AT, key: Key::new("a").unwrap(), kind, previous: Revision::new(2) };
        let changed = Event::new(change, encoded("a"));
        for previous in [None, Some("b")] {
            let sent = event(&changed, previous.map(encoded));
            let expected = mvccpb::Event {
                r#type: wire.into(),
                kv: Some(key_value("a")),
                prev_kv: previous.map(key_value),
            };
            assert_eq!(mvccpb::Event::decode(sent).unwrap(), expected);
        }
    }
}
