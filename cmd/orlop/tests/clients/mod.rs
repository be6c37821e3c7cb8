//! What clients of a server do.

#![allow(clippy::unwrap_used, reason = "a test whose equipment breaks has failed")]
#![allow(dead_code, reason = "each test program uses its part of it")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use base::{Clock, SystemClock};
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// A connection to the server at this address.
pub async fn connect(address: &str) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// Writes; the revision.
pub async fn put(channel: &Channel, key: &str, value: &str) -> Result<i64, Status> {
    let request = PutRequest {
        key: key.as_bytes().to_vec().into(),
        value: value.as_bytes().to_vec().into(),
        ..PutRequest::default()
    };
    let response = KvClient::new(channel.clone()).put(request).await?.into_inner();
    Ok(response.header.unwrap().revision)
}

/// The newest value.
pub async fn try_get(channel: &Channel, key: &str) -> Result<Option<String>, Status> {
    let request = RangeRequest { key: key.as_bytes().to_vec().into(), ..RangeRequest::default() };
    let response = KvClient::new(channel.clone()).range(request).await?.into_inner();
    Ok(response.kvs.first().map(|kv| String::from_utf8(kv.value.to_vec()).unwrap()))
}

/// The newest value, from a server that must answer.
pub async fn get(channel: &Channel, key: &str) -> Option<String> {
    try_get(channel, key).await.unwrap()
}

/// A watch on a key, from this revision on.
pub async fn watch(channel: &Channel, key: &str, revision: i64) -> Streaming<WatchResponse> {
    watch_range(channel, key, "", revision).await
}

/// A watch on the keys from one to before another, from this revision on.
pub async fn watch_range(channel: &Channel, key: &str, end: &str, revision: i64) -> Streaming<WatchResponse> {
    let create = WatchCreateRequest {
        key: key.as_bytes().to_vec().into(),
        range_end: end.as_bytes().to_vec().into(),
        start_revision: revision,
        ..WatchCreateRequest::default()
    };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = tokio_stream::StreamExt::chain(tokio_stream::once(create), tokio_stream::pending());
    WatchClient::new(channel.clone()).watch(requests).await.unwrap().into_inner()
}

/// The next events of a watch that must not end: revisions and values, through the response in which `is_last` says so.
pub async fn events_until(
    watch: &mut Streaming<WatchResponse>,
    mut is_last: impl FnMut(&str) -> bool,
) -> Vec<(i64, String)> {
    let mut events = Vec::new();
    loop {
        let response = watch.message().await.unwrap().expect("the watch goes on");
        assert!(!response.canceled, "{response:?}");
        let mut is_over = false;
        for event in response.events {
            let kv = event.kv.unwrap();
            let value = String::from_utf8(kv.value.to_vec()).unwrap();
            is_over |= is_last(&value);
            events.push((kv.mod_revision, value));
        }
        if is_over {
            return events;
        }
    }
}

/// The values that the key was given from `revision` on, as many as are asked for.
pub async fn watched(channel: &Channel, key: &str, revision: i64, count: usize) -> Vec<String> {
    let mut seen = 0;
    let mut watch = watch(channel, key, revision).await;
    let events = events_until(&mut watch, |_| {
        seen += 1;
        seen == count
    });
    events.await.into_iter().map(|(_, value)| value).collect()
}

/// Status and body of what the address answers; 0 when the connection ends before the answer, as it does at the moment at
/// which a server begins to serve.
pub fn http(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    let is_whole = stream.read_to_string(&mut answer).is_ok();
    let Some((head, body)) = answer.split_once("\r\n\r\n").filter(|_| is_whole) else {
        return (0, answer);
    };
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// An address that nobody listens on now.
pub fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// The pause between two looks at something that is waited for; what it is waited for decides, not how long.
pub async fn pause() {
    SystemClock.sleep_until(SystemClock.now() + Duration::from_millis(5)).await;
}
