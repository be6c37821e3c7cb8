use proto::etcdserverpb::PutRequest;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::{RangeRequest, TxnRequest};
use server::Config;
use tonic::Code;

use crate::harness::{TestServer, all, op, put_of, range_of, refused};

const TOO_LARGE: &str = "etcdserver: request is too large";

#[tokio::test]
async fn a_request_over_the_limit_is_refused_in_the_words_that_kubernetes_knows() {
    let server = TestServer::start().await;
    let sized = |len: usize| put_of("k", &"v".repeat(len));
    // etcd counts the key, the fields and its own envelope too.
    server.try_put(sized(1536 * 1024 - 32)).await.unwrap();
    for len in [1536 * 1024, 1_600_000, 2_000_000] {
        let answer = refused(server.try_put(sized(len)).await);
        assert_eq!(answer, (Code::InvalidArgument, TOO_LARGE.to_owned()), "{len} bytes");
    }
    let txn =
        TxnRequest { success: vec![op(Request::RequestPut(sized(1_600_000)))], ..TxnRequest::default() };
    assert_eq!(refused(server.txn(txn).await).1, TOO_LARGE);
    assert_eq!(server.range(range_of("k", "")).await.unwrap().kvs[0].version, 1);
    server.stop().await;
}

#[tokio::test]
async fn a_message_far_over_the_limit_is_not_even_read() {
    let server = TestServer::start().await;
    let put = put_of("k", &"v".repeat(3 << 20));
    let len = prost::Message::encoded_len(&put);
    let text = format!("grpc: received message larger than max ({len} vs. {})", 2 << 20);
    assert_eq!(refused(server.try_put(put).await), (Code::ResourceExhausted, text));
    server.put("k", "the connection goes on").await;
    server.stop().await;
}

#[tokio::test]
async fn a_smaller_limit_can_be_set() {
    let server = TestServer::start_with(Config { max_request_bytes: 1000, ..Config::default() }).await;
    assert_eq!(refused(server.try_put(put_of("k", &"v".repeat(1000))).await).1, TOO_LARGE);
    server.put("k", &"v".repeat(900)).await;
    server.stop().await;
}

#[tokio::test]
async fn an_answer_may_be_larger_than_any_request() {
    let server = TestServer::start().await;
    for n in 0..8 {
        server.put(&format!("k{n}"), &"v".repeat(1_000_000)).await;
    }
    let range = server.range(all()).await.unwrap();
    assert_eq!(range.kvs.iter().map(|kv| kv.value.len()).sum::<usize>(), 8_000_000);
    server.stop().await;
}

#[tokio::test]
async fn bytes_come_back_as_they_were_put() {
    let server = TestServer::start().await;
    let odd: Vec<u8> = (0..=255).collect();
    let put = PutRequest { key: odd.clone().into(), value: Vec::new().into(), ..PutRequest::default() };
    server.try_put(put).await.unwrap();
    let put = PutRequest { key: vec![0].into(), value: odd.clone().into(), ..PutRequest::default() };
    server.try_put(put).await.unwrap();
    let range =
        server.range(RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..range_of("", "") });
    let kvs = range.await.unwrap().kvs;
    assert_eq!((kvs[0].key.as_ref(), kvs[0].value.as_ref()), ([0].as_slice(), odd.as_slice()));
    assert_eq!((kvs[1].key.as_ref(), kvs[1].value.as_ref()), (odd.as_slice(), [].as_slice()));
    server.stop().await;
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented_in_the_words_of_go() {
    use tonic::codegen::http::uri::PathAndQuery;

    let server = TestServer::start().await;
    for (path, text) in [
        ("/etcdserverpb.KV/Frobnicate", "unknown method Frobnicate for service etcdserverpb.KV"),
        ("/v3lockpb.Lock/Lock", "unknown service v3lockpb.Lock"),
    ] {
        let mut client = tonic::client::Grpc::new(server.channel());
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<RangeRequest, RangeRequest>::default();
        let path = PathAndQuery::from_static(path);
        let answer = client.unary(tonic::Request::new(RangeRequest::default()), path, codec).await;
        assert_eq!(refused(answer), (Code::Unimplemented, text.to_owned()));
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_message_is_refused_and_the_connection_goes_on() {
    use prost::Message;
    use tonic::codegen::http::uri::PathAndQuery;

    /// A message that the server reads as another: its field 1, a key to the server, is a number here.
    #[derive(Clone, PartialEq, Message)]
    struct Malformed {
        #[prost(int64, tag = "1")]
        key: i64,
    }

    let server = TestServer::start().await;
    let mut client = tonic::client::Grpc::new(server.channel());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<Malformed, Malformed>::default();
    let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
    let (code, text) = refused(client.unary(tonic::Request::new(Malformed { key: 7 }), path, codec).await);
    assert_eq!(code, Code::Internal);
    assert!(text.starts_with("failed to decode Protobuf message: PutRequest.key"), "{text}");
    server.put("k", "v").await;
    server.stop().await;
}
