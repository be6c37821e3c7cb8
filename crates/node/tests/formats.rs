//! Data of every format that there ever was is read by today's program, with all that it meant.
//!
//! `tests/formats/N` is a data directory of the embedded engine as a program of format N has left it, but for the zeros at
//! the end of its segments, which are a reserve of space, and the files LOCK and RESERVE, which each start makes.
//! A new format gets a directory of its own, which `cargo test -p node --test formats -- --ignored` writes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test whose equipment breaks has failed")]

mod command_line;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::SeededRandom;
use node::config::{Command, Config, read};
use node::{App, Running, World};
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
    WatchRequest,
};
use tonic::Code;
use tonic::transport::Channel;

/// A segment with its reserve.
const SEGMENT_BYTES: u64 = 64 << 20;

const LEASE: i64 = 77;
const LEASE_REVOKED: i64 = 78;
const TTL_SECS: i64 = 3600;

const RAISE: i32 = 1;
const CLEAR: i32 = 2;
const NO_SPACE: i32 = 1;

/// More than one page of anything.
const LARGE: usize = 5000;

fn config(dir: &Path) -> Config {
    let flags = ["--listen-client-urls=http://127.0.0.1:0", "--key-prefix=old/"];
    let mut flags: Vec<String> = flags.map(str::to_owned).into();
    flags.push(format!("--data-dir={}", dir.display()));
    match read(&command_line::Arguments(flags)).unwrap() {
        Command::Serve(config) => *config,
        other => panic!("{other:?}"),
    }
}

/// A server on a data directory, and a connection to it.
struct Server {
    running: Running,
    channel: Channel,
}

impl Server {
    async fn start(dir: &Path) -> Server {
        let world = World { random: Arc::new(SeededRandom::new(1)), ..World::default() };
        let app = App::build(&config(dir), world).await.unwrap();
        let url = app.listen_urls().next().unwrap().to_string();
        let running = app.start();
        Server { running, channel: Channel::from_shared(url).unwrap().connect().await.unwrap() }
    }

    async fn stop(self) {
        drop(self.channel);
        self.running.drain().await.unwrap();
    }

    fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone())
    }

    fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    async fn put(&self, key: &str, value: &[u8], lease: i64) -> i64 {
        self.kv().put(put(key, value, lease)).await.unwrap().into_inner().header.unwrap().revision
    }

    async fn grant(&self, id: i64) {
        self.lease().lease_grant(LeaseGrantRequest { id, ttl: TTL_SECS }).await.unwrap();
    }

    /// The alarms after this action.
    async fn alarm(&self, action: i32) -> Vec<i32> {
        let request = AlarmRequest { action, member_id: 0, alarm: NO_SPACE };
        let answer = MaintenanceClient::new(self.channel.clone()).alarm(request).await.unwrap();
        answer.into_inner().alarms.iter().map(|alarm| alarm.alarm).collect()
    }

    /// All keys at a revision; 0 is the newest.
    async fn all(&self, revision: i64) -> Result<Vec<Kept>, tonic::Status> {
        let request = RangeRequest { revision, ..everything() };
        let kvs = self.kv().range(request).await?.into_inner().kvs;
        let kept = kvs.into_iter().map(|kv| Kept {
            key: String::from_utf8(kv.key.to_vec()).unwrap(),
            value: kv.value.to_vec(),
            created: kv.create_revision,
            changed: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        });
        Ok(kept.collect())
    }
}

/// What is kept of a key.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    key: String,
    value: Vec<u8>,
    created: i64,
    changed: i64,
    version: i64,
    lease: i64,
}

fn kept(key: &str, value: &[u8], (created, changed, version): (i64, i64, i64), lease: i64) -> Kept {
    Kept { key: key.to_owned(), value: value.to_vec(), created, changed, version, lease }
}

fn everything() -> RangeRequest {
    RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..RangeRequest::default() }
}

fn put(key: &str, value: &[u8], lease: i64) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_vec().into(), lease, ..PutRequest::default() }
}

fn fixture(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(format.to_string())
}

/// A copy of a fixture, with the reserve at the end of its segments.
fn unpack(format: u32) -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(format)).unwrap() {
        let from = entry.unwrap().path();
        let to = temp.path().join(from.file_name().unwrap());
        std::fs::copy(&from, &to).unwrap();
        if to.extension().is_some_and(|extension| extension == "seg") {
            std::fs::OpenOptions::new().write(true).open(&to).unwrap().set_len(SEGMENT_BYTES).unwrap();
        }
    }
    temp
}

/// The history of a fixture: every kind of record, over three lives of a process.
async fn write_history(dir: &Path) {
    let server = Server::start(dir).await;
    assert_eq!(server.put("a", b"1", 0).await, 2);
    assert_eq!(server.put("b", b"2", 0).await, 3);
    assert_eq!(server.put("a", b"3", 0).await, 4);
    let delete = DeleteRangeRequest { key: "b".into(), ..DeleteRangeRequest::default() };
    server.kv().delete_range(delete).await.unwrap(); // 5
    let operation = |key: &str| RequestOp { request: Some(Request::RequestPut(put(key, &[0, 255], 0))) };
    let both = TxnRequest { success: vec![operation("c"), operation("d")], ..TxnRequest::default() };
    server.kv().txn(both).await.unwrap(); // 6
    server.stop().await;

    let server = Server::start(dir).await;
    server.grant(LEASE).await;
    assert_eq!(server.put("e", b"", LEASE).await, 7);
    server.grant(LEASE_REVOKED).await;
    assert_eq!(server.put("f", b"gone", LEASE_REVOKED).await, 8);
    server.lease().lease_revoke(LeaseRevokeRequest { id: LEASE_REVOKED }).await.unwrap(); // 9
    assert_eq!(server.put("g", &[b'x'; LARGE], 0).await, 10);
    server.kv().compact(CompactionRequest { revision: 4, physical: true }).await.unwrap();
    server.stop().await;

    let server = Server::start(dir).await;
    assert_eq!(server.put("h", b"last", 0).await, 11);
    server.alarm(RAISE).await;
    server.stop().await;
}

/// The keys at revision 11.
fn newest() -> Vec<Kept> {
    vec![
        kept("a", b"3", (2, 4, 2), 0),
        kept("c", &[0, 255], (6, 6, 1), 0),
        kept("d", &[0, 255], (6, 6, 1), 0),
        kept("e", b"", (7, 7, 1), LEASE),
        kept("g", &[b'x'; LARGE], (10, 10, 1), 0),
        kept("h", b"last", (11, 11, 1), 0),
    ]
}

/// The events from revision 5 on: revision, key, and whether it was put.
async fn events(server: &Server) -> Vec<(i64, String, bool)> {
    let create = WatchCreateRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        start_revision: 5,
        ..Default::default()
    };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = tokio_stream::StreamExt::chain(tokio_stream::once(create), tokio_stream::pending());
    let mut answers = WatchClient::new(server.channel.clone()).watch(requests).await.unwrap().into_inner();
    let mut events: Vec<(i64, String, bool)> = Vec::new();
    while events.last().is_none_or(|(revision, ..)| *revision < 11) {
        for event in answers.message().await.unwrap().unwrap().events {
            let (is_put, kv) = (event.r#type == 0, event.kv.unwrap());
            events.push((kv.mod_revision, String::from_utf8(kv.key.to_vec()).unwrap(), is_put));
        }
    }
    events
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_every_format_is_read_and_goes_on() {
    for format in 1..=layout::meta::FORMAT {
        let dir = unpack(format);
        let server = Server::start(dir.path()).await;
        assert_eq!(server.all(0).await.unwrap(), newest(), "format {format}");

        let at_5 = server.all(5).await.unwrap();
        assert_eq!(at_5, [kept("a", b"3", (2, 4, 2), 0)], "format {format}: history");
        let compacted = server.all(3).await.unwrap_err();
        assert_eq!(compacted.code(), Code::OutOfRange, "format {format}: {compacted}");
        let expected = [
            (5, "b", false),
            (6, "c", true),
            (6, "d", true),
            (7, "e", true),
            (8, "f", true),
            (9, "f", false),
            (10, "g", true),
            (11, "h", true),
        ];
        assert_eq!(
            events(&server).await,
            expected.map(|(revision, key, is_put)| (revision, key.to_owned(), is_put))
        );

        let ask = |id| LeaseTimeToLiveRequest { id, keys: true };
        let lease = server.lease().lease_time_to_live(ask(LEASE)).await.unwrap().into_inner();
        assert_eq!((lease.granted_ttl, lease.keys.len()), (TTL_SECS, 1), "format {format}: the lease");
        let revoked = server.lease().lease_time_to_live(ask(LEASE_REVOKED)).await.unwrap().into_inner();
        assert_eq!(revoked.ttl, -1, "format {format}: the lease that was revoked");

        let refused = server.kv().put(put("i", b"", 0)).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "format {format}: the alarm counts: {refused}");
        assert_eq!(server.alarm(CLEAR).await, [NO_SPACE], "format {format}");
        assert_eq!(server.put("i", b"new", LEASE).await, 12, "format {format}");
        server.stop().await;

        let server = Server::start(dir.path()).await;
        let mut all = newest();
        all.push(kept("i", b"new", (12, 12, 1), LEASE));
        assert_eq!(server.all(0).await.unwrap(), all, "format {format}, after today's program has written");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes the fixture of the current format, once"]
async fn write_the_fixture() {
    let to = fixture(layout::meta::FORMAT);
    assert!(!to.exists(), "{} is there: what a format has left is not written again", to.display());
    let temp = tempfile::tempdir().unwrap();
    write_history(temp.path()).await;
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(temp.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        if path.extension().is_some_and(|extension| extension == "seg") {
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            bytes.truncate(end);
        }
        if name != "LOCK" && name != "RESERVE" {
            std::fs::write(to.join(name), bytes).unwrap();
        }
    }
}
