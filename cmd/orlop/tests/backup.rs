//! `orlop backup` and `orlop restore`: what an operator gets back, and what is said when something is in the way.

#![allow(clippy::unwrap_used, reason = "a test whose equipment breaks has failed")]

mod authority;
mod clients;
#[cfg(feature = "cluster-tests")]
mod cluster;
mod program;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use authority::Authority;
use clients::connect;
use program::{Program, output, text};
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseTimeToLiveRequest, PutRequest,
    RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest,
};
use proto::mvccpb::KeyValue;
use rustix::process::Signal;
use tonic::transport::Channel;

const FREE_PORT: &str = "--listen-client-urls=http://127.0.0.1:0";
const BUMP: i64 = 1_000_000_000;

async fn start(dir: &Path) -> (Program, String, Channel) {
    let mut server = Program::start(&[FREE_PORT, &format!("--data-dir={}", dir.display())]);
    let address = server.address();
    let channel = connect(&address).await;
    (server, address, channel)
}

fn stop(server: Program) {
    server.signal(Signal::TERM);
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log}");
}

async fn put(channel: &Channel, key: &str, value: &[u8], lease: i64) {
    let put = PutRequest {
        key: key.to_owned().into(),
        value: value.to_vec().into(),
        lease,
        ..PutRequest::default()
    };
    KvClient::new(channel.clone()).max_decoding_message_size(1 << 30).put(put).await.unwrap();
}

/// Something of everything: 100 keys on two leases, some of them written twice, one deleted; revision 121.
async fn fill(channel: &Channel) {
    for id in [7, -8] {
        LeaseClient::new(channel.clone()).lease_grant(LeaseGrantRequest { ttl: 3600, id }).await.unwrap();
    }
    for number in 0..100 {
        let lease = [0, 7, -8][number % 3];
        put(channel, &format!("/registry/{number:03}"), &noise(number as u64, 30_000), lease).await;
    }
    for number in 0..19 {
        put(channel, &format!("/registry/{number:03}"), b"again", 0).await;
    }
    let delete = DeleteRangeRequest { key: "/registry/099".into(), ..DeleteRangeRequest::default() };
    KvClient::new(channel.clone()).delete_range(delete).await.unwrap();
}

/// Bytes that do not get smaller by compression.
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

async fn all(channel: &Channel) -> RangeResponse {
    let everything =
        RangeRequest { key: [0].to_vec().into(), range_end: [0].to_vec().into(), ..RangeRequest::default() };
    let mut kv = KvClient::new(channel.clone()).max_decoding_message_size(1 << 30);
    kv.range(everything).await.unwrap().into_inner()
}

async fn ttl(channel: &Channel, id: i64) -> (i64, usize) {
    let asked = LeaseTimeToLiveRequest { id, keys: true };
    let answer = LeaseClient::new(channel.clone()).lease_time_to_live(asked).await.unwrap().into_inner();
    (answer.granted_ttl, answer.keys.len())
}

fn backup(address: &str, to: &Path, flags: &[&str]) -> Output {
    let (endpoint, to) = (format!("--endpoints=http://{address}"), format!("--to={}", to.display()));
    output(&[&["backup", &endpoint, &to], flags].concat(), &[])
}

fn restore(file: &Path, dir: &Path, flags: &[&str]) -> Output {
    let (file, dir) = (file.display().to_string(), format!("--data-dir={}", dir.display()));
    output(&[&["restore", &file, &dir], flags].concat(), &[])
}

fn succeeded(output: &Output) -> String {
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    text(&output.stdout).to_owned()
}

fn failed(output: &Output) -> String {
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""), "{}", text(&output.stderr));
    text(&output.stderr).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_comes_back_with_everything_and_at_revisions_that_nobody_has_seen() {
    let temp = tempfile::tempdir().unwrap();
    let (server, address, channel) = start(&temp.path().join("old")).await;
    fill(&channel).await;
    let before = all(&channel).await;
    let file = temp.path().join("a.backup");
    let said = succeeded(&backup(&address, &file, &[]));
    assert_eq!(said, format!("backed up 99 keys and 2 leases at revision 121 to {}\n", file.display()));
    // What comes later is not in it, and its revisions are never met again.
    put(&channel, "/registry/later", b"x", 0).await;
    drop(channel);
    stop(server);

    let new = temp.path().join("new");
    let said = succeeded(&restore(&file, &new, &[]));
    assert_eq!(said, format!("restored 99 keys and 2 leases, at revision {}\n", BUMP + 121));
    let checked = output(&["check", "--data-dir", &new.display().to_string()], &[]);
    assert!(succeeded(&checked).ends_with(": everything is as it should be\n"));

    let (server, _, channel) = start(&new).await;
    let after = all(&channel).await;
    assert_eq!(after.kvs, before.kvs);
    assert_eq!(after.header.unwrap().revision, BUMP + 121);
    assert_eq!((ttl(&channel, 7).await, ttl(&channel, -8).await), ((3600, 27), (3600, 27)));
    // A client that watches from where it was is told to list anew, and never sees older data.
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    let create = WatchCreateRequest {
        key: "/registry/000".into(),
        start_revision: 122,
        ..WatchCreateRequest::default()
    };
    let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    sender.send(create).await.unwrap();
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut answers = WatchClient::new(channel.clone()).watch(requests).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().unwrap().created);
    let cancelled = answers.message().await.unwrap().unwrap();
    assert!(cancelled.canceled && cancelled.events.is_empty(), "{cancelled:?}");
    assert_eq!(cancelled.compact_revision, BUMP + 121);
    drop((answers, sender));
    put(&channel, "/registry/000", b"new", 0).await;
    let after = all(&channel).await;
    let first = after.kvs.first().unwrap();
    assert_eq!((first.mod_revision, first.create_revision, first.version), (BUMP + 122, 2, 3));
    drop(channel);
    stop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_broke_off_anywhere_is_gone_on_with_at_its_revision() {
    let temp = tempfile::tempdir().unwrap();
    let (server, address, channel) = start(&temp.path().join("old")).await;
    fill(&channel).await;
    let file = temp.path().join("a.backup");
    succeeded(&backup(&address, &file, &[]));
    let whole = std::fs::read(&file).unwrap();
    assert!(whole.len() > 2 << 20, "{} bytes are some blocks", whole.len());
    put(&channel, "/registry/later", b"x", 0).await;
    let again = temp.path().join("b.backup");
    let partial = temp.path().join("b.backup.partial");
    for cut in [whole.len() / 2, whole.len() - 5] {
        std::fs::write(&partial, &whole[..cut]).unwrap();
        let refused = failed(&backup(&address, &again, &[]));
        assert!(refused.contains("go on with it with --resume, or delete it"), "{refused}");
        succeeded(&backup(&address, &again, &["--resume"]));
        let said = succeeded(&output(&["restore", "--dry-run", &again.display().to_string()], &[]));
        assert!(said.contains("is whole: 99 keys of ") && said.ends_with("at revision 121\n"), "{said}");
        assert!(!partial.exists());
        std::fs::remove_file(&again).unwrap();
    }
    // One that had no keys yet has nothing to go on with.
    std::fs::write(&partial, &whole[..40]).unwrap();
    let refused = failed(&backup(&address, &again, &["--resume"]));
    assert!(refused.contains("delete it and back up again"), "{refused}");
    // And once its revision is compacted, it is over.
    std::fs::write(&partial, &whole[..whole.len() / 2]).unwrap();
    let compact = CompactionRequest { revision: 122, physical: true };
    KvClient::new(channel.clone()).compact(compact).await.unwrap();
    let refused = failed(&backup(&address, &again, &["--resume"]));
    assert!(refused.contains("the server has compacted revision 121 while it was backed up"), "{refused}");
    drop(channel);
    stop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_killed_leaves_nothing_under_its_name() {
    let temp = tempfile::tempdir().unwrap();
    let (server, address, channel) = start(&temp.path().join("old")).await;
    fill(&channel).await;
    drop(channel);
    let file = temp.path().join("a.backup");
    let partial = temp.path().join("a.backup.partial");
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    command.args(["backup", &format!("--endpoints=http://{address}"), &format!("--to={}", file.display())]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // As soon as there is something of it. It may have been faster than that.
    while !partial.exists() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    let was_faster = child.wait().unwrap().success();
    assert_eq!(file.exists(), was_faster);
    if !was_faster {
        let resumed = backup(&address, &file, &["--resume"]);
        if resumed.status.code() == Some(1) {
            let refused = failed(&resumed);
            assert!(refused.contains("delete it and back up again"), "{refused}");
            std::fs::remove_file(&partial).unwrap();
            succeeded(&backup(&address, &file, &[]));
        }
    }
    let said = succeeded(&output(&["restore", "--dry-run", &file.display().to_string()], &[]));
    assert!(said.contains("is whole: 99 keys"), "{said}");
    stop(server);
}

/// A shell with this limit on the size of files, in blocks of 512 bytes: a write beyond it fails as on a full disk.
fn limited(blocks: u32, arguments: &[&str]) -> Output {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_orlop")]).args(arguments).env_clear();
    command.env("PATH", "/usr/bin:/bin").stdin(Stdio::null()).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_gets_full_is_named_and_leaves_nothing_that_looks_whole() {
    let temp = tempfile::tempdir().unwrap();
    let (server, address, channel) = start(&temp.path().join("old")).await;
    fill(&channel).await;
    drop(channel);
    let file = temp.path().join("a.backup");
    let (endpoint, to) = (format!("--endpoints=http://{address}"), format!("--to={}", file.display()));
    let refused = failed(&limited(3000, &["backup", &endpoint, &to]));
    assert!(refused.contains("a.backup.partial: File too large"), "{refused}");
    assert!(refused.contains("--resume goes on with it"), "{refused}");
    assert!(!file.exists());
    succeeded(&backup(&address, &file, &["--resume"]));
    stop(server);

    let new = temp.path().join("new");
    let (name, dir) = (file.display().to_string(), format!("--data-dir={}", new.display()));
    let refused = failed(&limited(3000, &["restore", &name, &dir]));
    assert!(refused.contains("0000000001.seg failed: File too large"), "{refused}");
    std::fs::remove_dir_all(&new).unwrap();
    succeeded(&restore(&file, &new, &[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_is_no_store_and_nothing_goes_on_with_it() {
    let temp = tempfile::tempdir().unwrap();
    let (server, address, channel) = start(&temp.path().join("old")).await;
    fill(&channel).await;
    drop(channel);
    let file = temp.path().join("a.backup");
    succeeded(&backup(&address, &file, &[]));
    stop(server);
    let new = temp.path().join("new");
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    command.args(["restore", &file.display().to_string(), &format!("--data-dir={}", new.display())]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // As soon as there is a file with records. It may have been faster than that.
    while !new.join("0000000001.seg").exists() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    if child.wait().unwrap().success() {
        return;
    }
    let refused = failed(&restore(&file, &new, &[]));
    assert!(refused.contains("is not empty"), "{refused}");
    let checked = output(&["check", "--data-dir", &new.display().to_string()], &[]);
    assert_ne!(checked.status.code(), Some(0), "{}", text(&checked.stdout));
    std::fs::remove_dir_all(&new).unwrap();
    succeeded(&restore(&file, &new, &[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_backup_or_no_empty_place_is_refused_and_nothing_is_written() {
    let temp = tempfile::tempdir().unwrap();
    let (server, address, channel) = start(&temp.path().join("old")).await;
    fill(&channel).await;
    drop(channel);
    // Into a directory it goes under a name of its own.
    let said = succeeded(&backup(&address, temp.path(), &[]));
    let file = Path::new(said.trim_end().rsplit(' ').next().unwrap()).to_owned();
    assert!(file.file_name().unwrap().to_str().unwrap().ends_with("-121.backup"), "{said}");
    let refused = failed(&backup(&address, &file, &[]));
    assert!(refused.contains("exists already, and a backup overwrites nothing"), "{refused}");
    stop(server);

    let refused = failed(&restore(&file, &temp.path().join("old"), &[]));
    assert!(refused.contains("is not empty, and a store is never changed"), "{refused}");
    let whole = std::fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let new = temp.path().join("new");
    for (content, complaint) in [
        (&whole[..whole.len() / 2], "it is cut off at offset "),
        (&flipped, "its checksum does not match"),
        (&[0; 4096], "it is no backup of orlop; a snapshot of etcdctl is restored with `orlop import"),
        (&[], "it is no backup of orlop: it is too short"),
    ] {
        let bad = temp.path().join("bad.backup");
        std::fs::write(&bad, content).unwrap();
        let refused = failed(&restore(&bad, &new, &[]));
        assert!(
            refused.contains(complaint) && refused.contains("bad.backup cannot be restored"),
            "{refused}"
        );
        assert!(!new.exists());
    }
    let refused = failed(&backup(&address, &temp.path().join("none"), &[]));
    assert!(refused.contains("no server answers: http://"), "{refused}");
    for arguments in [&["backup"][..], &["restore"], &["restore", "a", "--bump-revision=0"]] {
        assert_eq!(output(arguments, &[]).status.code(), Some(64), "{arguments:?}");
    }
    for command in ["backup", "restore"] {
        let help = output(&[command, "--help"], &[]);
        assert!(text(&help.stdout).contains("Example"), "{}", text(&help.stdout));
    }
}

#[test]
fn over_tls_both_sides_have_to_be_known() {
    let temp = tempfile::tempdir().unwrap();
    let (ours, theirs) =
        (Authority::new(&temp.path().join("ours")), Authority::new(&temp.path().join("theirs")));
    let as_server = |flags: [String; 3]| flags.map(|flag| flag.replace("--peer-", "--"));
    let data = format!("--data-dir={}", temp.path().join("data").display());
    let [cert, key, ca] = as_server(ours.flags("server", &ours));
    let url = "--listen-client-urls=https://127.0.0.1:0";
    let mut server = Program::start(&[url, &data, &cert, &key, &ca, "--client-cert-auth"]);
    let greeting = server.greeting();
    let url = greeting.lines().find_map(|line| line.trim().strip_prefix("on    ")).unwrap().to_owned();
    let to = |name: &str| format!("--to={}", temp.path().join(name).display());
    let as_client = |flags: [String; 3]| {
        flags.map(|flag| {
            let flag = flag.replace("--peer-trusted-ca-file", "--cacert");
            flag.replace("--peer-cert-file", "--cert").replace("--peer-key-file", "--key")
        })
    };
    let [cert, key, ca] = as_client(ours.flags("client", &ours));
    let endpoint = format!("--endpoints={url}");
    succeeded(&output(&["backup", &endpoint, &to("a"), &ca, &cert, &key], &[]));
    let refused = failed(&output(&["backup", &endpoint, &to("b")], &[]));
    assert!(refused.contains("say with --cacert who signs the server's certificate"), "{refused}");
    failed(&output(&["backup", &endpoint, &to("b"), &ca], &[]));
    let [cert, key, ca] = as_client(ours.flags("client", &theirs));
    let refused = failed(&output(&["backup", &endpoint, &to("b"), &ca, &cert, &key], &[]));
    assert!(refused.contains("invalid peer certificate"), "{refused}");
    let [cert, key, ca] = as_client(theirs.flags("client", &ours));
    failed(&output(&["backup", &endpoint, &to("b"), &ca, &cert, &key], &[]));
    assert!(!temp.path().join("b").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_store_comes_back_empty() {
    let temp = tempfile::tempdir().unwrap();
    let (server, address, channel) = start(&temp.path().join("old")).await;
    drop(channel);
    let file = temp.path().join("a.backup");
    succeeded(&backup(&address, &file, &[]));
    stop(server);
    let new = temp.path().join("new");
    succeeded(&restore(&file, &new, &["--bump-revision=5"]));
    let (server, _, channel) = start(&new).await;
    let found = all(&channel).await;
    assert_eq!((found.kvs, found.header.unwrap().revision), (Vec::<KeyValue>::new(), 6));
    drop(channel);
    stop(server);
}

#[cfg(feature = "cluster-tests")]
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_restored_on_tikv_and_never_over_a_store() {
    let temp = tempfile::tempdir().unwrap();
    let (server, address, channel) = start(&temp.path().join("old")).await;
    fill(&channel).await;
    let before = all(&channel).await;
    drop(channel);
    let file = temp.path().join("a.backup");
    succeeded(&backup(&address, &file, &[]));
    stop(server);
    let cluster = cluster::Cluster::start();
    let (endpoints, prefix) = (cluster.endpoints(), cluster.prefix());
    let name = file.display().to_string();
    let arguments = ["restore", &name, "--engine=tikv", &endpoints, &prefix];
    succeeded(&output(&arguments, &[]));
    let refused = failed(&output(&arguments, &[]));
    assert!(refused.contains("there is a store already"), "{refused}");
    let checked = output(&["check", "--engine=tikv", &endpoints, &prefix], &[]);
    assert!(succeeded(&checked).ends_with(": everything is as it should be\n"));
    let free_peer = "--listen-peer-urls=http://127.0.0.1:0";
    let mut server = Program::start(&[FREE_PORT, free_peer, "--engine=tikv", &endpoints, &prefix]);
    let address = server.address();
    while clients::http(&address, "/readyz").0 != 200 {
        clients::pause().await;
    }
    assert_eq!(all(&connect(&address).await).await.kvs, before.kvs);
}
