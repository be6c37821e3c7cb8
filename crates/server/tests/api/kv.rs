use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, ResponseHeader, TxnRequest,
};
use proto::mvccpb::KeyValue;
use tonic::Code;

use crate::harness::{TestServer, all, op, pairs, put_of, range_of, refused};

fn mod_revision_is(key: &str, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.to_owned().into(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Compare::default()
    }
}

#[tokio::test]
async fn an_empty_store_is_at_revision_1_and_its_first_write_gets_2() {
    let server = TestServer::start().await;
    let empty = server.range(range_of("a", "")).await.unwrap();
    let header = empty.header.unwrap();
    assert_eq!((header.revision, empty.count, empty.kvs.len()), (1, 0, 0));
    assert!(header.cluster_id != 0 && header.member_id == 1 && header.raft_term >= 1);
    assert_eq!(server.put("a", "1").await.header.unwrap().revision, 2);
    server.stop().await;
}

#[tokio::test]
async fn a_key_tells_its_revisions_its_version_and_what_it_replaced() {
    let server = TestServer::start().await;
    server.put("a", "1").await;
    server.put("b", "x").await;
    let put = server.try_put(PutRequest { prev_kv: true, ..put_of("a", "2") }).await.unwrap();
    let before = KeyValue {
        key: "a".into(),
        value: "1".into(),
        create_revision: 2,
        mod_revision: 2,
        version: 1,
        lease: 0,
    };
    assert_eq!(put.prev_kv.unwrap(), before);
    let now = server.range(range_of("a", "")).await.unwrap();
    assert_eq!(now.kvs, [KeyValue { value: "2".into(), mod_revision: 4, version: 2, ..before.clone() }]);
    let then = server.range(RangeRequest { revision: 3, ..range_of("a", "") }).await.unwrap();
    assert_eq!(then.kvs, [before]);
    assert_eq!(then.header.unwrap().revision, 4, "the header tells the newest revision");
    server.stop().await;
}

#[tokio::test]
async fn a_list_is_cut_at_its_limit_and_counts_all() {
    let server = TestServer::start().await;
    for name in ["a", "b", "c", "d"] {
        server.put(name, name).await;
    }
    let first = server.range(RangeRequest { limit: 3, ..all() }).await.unwrap();
    assert_eq!((first.kvs.len(), first.more, first.count), (3, true, 4));
    let rest = RangeRequest { limit: 3, revision: 5, ..range_of("c\0", "\0") };
    let rest = server.range(rest).await.unwrap();
    assert_eq!((pairs(&rest), rest.more, rest.count), (vec![("d".into(), "d".into())], false, 1));
    let count = server.range(RangeRequest { count_only: true, ..all() }).await.unwrap();
    assert_eq!((count.kvs.len(), count.more, count.count), (0, false, 4));
    let keys = server.range(RangeRequest { keys_only: true, ..range_of("a", "b") }).await.unwrap();
    assert_eq!((keys.kvs[0].value.len(), keys.kvs[0].mod_revision), (0, 2));
    server.stop().await;
}

#[tokio::test]
async fn a_deletion_tells_what_it_deleted_and_one_of_nothing_takes_no_revision() {
    let server = TestServer::start().await;
    for name in ["a", "b", "c"] {
        server.put(name, name).await;
    }
    let delete = |key: &str, end: &str| DeleteRangeRequest {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        prev_kv: true,
    };
    let deleted = server.kv().delete_range(delete("a", "c")).await.unwrap().into_inner();
    assert_eq!((deleted.header.unwrap().revision, deleted.deleted, deleted.prev_kvs.len()), (5, 2, 2));
    let nothing = server.kv().delete_range(delete("a", "c")).await.unwrap().into_inner();
    assert_eq!((nothing.header.unwrap().revision, nothing.deleted), (5, 0));
    assert_eq!(server.pairs(all()).await, [("c".into(), "c".into())]);
    server.stop().await;
}

#[tokio::test]
async fn a_transaction_that_fails_its_compare_reads_the_present_key() {
    let server = TestServer::start().await;
    server.put("a", "1").await;
    let update = |revision, value| TxnRequest {
        compare: vec![mod_revision_is("a", revision)],
        success: vec![op(Request::RequestPut(put_of("a", value)))],
        failure: vec![op(Request::RequestRange(range_of("a", "")))],
    };
    let won = server.txn(update(2, "2")).await.unwrap();
    assert!(won.succeeded);
    assert_eq!(won.header.unwrap().revision, 3);
    let lost = server.txn(update(2, "3")).await.unwrap();
    assert!(!lost.succeeded);
    assert_eq!(lost.header.unwrap().revision, 3);
    let Some(Response::ResponseRange(range)) = &lost.responses[0].response else { panic!("a range answers") };
    assert_eq!(pairs(range), [("a".into(), "2".into())]);
    let inner = range.header.unwrap();
    assert_eq!(inner, ResponseHeader { revision: 3, ..ResponseHeader::default() }, "as in etcd");
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_in_etcds_words() {
    let server = TestServer::start().await;
    let check = |(code, text): (Code, String), expected_code, expected_text: &str| {
        assert_eq!((code, text.as_str()), (expected_code, expected_text));
    };
    let invalid = Code::InvalidArgument;
    check(refused(server.range(range_of("", "")).await), invalid, "etcdserver: key is not provided");
    check(refused(server.try_put(put_of("", "x")).await), invalid, "etcdserver: key is not provided");
    let future = server.range(RangeRequest { revision: 9, ..range_of("a", "") }).await;
    let text = "etcdserver: mvcc: required revision is a future revision";
    check(refused(future), Code::OutOfRange, text);
    let on_lease = server.try_put(PutRequest { lease: 77, ..put_of("a", "x") }).await;
    check(refused(on_lease), Code::NotFound, "etcdserver: requested lease not found");
    let keep = server.try_put(PutRequest { ignore_value: true, ..put_of("a", "") }).await;
    check(refused(keep), invalid, "etcdserver: key not found");
    let twice = vec![op(Request::RequestPut(put_of("a", "1"))), op(Request::RequestPut(put_of("a", "2")))];
    let twice = server.txn(TxnRequest { success: twice, ..TxnRequest::default() }).await;
    check(refused(twice), invalid, "etcdserver: duplicate key given in txn request");
    let many = (0..129).map(|n| op(Request::RequestPut(put_of(&format!("k{n}"), "")))).collect();
    let many = server.txn(TxnRequest { success: many, ..TxnRequest::default() }).await;
    check(refused(many), invalid, "etcdserver: too many operations in txn request");
    assert_eq!(server.revision().await, 1, "nothing of it happened");
    server.stop().await;
}

#[tokio::test]
async fn a_compaction_gives_up_what_lies_below_it() {
    let server = TestServer::start().await;
    for value in ["1", "2", "3"] {
        server.put("a", value).await;
    }
    let compact = |revision| CompactionRequest { revision, physical: true };
    let compacted = server.kv().compact(compact(3)).await.unwrap().into_inner();
    assert_eq!(compacted.header.unwrap().revision, 4);
    let at = |revision| RangeRequest { revision, ..range_of("a", "") };
    assert_eq!(server.pairs(at(3)).await, [("a".into(), "2".into())], "the compacted revision itself stays");
    let text = "etcdserver: mvcc: required revision has been compacted".to_owned();
    assert_eq!(refused(server.range(at(2)).await), (Code::OutOfRange, text.clone()));
    assert_eq!(refused(server.kv().compact(compact(3)).await), (Code::OutOfRange, text));
    let text = "etcdserver: mvcc: required revision is a future revision".to_owned();
    assert_eq!(refused(server.kv().compact(compact(99)).await), (Code::OutOfRange, text));
    server.stop().await;
}

#[tokio::test]
async fn a_restart_changes_nothing_that_was_acknowledged() {
    let server = TestServer::start().await;
    server.put("a", "1").await;
    server.put("b", "2").await;
    let before = server.range(all()).await.unwrap();
    let server = server.restart().await;
    let after = server.range(all()).await.unwrap();
    assert_eq!((after.kvs, after.count), (before.kvs, before.count));
    let (before, after) = (before.header.unwrap(), after.header.unwrap());
    assert_eq!((after.cluster_id, after.revision), (before.cluster_id, before.revision));
    assert!(after.raft_term > before.raft_term);
    server.stop().await;
}
