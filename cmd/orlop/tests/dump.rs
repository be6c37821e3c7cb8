//! `orlop dump` and `orlop decode`: the records of a store as an operator sees them.

#![allow(clippy::unwrap_used, reason = "a test whose equipment breaks has failed")]

mod clients;
mod program;

use std::path::Path;

use clients::connect;
use program::{Program, output, text};
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::{DeleteRangeRequest, LeaseGrantRequest, PutRequest};
use rustix::process::Signal;

const FREE_PORT: &str = "--listen-client-urls=http://127.0.0.1:0";

/// A ConfigMap "a" of the namespace "default", as an API server stores it.
const CONFIG_MAP: &[u8] =
    b"k8s\0\n\x0f\n\x02v1\x12\tConfigMap\x12\x0e\n\x0c\n\x01a\x1a\x07default\x1a\x00\"\x00";

async fn written(dir: &Path) {
    let mut server = Program::start(&[FREE_PORT, &format!("--data-dir={}", dir.display())]);
    let channel = connect(&server.address()).await;
    let grant = LeaseGrantRequest { ttl: 60, id: 0x70d3 };
    LeaseClient::new(channel.clone()).lease_grant(grant).await.unwrap();
    let mut kv = KvClient::new(channel.clone());
    for (key, value, lease) in [("/r/a", CONFIG_MAP, 0x70d3), ("/r/b", b"{\"x\":1}", 0), ("/s", b"\xff", 0)] {
        let put = PutRequest { key: key.into(), value: value.into(), lease, ..PutRequest::default() };
        kv.put(put).await.unwrap();
    }
    kv.delete_range(DeleteRangeRequest { key: "/s".into(), ..DeleteRangeRequest::default() }).await.unwrap();
    drop((kv, channel));
    server.signal(Signal::TERM);
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log}");
}

fn dump(dir: &Path, flags: &[&str]) -> String {
    let output = output(&[&["dump", "--data-dir", &dir.display().to_string()], flags].concat(), &[]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    text(&output.stdout).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_with_its_object_as_far_as_the_metadata() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path()).await;
    let expected = "\
---
kind: \"index\"
record: \"032f722f61\"
key: \"/r/a\"
create_revision: 2
mod_revision: 2
version: 1
lease: 28883
value_bytes: 41
---
kind: \"object\"
record: \"042f722f6100010000000000000002\"
key: \"/r/a\"
revision: 2
type: \"put\"
create_revision: 2
mod_revision: 2
version: 1
lease: 28883
value:
  encoding: \"kubernetes protobuf\"
  apiVersion: \"v1\"
  kind: \"ConfigMap\"
  metadata:
    name: \"a\"
    namespace: \"default\"
  bytes: 14
";
    assert_eq!(dump(temp.path(), &["--key", "/r/a"]), expected);
    let lines = dump(temp.path(), &["--prefix=/r/", "--kind=object", "-o", "json"]);
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].ends_with("\"value\":{\"encoding\":\"json\",\"object\":{\"x\":1}}}"), "{}", lines[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_of_a_store_is_shown() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path()).await;
    let all = dump(temp.path(), &["-o", "json"]);
    for part in [
        "\"name\":\"identity\",\"format\":1,",
        "\"type\":\"takeover\"}",
        "\"changes\":[{\"type\":\"put\",\"revision\":2,\"key\":\"/r/a\",\"previous_revision\":0,\"create_revision\":2,",
        "\"changes\":[{\"type\":\"lease_granted\",\"lease\":28883,\"ttl\":60}]}",
        "\"key\":\"/s\",\"revision\":5,\"type\":\"delete\"}",
        "\"value\":{\"encoding\":\"binary\",\"hex\":\"ff\"}}",
        "\"type\":\"lease\",\"lease\":28883,\"lease_hex\":\"70d3\",\"ttl\":60,\"revoking\":false}",
    ] {
        assert!(all.contains(part), "{part} is not in {all}");
    }
    assert!(!all.contains("damaged"), "{all}");
}

#[test]
fn a_value_is_decoded_from_a_file_also_with_an_end_of_line_behind_it() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("value");
    let name = file.display().to_string();
    for behind in [&b""[..], b"\n"] {
        std::fs::write(&file, [CONFIG_MAP, behind].concat()).unwrap();
        let decoded = output(&["decode", &name], &[]);
        assert_eq!((decoded.status.code(), text(&decoded.stderr)), (Some(0), ""));
        assert!(text(&decoded.stdout).contains("kind: \"ConfigMap\"\n"), "{}", text(&decoded.stdout));
    }
    let none = output(&["decode", "-o", "json"], &[]);
    assert_eq!(text(&none.stdout), "{\"encoding\":\"text\",\"text\":\"\"}\n");
    let missing = output(&["decode", &format!("{name}.gone")], &[]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("value.gone cannot be read: "), "{}", text(&missing.stderr));
}

#[test]
fn what_holds_no_store_cannot_be_dumped_and_a_wrong_flag_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data").display().to_string();
    let refused = output(&["dump", "--data-dir", &dir], &[]);
    assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(2), ""));
    for (flags, complaint) in [
        (&["--key=a", "--prefix=b"][..], "cannot be used with"),
        (&["--kind=values"], "invalid value 'values'"),
    ] {
        let refused = output(&[&["dump", "--data-dir", &dir], flags].concat(), &[]);
        assert_eq!(refused.status.code(), Some(64), "{flags:?}");
        assert!(text(&refused.stderr).contains(complaint), "{}", text(&refused.stderr));
    }
    for command in ["dump", "decode"] {
        let help = output(&[command, "--help"], &[]);
        assert!(text(&help.stdout).contains("Example:"), "{}", text(&help.stdout));
    }
}
