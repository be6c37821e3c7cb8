//! `orlop log`: what an operator reads from a data directory.

#![allow(clippy::unwrap_used, reason = "a test whose equipment breaks has failed")]

mod program;

use std::path::Path;

use program::{Program, output, text};
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
};
use rustix::process::Signal;
use tonic::transport::Channel;

const FREE_PORT: &str = "--listen-client-urls=http://127.0.0.1:0";

/// A server on `dir`, and a connection to it.
async fn start(dir: &Path) -> (Program, Channel) {
    let mut server = Program::start(&[FREE_PORT, &format!("--data-dir={}", dir.display())]);
    let url = format!("http://{}", server.address());
    (server, Channel::from_shared(url).unwrap().connect().await.unwrap())
}

/// Stops a server, when its client has gone.
fn stop(server: Program, channel: Option<Channel>) {
    drop(channel);
    server.signal(Signal::TERM);
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log}");
}

async fn put(channel: &Channel, key: &str, value: &str, lease: i64) {
    let request = PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        lease,
        ..PutRequest::default()
    };
    KvClient::new(channel.clone()).put(request).await.unwrap();
}

async fn delete(channel: &Channel, key: &str) {
    let request = DeleteRangeRequest { key: key.to_owned().into(), ..DeleteRangeRequest::default() };
    KvClient::new(channel.clone()).delete_range(request).await.unwrap();
}

/// What `orlop log` prints, and that it has no complaint.
fn log(dir: &Path, flags: &[&str]) -> Vec<String> {
    let dir = format!("--data-dir={}", dir.display());
    let output = output(&[&["log", &dir], flags].concat(), &[]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_every_change_of_keys_and_leases_in_its_order() {
    let temp = tempfile::tempdir().unwrap();
    let (server, channel) = start(temp.path()).await;
    let grant = LeaseGrantRequest { ttl: 60, id: 7 };
    LeaseClient::new(channel.clone()).lease_grant(grant).await.unwrap();
    put(&channel, "a", "1", 0).await;
    put(&channel, "a", "", 7).await;
    delete(&channel, "a").await;
    let revoke = LeaseRevokeRequest { id: 7 };
    LeaseClient::new(channel.clone()).lease_revoke(revoke).await.unwrap();
    stop(server, Some(channel));

    let lines = log(temp.path(), &[]);
    assert!(lines[0].starts_with("{\"type\":\"store\",\"cluster_id\":"), "{}", lines[0]);
    assert!(lines[0].ends_with(",\"revision\":4,\"compacted_revision\":null}"), "{}", lines[0]);
    assert_eq!(lines[1], "{\"type\":\"filler\",\"partition\":1,\"slot\":1,\"epoch\":0}");
    assert!(
        lines[2]
            .starts_with("{\"type\":\"takeover\",\"partition\":1,\"slot\":2,\"epoch\":1048576,\"owner\":\"")
    );
    let revisions = [
        "{\"type\":\"revision\",\"revision\":2,\"partition\":1,\"slot\":3,\"epoch\":1048576,\"changes\":[{\"kind\":\"put\",\
         \"key\":\"YQ==\",\"value\":\"MQ==\",\"lease\":0,\"create_revision\":2,\"version\":1,\"previous_revision\":0}]}",
        "{\"type\":\"revision\",\"revision\":3,\"partition\":1,\"slot\":4,\"epoch\":1048576,\"changes\":[{\"kind\":\"put\",\
         \"key\":\"YQ==\",\"value\":\"\",\"lease\":7,\"create_revision\":2,\"version\":2,\"previous_revision\":2}]}",
        "{\"type\":\"revision\",\"revision\":4,\"partition\":1,\"slot\":5,\"epoch\":1048576,\"changes\":[{\"kind\":\"delete\",\
         \"key\":\"YQ==\",\"previous_revision\":3}]}",
    ];
    assert_eq!(lines[3..6], revisions);
    let system: Vec<_> = lines.iter().filter(|line| line.starts_with("{\"type\":\"system\"")).collect();
    let changes = [
        "{\"kind\":\"lease_granted\",\"lease\":7,\"ttl\":60}",
        "{\"kind\":\"lease_revoking\",\"lease\":7}",
        "{\"kind\":\"lease_revoked\",\"lease\":7}",
    ];
    assert_eq!(system.len(), 3, "{lines:?}");
    for (line, change) in system.iter().zip(changes) {
        assert!(line.ends_with(&format!("\"epoch\":1,\"changes\":[{change}]}}")), "{line}");
    }

    assert_eq!(log(temp.path(), &["--from=3", "--to=3"]), revisions[1..2]);
    assert_eq!(log(temp.path(), &["--from=5"]), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_a_compaction_freed_is_told_to_be_gone() {
    let temp = tempfile::tempdir().unwrap();
    let (server, channel) = start(temp.path()).await;
    put(&channel, "a", "1", 0).await;
    put(&channel, "a", "2", 0).await;
    stop(server, Some(channel));
    // The slot before a start is kept for ever, whatever becomes of its value.
    let (server, channel) = start(temp.path()).await;
    put(&channel, "a", "3", 0).await;
    put(&channel, "a", "4", 0).await;
    let compact = CompactionRequest { revision: 5, physical: true };
    KvClient::new(channel.clone()).compact(compact).await.unwrap();
    stop(server, Some(channel));
    let lines = log(temp.path(), &[]);
    assert!(lines[0].ends_with(",\"revision\":5,\"compacted_revision\":5}"), "{}", lines[0]);
    let gone = "{\"type\":\"gone\",\"partition\":1,\"first_slot\":3,\"last_slot\":3}".to_owned();
    assert!(lines.contains(&gone), "{lines:?}");
    let kept = lines.iter().find(|line| line.starts_with("{\"type\":\"revision\",\"revision\":3,")).unwrap();
    assert!(kept.contains("\"value\":null,\"value_gone\":\"compacted\""), "{kept}");
    assert!(lines.iter().any(|line| line.contains("{\"kind\":\"compacted\",\"revision\":5}")));
}

#[test]
fn a_directory_that_a_server_uses_is_refused_with_what_to_do() {
    let temp = tempfile::tempdir().unwrap();
    let data = format!("--data-dir={}", temp.path().display());
    let mut server = Program::start(&[FREE_PORT, &data]);
    server.greeting();
    let refused = output(&["log", &data], &[]);
    assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(1), ""));
    let expected = format!(
        "orlop: the data directory {} is in use by a server (process id {}), and a log is read without one: stop it \
         first, or read a snapshot of the file system\n",
        temp.path().display(),
        server.pid(),
    );
    assert_eq!(text(&refused.stderr), expected);
}

#[test]
fn a_directory_or_prefix_without_data_is_said_to_have_none() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    let data = dir.display().to_string();
    let refused = output(&["log"], &[("ORLOP_DATA_DIR", &data)]);
    assert_eq!(refused.status.code(), Some(1));
    let expected = format!(
        "orlop: {data} holds no data of Orlop; is it the directory that --data-dir of the server names?\n"
    );
    assert_eq!(text(&refused.stderr), expected);
    let mut server = Program::start(&[FREE_PORT, &format!("--data-dir={data}")]);
    server.greeting();
    stop(server, None);
    let refused = output(&["log", "--data-dir", &data, "--key-prefix", "blue/"], &[]);
    assert_eq!(refused.status.code(), Some(1));
    let expected = format!("orlop: {data}: there is no store under the key prefix \"blue/\"\n");
    assert_eq!(text(&refused.stderr), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let (server, channel) = start(temp.path()).await;
    put(&channel, "a", &"x".repeat(1000), 0).await;
    put(&channel, "b", "1", 0).await;
    stop(server, Some(channel));
    let segment = temp.path().join("0000000001.seg");
    let mut content = std::fs::read(&segment).unwrap();
    let at = content.windows(900).position(|bytes| bytes == [b'x'; 900]).unwrap();
    content[at] ^= 1;
    std::fs::write(&segment, content).unwrap();
    let refused = output(&["log", "--data-dir", &temp.path().display().to_string()], &[]);
    assert_eq!(refused.status.code(), Some(1));
    let error = text(&refused.stderr);
    assert!(error.contains(&segment.display().to_string()) && error.contains("damaged"), "{error}");
}

#[test]
fn its_help_has_an_example_and_a_wrong_flag_is_refused_with_code_64() {
    let help = output(&["log", "--help"], &[]);
    assert_eq!((help.status.code(), text(&help.stderr)), (Some(0), ""));
    for part in ["--data-dir <DIR>", "--from <REVISION>", "Example:", "value_gone"] {
        assert!(text(&help.stdout).contains(part), "{}", text(&help.stdout));
    }
    let refused = output(&["log", "--form=3"], &[]);
    assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(64), ""));
    let error = text(&refused.stderr);
    assert!(
        error.starts_with("orlop: unexpected argument '--form' found\n") && error.contains("'--from'"),
        "{error}"
    );
}
