//! Clients that take more than their share, while another goes on.

use std::time::Duration;

use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use server::{ClientLimits, Config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_stream::StreamExt;
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::{TestServer, all, eventually, put_of, refused};

/// In which the server looks at its connections.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);

fn limited(change: impl FnOnce(&mut ClientLimits)) -> Config {
    let mut config = Config::default();
    change(&mut config.client_limits);
    config
}

async fn counted(server: &TestServer, name: &str) -> u64 {
    let (_, metrics) = server.get("/metrics").await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().parse().unwrap()
}

async fn cut(server: &TestServer) -> u64 {
    counted(server, "orlop_client_connections_cut_total").await
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_for_a_minute_is_cut_off() {
    let server = TestServer::start().await;
    for n in 0..8 {
        server.put(&format!("k{n}"), &"v".repeat(1_000_000)).await;
    }
    let url = format!("http://{}", server.address);
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    let mut slow = proto::etcdserverpb::kv_client::KvClient::new(channel)
        .max_decoding_message_size(usize::MAX)
        .range_stream(all())
        .await
        .unwrap()
        .into_inner();
    assert!(slow.next().await.unwrap().is_ok(), "it has begun, and reads no further");
    // An idle watch waits for the server, not the server for it.
    let (requests, stream) = tokio::sync::mpsc::channel(1);
    let create = WatchCreateRequest { key: "a".into(), ..WatchCreateRequest::default() };
    let create = RequestUnion::CreateRequest(create);
    requests.send(WatchRequest { request_union: Some(create) }).await.unwrap();
    let mut idle =
        server.watch().watch(tokio_stream::wrappers::ReceiverStream::new(stream)).await.unwrap().into_inner();
    assert!(idle.next().await.unwrap().unwrap().created);

    server.clock.advance(LOOK_INTERVAL * 3);
    assert_eq!(cut(&server).await, 0);
    eventually(async || {
        server.clock.advance(LOOK_INTERVAL);
        (cut(&server).await == 1).then_some(())
    })
    .await;
    let error = loop {
        match slow.next().await.unwrap() {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!([Code::Unknown, Code::Unavailable, Code::Internal].contains(&error.code()), "{error}");
    server.put("a", "others go on").await;
    assert_eq!(idle.next().await.unwrap().unwrap().events.len(), 1);
    drop((requests, idle));
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_cut_off_and_one_that_idles_is_not() {
    let server = TestServer::start().await;
    server.put("a", "its connection idles from now on").await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut read = [0; 1];
    let ended = tokio::spawn(async move { silent.read(&mut read).await });
    eventually(async || {
        server.clock.advance(LOOK_INTERVAL);
        (cut(&server).await == 1).then_some(())
    })
    .await;
    assert_eq!(ended.await.unwrap().unwrap(), 0);
    server.put("a", "others go on").await;
    server.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    // One is the test's own.
    let server = TestServer::start_with(limited(|limits| limits.connections_per_client_max = 3)).await;
    let connect = async || {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let asked = stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut answer = [0; 15];
        asked.ok()?;
        (stream.read_exact(&mut answer).await.is_ok() && &answer == b"HTTP/1.1 200 OK").then_some(stream)
    };
    let held = [connect().await.unwrap(), connect().await.unwrap()];
    for _ in 0..10 {
        assert!(connect().await.is_none());
    }
    server.put("a", "others go on").await;
    drop(held);
    eventually(connect).await;
    let refused = eventually(async || Some(counted(&server, "orlop_client_connections_refused_total").await));
    assert!(refused.await >= 10);
    server.stop().await;
}

#[tokio::test]
async fn calls_beyond_the_limit_are_refused_and_have_not_happened() {
    let server = TestServer::start_with(limited(|limits| limits.calls_per_client_max = 2)).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let (sender, requests) = tokio::sync::mpsc::channel::<WatchRequest>(1);
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        held.push((sender, server.watch().watch(requests).await.unwrap().into_inner()));
    }
    let expected = (Code::ResourceExhausted, "etcdserver: too many requests".to_owned());
    assert_eq!(refused(server.try_put(put_of("a", "1")).await), expected);
    held.pop();
    eventually(async || server.try_put(put_of("a", "2")).await.ok()).await;
    assert_eq!(server.pairs(all()).await, [("a".to_owned(), "2".to_owned())]);
    assert!(counted(&server, "orlop_client_calls_refused_total").await >= 1);
    drop(held);
    server.stop().await;
}

#[tokio::test]
async fn who_does_not_take_its_answers_gets_no_further_ones() {
    let server = TestServer::start_with(limited(|limits| limits.bytes_per_client_max = 20 << 20)).await;
    for n in 0..8 {
        server.put(&format!("k{n}"), &"v".repeat(1_000_000)).await;
    }
    let url = format!("http://{}", server.address);
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    let (mut held, mut error) = (Vec::new(), None);
    while error.is_none() {
        // Answered with all keys, of which the client takes what fits into its window, and no more.
        let mut call = tonic::client::Grpc::new(channel.clone());
        call.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<_, proto::etcdserverpb::RangeResponse>::default();
        let path = tonic::codegen::http::uri::PathAndQuery::from_static("/etcdserverpb.KV/Range");
        match call.server_streaming(tonic::Request::new(all()), path, codec).await {
            Ok(answer) => held.push(answer),
            Err(status) => error = Some(status),
        }
    }
    assert_eq!(error.unwrap().message(), "etcdserver: too many requests");
    assert!((2..=5).contains(&held.len()), "{} answers of 8 MB within 20 MiB", held.len());
    drop(held);
    eventually(async || server.try_put(put_of("a", "1")).await.ok()).await;
    server.stop().await;
}
