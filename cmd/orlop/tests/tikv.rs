//! The program on a TiKV cluster: one that the test starts, or the real one that `ORLOP_TEST_PD` names.
//! `cargo xtask test --only tikv-server,tikv` runs this.

#![cfg(feature = "cluster-tests")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod cluster;
mod program;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use base::{Clock, SystemClock};
use cluster::Cluster;
use program::{Program, output, text};
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest, WatchRequest};
use rustix::process::Signal;
use tonic::transport::Channel;
use tonic::{Code, Status};

const FREE_PORT: &str = "--listen-client-urls=http://127.0.0.1:0";

/// A server on the cluster, and a connection to it.
async fn serve(cluster: &Cluster) -> (Program, Channel) {
    let mut server = Program::start(&[FREE_PORT, "--engine=tikv", &cluster.endpoints(), &cluster.prefix()]);
    let url = format!("http://{}", server.address());
    (server, Channel::from_shared(url).unwrap().connect().await.unwrap())
}

async fn put(channel: &Channel, key: &str, value: &str) -> Result<i64, Status> {
    let request = PutRequest {
        key: key.as_bytes().to_vec().into(),
        value: value.as_bytes().to_vec().into(),
        ..PutRequest::default()
    };
    let response = KvClient::new(channel.clone()).put(request).await?.into_inner();
    Ok(response.header.unwrap().revision)
}

async fn get(channel: &Channel, key: &str) -> Option<String> {
    let request = RangeRequest { key: key.as_bytes().to_vec().into(), ..RangeRequest::default() };
    let response = KvClient::new(channel.clone()).range(request).await.unwrap().into_inner();
    response.kvs.first().map(|kv| String::from_utf8(kv.value.to_vec()).unwrap())
}

/// The values that the key was given from `revision` on, as many as are asked for.
async fn watched(channel: &Channel, key: &str, revision: i64, count: usize) -> Vec<String> {
    let create = WatchCreateRequest {
        key: key.as_bytes().to_vec().into(),
        start_revision: revision,
        ..WatchCreateRequest::default()
    };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = tokio_stream::StreamExt::chain(tokio_stream::once(create), tokio_stream::pending());
    let mut responses = WatchClient::new(channel.clone()).watch(requests).await.unwrap().into_inner();
    let mut values = Vec::new();
    while values.len() < count {
        for event in responses.message().await.unwrap().unwrap().events {
            values.push(String::from_utf8(event.kv.unwrap().value.to_vec()).unwrap());
        }
    }
    values
}

/// Status and body of what the address answers.
fn http(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// An address that nobody listens on now.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_stop_and_after_a_kill() {
    let cluster = Cluster::start();
    let (mut server, channel) = serve(&cluster).await;
    let mut revision = put(&channel, "a", "0").await.unwrap();
    let first = revision;
    for (round, signal) in [Signal::TERM, Signal::KILL, Signal::KILL, Signal::TERM].into_iter().enumerate() {
        server.signal(signal);
        server.end();
        let channel;
        (server, channel) = serve(&cluster).await;
        assert_eq!(get(&channel, "a").await, Some(round.to_string()), "after {signal:?}");
        let next = put(&channel, "a", &(round + 1).to_string()).await.unwrap();
        assert_eq!(next, revision + 1, "after {signal:?}");
        revision = next;
        let history = watched(&channel, "a", first, round + 2).await;
        assert_eq!(history, (0..round + 2).map(|value| value.to_string()).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_process_that_is_killed_while_it_writes_loses_nothing_that_it_acknowledged() {
    let cluster = Cluster::start();
    let (server, channel) = serve(&cluster).await;
    let writing = async {
        let mut acknowledged = 0;
        while put(&channel, &format!("k{acknowledged:04}"), "1").await.is_ok() {
            acknowledged += 1;
            if acknowledged == 30 {
                server.signal(Signal::KILL);
            }
        }
        acknowledged
    };
    let acknowledged = writing.await;
    server.end();
    let (_server, channel) = serve(&cluster).await;
    for number in 0..acknowledged {
        assert!(get(&channel, &format!("k{number:04}")).await.is_some(), "{number} of {acknowledged}");
    }
    put(&channel, "after", "1").await.unwrap();
}

/// A server beside one that leads, as soon as it waits, and where it listens.
fn stand_by(cluster: &Cluster) -> (Program, String) {
    let address = free_address();
    let url = format!("--listen-client-urls=http://{address}");
    let mut server = Program::start(&[&url, "--engine=tikv", &cluster.endpoints(), &cluster.prefix()]);
    server.log_line("another process leads the store");
    (server, address)
}

async fn connect(address: &str) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn a_second_server_waits_alive_and_not_ready_and_takes_over_from_one_that_is_killed() {
    let cluster = Cluster::start();
    let (first, to_first) = serve(&cluster).await;
    let revision = put(&to_first, "a", "first").await.unwrap();
    let (mut second, address) = stand_by(&cluster);
    assert_eq!(http(&address, "/livez").0, 200);
    let (status, body) = http(&address, "/readyz");
    assert!(status == 503 && body.contains("another server leads this store"), "{status} {body}");
    let refused = put(&connect(&address).await, "a", "too early").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "clients go to the other one: {refused}");
    assert_eq!(put(&to_first, "a", "again").await.unwrap(), revision + 1, "the first one is not disturbed");

    first.signal(Signal::KILL);
    let killed = SystemClock.now();
    second.greeting();
    println!("took over {:?} after the kill", SystemClock.now() - killed);
    let to_second = connect(&address).await;
    assert_eq!(get(&to_second, "a").await.as_deref(), Some("again"));
    assert_eq!(put(&to_second, "a", "second").await.unwrap(), revision + 2);
    assert_eq!(watched(&to_second, "a", revision, 3).await, ["first", "again", "second"]);
    assert_eq!(http(&address, "/readyz").0, 200);
}

// A client that is stuck would hold the server up: this one runs on a thread of its own.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_asked_to_stop_hands_over_without_the_lease() {
    let cluster = Cluster::start();
    let (first, to_first) = serve(&cluster).await;
    put(&to_first, "a", "1").await.unwrap();
    let (mut second, address) = stand_by(&cluster);
    first.signal(Signal::TERM);
    let asked = SystemClock.now();
    second.greeting();
    println!("took over {:?} after SIGTERM", SystemClock.now() - asked);
    let (code, log) = first.end();
    assert!(code == Some(0) && !log.contains("not given up"), "{log}");
    assert_eq!(get(&connect(&address).await, "a").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn who_slept_through_its_lease_answers_nothing_that_others_have_changed() {
    let cluster = Cluster::start();
    let (first, to_first) = serve(&cluster).await;
    put(&to_first, "a", "old").await.unwrap();
    let (mut second, address) = stand_by(&cluster);
    first.signal(Signal::STOP);
    second.greeting();
    let to_second = connect(&address).await;
    put(&to_second, "a", "new").await.unwrap();

    // They are sent after the new value was acknowledged, and wait in the sleeper's socket.
    let request = || RangeRequest { key: b"a".to_vec().into(), ..RangeRequest::default() };
    let mut clients: Vec<_> = (0..16).map(|_| KvClient::new(to_first.clone())).collect();
    let reads = futures_util::future::join_all(clients.iter_mut().map(|client| client.range(request())));
    let late_write = put(&to_first, "a", "too late");
    let wake = async { first.signal(Signal::CONT) };
    let (reads, late_write, ()) = tokio::join!(reads, late_write, wake);
    for read in reads {
        let refused = read.expect_err("it must not know the value");
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    }
    assert_eq!(late_write.unwrap_err().code(), Code::Unavailable);
    let (code, log) = first.end();
    assert!(code == Some(1) && log.contains("was taken by"), "it ends by itself: {code:?} {log}");
    assert_eq!(get(&to_second, "a").await.as_deref(), Some("new"));
}

#[tokio::test]
async fn it_waits_for_pd_alive_and_not_ready() {
    if Cluster::is_real() {
        println!("a PD that is not there yet cannot be a real one: not run on ORLOP_TEST_PD");
        return;
    }
    let (pd, address) = (free_address(), free_address());
    let url = format!("--listen-client-urls=http://{address}");
    let mut server = Program::start(&[&url, "--engine=tikv", &format!("--pd-endpoints={pd}")]);
    let waiting = server.log_line("waiting for TiKV");
    assert!(waiting.contains(&format!("no PD answers at {pd}")), "{waiting}");
    assert_eq!(http(&address, "/livez").0, 200);
    let (status, body) = http(&address, "/readyz");
    assert!(status == 503 && body.contains("TiKV's PD does not answer"), "{status} {body}");
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    let refused = put(&channel, "a", "1").await.unwrap_err();
    assert!(refused.code() == Code::Unavailable && refused.message().contains("PD"), "{refused}");

    let _cluster = Cluster::start_at(&pd);
    let greeting = server.greeting();
    assert!(greeting.contains(&format!("TiKV at {pd}")), "{greeting}");
    assert_eq!(http(&address, "/readyz"), (200, "ok\n".to_owned()));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    put(&channel, "a", "1").await.unwrap();
}

#[test]
fn while_it_waits_for_pd_it_can_be_asked_to_stop() {
    let pd = format!("--pd-endpoints={}", free_address());
    let mut server = Program::start(&[FREE_PORT, "--engine=tikv", &pd]);
    server.log_line("waiting for TiKV");
    server.signal(Signal::TERM);
    assert_eq!(server.end().0, Some(0));
}

#[test]
fn a_file_for_tls_that_cannot_be_read_is_named() {
    let files = ["--tikv-ca-file=/nowhere/ca", "--tikv-cert-file=/nowhere/c", "--tikv-key-file=/nowhere/k"];
    let arguments = [&[FREE_PORT, "--engine=tikv", "--pd-endpoints=127.0.0.1:1"][..], &files].concat();
    let refused = output(&arguments, &[]);
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(said.contains("orlop: TLS to TiKV: ") && said.contains("/nowhere/"), "{said}");
}
