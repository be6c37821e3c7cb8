//! A whole server in the test process: built, started, used through its port, drained, and started again.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test whose equipment breaks has failed")]

mod command_line;

use std::path::Path;
use std::sync::Arc;

use node::config::{Command, Config, read};
use node::{App, Running, World};
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest, WatchRequest};
use tonic::Code;
use tonic::transport::Channel;

/// A configuration with a free port.
fn config(flags: &[&str]) -> Config {
    let port = "--listen-client-urls=http://127.0.0.1:0";
    let arguments = [port].iter().chain(flags).map(|flag| (*flag).to_owned()).collect();
    match read(&command_line::Arguments(arguments)).unwrap() {
        Command::Serve(config) => *config,
        other => panic!("{other:?}"),
    }
}

fn embedded(dir: &Path) -> Config {
    config(&[&format!("--data-dir={}", dir.display())])
}

/// A server that runs, and a connection to it.
async fn start(config: &Config) -> (Running, Channel) {
    let app = App::build(config, World::default()).await.unwrap();
    let url = app.listen_urls().next().unwrap().to_string();
    assert!(!url.ends_with(":0"), "the URL has the real port: {url}");
    let running = app.start();
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    (running, channel)
}

async fn put(channel: &Channel, key: &str, value: &str) -> i64 {
    let request = PutRequest {
        key: key.as_bytes().to_vec().into(),
        value: value.as_bytes().to_vec().into(),
        ..PutRequest::default()
    };
    let response = KvClient::new(channel.clone()).put(request).await.unwrap().into_inner();
    response.header.unwrap().revision
}

async fn get(channel: &Channel, key: &str) -> Option<String> {
    let request = RangeRequest { key: key.as_bytes().to_vec().into(), ..RangeRequest::default() };
    let response = KvClient::new(channel.clone()).range(request).await.unwrap().into_inner();
    response.kvs.first().map(|kv| String::from_utf8(kv.value.to_vec()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_memory_serves_and_forgets() {
    let config = config(&["--engine=memory"]);
    let (running, channel) = start(&config).await;
    put(&channel, "a", "1").await;
    assert_eq!(get(&channel, "a").await.as_deref(), Some("1"));
    running.drain().await.unwrap();

    let (running, channel) = start(&config).await;
    assert_eq!(get(&channel, "a").await, None);
    running.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_there_after_a_restart_at_the_same_revisions() {
    let temp = tempfile::tempdir().unwrap();
    let config = embedded(&temp.path().join("data"));
    let (running, channel) = start(&config).await;
    let first = put(&channel, "a", "1").await;
    running.drain().await.unwrap();

    let app = App::build(&config, World::default()).await.unwrap();
    assert_eq!((app.key_count(), app.revision()), (1, first));
    let running = app.start();
    running.drain().await.unwrap();

    let (running, channel) = start(&config).await;
    assert_eq!(get(&channel, "a").await.as_deref(), Some("1"));
    assert_eq!(put(&channel, "b", "2").await, first + 1);
    running.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_on_every_address_that_it_is_given() {
    let config = config(&["--engine=memory", "--listen-client-urls=http://127.0.0.1:0,http://[::1]:0"]);
    let app = App::build(&config, World::default()).await.unwrap();
    let urls: Vec<String> = app.listen_urls().map(|url| url.to_string()).collect();
    assert_eq!(app.advertised_urls(), urls);
    let running = app.start();
    for url in urls {
        let channel = Channel::from_shared(url.clone()).unwrap().connect().await.unwrap();
        put(&channel, "a", &url).await;
        assert_eq!(get(&channel, "a").await, Some(url));
    }
    running.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_unavailable_when_the_server_stops() {
    let (running, channel) = start(&config(&["--engine=memory"])).await;
    let create = WatchCreateRequest { key: b"a".to_vec().into(), ..WatchCreateRequest::default() };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = tokio_stream::StreamExt::chain(tokio_stream::once(create), tokio_stream::pending());
    let mut responses = WatchClient::new(channel).watch(requests).await.unwrap().into_inner();
    assert!(responses.message().await.unwrap().unwrap().created);
    let drained = running.drain();
    let ended = async { responses.message().await.unwrap_err().code() };
    let (drained, ended) = tokio::join!(drained, ended);
    drained.unwrap();
    assert_eq!(ended, Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_data_directory_is_free_again_once_the_server_is_drained() {
    let temp = tempfile::tempdir().unwrap();
    let config = embedded(temp.path());
    let (running, channel) = start(&config).await;
    let refused = App::build(&config, World::default()).await.err().unwrap().to_string();
    assert!(refused.contains("is in use by another process"), "{refused}");
    drop(channel);
    running.drain().await.unwrap();
    start(&config).await.0.drain().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_format_is_refused_by_name() {
    let temp = tempfile::tempdir().unwrap();
    let config = embedded(temp.path());
    start(&config).await.0.drain().await.unwrap();
    write_newer_format(temp.path()).await;
    let refused = App::build(&config, World::default()).await.err().unwrap().to_string();
    assert!(refused.contains("format 4000000") && refused.contains("use a newer orlop"), "{refused}");
}

/// Writes what a later version would have written in the place of the store's identity.
async fn write_newer_format(dir: &Path) {
    let engine = engine_embedded::EmbeddedEngine::open(engine_embedded::Config::new(dir)).unwrap();
    let engine: Arc<dyn engine::Engine> = Arc::new(engine);
    let space = layout::KeySpace::new("").unwrap();
    let identity = layout::meta::Identity { format: 4_000_000, cluster_id: 7 };
    let mut batch = engine::Batch::new();
    batch.put(space.identity_key(), space.encode_identity(identity));
    engine.commit(batch).await.unwrap();
    engine.close().await;
}
