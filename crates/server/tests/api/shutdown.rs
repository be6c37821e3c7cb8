use std::time::Duration;

use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{LeaseKeepAliveRequest, WatchCreateRequest, WatchRequest};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{TestServer, put_of};

#[tokio::test]
async fn streams_that_clients_hold_open_end_with_unavailable() {
    let server = TestServer::start().await;
    let (_keep_alives, stream) = mpsc::channel::<LeaseKeepAliveRequest>(1);
    let mut lease = server.lease();
    let mut keep_alive = lease.lease_keep_alive(ReceiverStream::new(stream)).await.unwrap().into_inner();
    let (watches, stream) = mpsc::channel(1);
    let create = WatchCreateRequest { key: "a".into(), ..WatchCreateRequest::default() };
    watches.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }).await.unwrap();
    let mut watch = server.watch().watch(ReceiverStream::new(stream)).await.unwrap().into_inner();
    assert!(watch.next().await.unwrap().unwrap().created);
    let check = HealthCheckRequest { service: String::new() };
    let mut health = HealthClient::new(server.channel()).watch(check).await.unwrap().into_inner();
    assert_eq!(health.next().await.unwrap().unwrap().status, 1);
    server.begin_stop();
    for status in [keep_alive.next().await.unwrap().unwrap_err(), watch.next().await.unwrap().unwrap_err()] {
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: server stopped"));
    }
    while let Some(answer) = health.next().await {
        if let Err(status) = answer {
            assert_eq!(status.code(), Code::Unavailable);
        }
    }
    server.ended().await;
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_the_server_up() {
    let server = TestServer::start().await;
    let _silent = TcpStream::connect(server.address).await.unwrap();
    server.put("a", "1").await;
    server.stop().await;
}

#[tokio::test]
async fn what_is_under_way_is_finished_before_the_server_ends() {
    let server = TestServer::start().await;
    for round in 0..20 {
        server.put(&format!("k{round}"), "x").await;
    }
    let puts: Vec<_> = (0..50)
        .map(|n| {
            let mut kv = server.kv();
            tokio::task::spawn(async move { kv.put(put_of(&format!("late{n}"), "x")).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let engine = server.engine.clone();
    server.begin_stop();
    let mut acknowledged = Vec::new();
    for (n, put) in puts.into_iter().enumerate() {
        match put.await.unwrap() {
            Ok(_) => acknowledged.push(format!("late{n}")),
            Err(status) => assert!(
                matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled),
                "{status:?}"
            ),
        }
    }
    server.ended().await;
    let server = TestServer::start_on(engine, server::Config::default()).await;
    let stored = server.pairs(crate::harness::all()).await;
    assert!(acknowledged.iter().all(|key| stored.iter().any(|(found, _)| found == key)));
    assert!(stored.len() >= 20);
    server.stop().await;
}

#[tokio::test]
async fn a_call_that_does_not_end_is_cut_in_the_end() {
    let server = TestServer::start().await;
    // Half a request: the server waits for the rest of its message.
    let (_open, stream) =
        mpsc::channel::<Result<http_body::Frame<bytes::Bytes>, std::convert::Infallible>>(1);
    let body = http_body_util::StreamBody::new(ReceiverStream::new(stream));
    let request = http::Request::post(format!("http://{}/etcdserverpb.KV/Put", server.address))
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::new(body))
        .unwrap();
    let mut channel = server.channel();
    let call = tokio::task::spawn(async move {
        std::future::poll_fn(|context| {
            tonic::codegen::Service::<http::Request<_>>::poll_ready(&mut channel, context)
        })
        .await
        .unwrap();
        tonic::codegen::Service::call(&mut channel, request).await
    });
    server.put("a", "1").await;
    server.begin_stop();
    let clock = server.clock.clone();
    let ended = tokio::task::spawn(server.ended());
    while !ended.is_finished() {
        clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    ended.await.unwrap();
    assert!(call.await.unwrap().is_err());
}
