//! `orlop check`: what an operator learns of a store.

#![allow(clippy::unwrap_used, reason = "a test whose equipment breaks has failed")]

mod clients;
#[cfg(feature = "cluster-tests")]
mod cluster;
mod program;

use std::path::Path;
use std::process::Output;

use clients::{connect, put};
use program::{Program, output, text};
use rustix::process::Signal;

const FREE_PORT: &str = "--listen-client-urls=http://127.0.0.1:0";

/// A directory that a server has written keys into and left.
async fn written(dir: &Path) {
    let mut server = Program::start(&[FREE_PORT, &format!("--data-dir={}", dir.display())]);
    let channel = connect(&server.address()).await;
    for key in ["/registry/a", "/registry/b"] {
        put(&channel, key, &"x".repeat(1000)).await.unwrap();
    }
    drop(channel);
    server.signal(Signal::TERM);
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log}");
}

fn check(dir: &Path, flags: &[&str]) -> Output {
    output(&[&["check", "--data-dir", &dir.display().to_string()], flags].concat(), &[])
}

/// The names and contents of all files.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_directory_is_said_to_be_that_and_not_changed() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path()).await;
    let before = files(temp.path());
    let checked = check(temp.path(), &[]);
    let said = format!(
        "{}: 2 keys, 2 objects, 6 slots and 0 leases at revision 3: everything is as it should be\n",
        temp.path().display()
    );
    assert_eq!(
        (checked.status.code(), text(&checked.stdout), text(&checked.stderr)),
        (Some(0), said.as_str(), "")
    );
    let checked = check(temp.path(), &["-o", "json"]);
    let report = text(&checked.stdout);
    assert!(report.starts_with("{\"type\":\"report\",\"cluster_id\":"), "{report}");
    let rest = ",\"revision\":3,\"compacted_revision\":null,\"keys\":2,\"objects\":2,\"slots\":6,\"leases\":0,\"problems\":0}\n";
    assert!(report.ends_with(rest), "{report}");
    assert_eq!(files(temp.path()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_is_told_with_its_file() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path()).await;
    let segment = temp.path().join("0000000001.seg");
    let mut content = std::fs::read(&segment).unwrap();
    let at = content.windows(900).position(|bytes| bytes == [b'x'; 900]).unwrap();
    content[at] ^= 1;
    std::fs::write(&segment, &content).unwrap();
    let checked = check(temp.path(), &[]);
    let said = text(&checked.stdout);
    assert_eq!((checked.status.code(), text(&checked.stderr)), (Some(1), ""), "{said}");
    let expected = format!("damaged: the data file {} is damaged at offset ", segment.display());
    assert!(said.starts_with(&expected), "{said}");
    let checked = check(temp.path(), &["--output", "json"]);
    let line = text(&checked.stdout);
    assert_eq!(checked.status.code(), Some(1), "{line}");
    assert!(
        line.starts_with("{\"type\":\"problem\",\"problem\":\"damaged\",\"text\":\"the data file "),
        "{line}"
    );
    assert!(line.ends_with(",\"key\":null,\"revision\":null,\"record\":null}\n"), "{line}");
    assert_eq!(std::fs::read(&segment).unwrap(), content, "nothing is repaired");
}

#[test]
fn a_directory_that_a_server_uses_cannot_be_checked_and_what_to_do_is_said() {
    let temp = tempfile::tempdir().unwrap();
    let mut server = Program::start(&[FREE_PORT, &format!("--data-dir={}", temp.path().display())]);
    server.greeting();
    let refused = check(temp.path(), &[]);
    let expected = format!(
        "orlop: the data directory {} is in use by a server (process id {}), and this command needs it to stay as it \
         is: stop the server first, or look at a snapshot of the file system\n",
        temp.path().display(),
        server.pid(),
    );
    assert_eq!(
        (refused.status.code(), text(&refused.stdout), text(&refused.stderr)),
        (Some(2), "", expected.as_str())
    );
}

#[test]
fn what_holds_no_store_cannot_be_checked() {
    let temp = tempfile::tempdir().unwrap();
    let refused = check(&temp.path().join("data"), &[]);
    assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(2), ""));
    assert!(text(&refused.stderr).contains("holds no data of Orlop"), "{}", text(&refused.stderr));
}

#[test]
fn its_help_has_examples_and_wrong_arguments_are_refused_with_code_64() {
    let help = output(&["check", "--help"], &[]);
    assert_eq!(help.status.code(), Some(0));
    for part in ["Example:", "--engine <NAME>", "-o, --output <FORMAT>", "Exit codes:"] {
        assert!(text(&help.stdout).contains(part), "{}", text(&help.stdout));
    }
    for (arguments, variables, complaint) in [
        (vec!["check", "--engine=tikv"], vec![], "--engine tikv needs to know where PD is"),
        (vec!["check"], vec![("ORLOP_ENGINE", "memory")], "ORLOP_ENGINE: expected embedded or tikv"),
        (vec!["check", "--tikv-ca-file=ca.pem"], vec![], "all three have to be given, or none"),
        (vec!["check", "--output=yaml"], vec![], "invalid value 'yaml'"),
    ] {
        let refused = output(&arguments, &variables);
        assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(64), ""), "{arguments:?}");
        assert!(text(&refused.stderr).contains(complaint), "{}", text(&refused.stderr));
    }
    let refused = output(&["chek"], &[]);
    assert!(text(&refused.stderr).contains("did you mean check?"), "{}", text(&refused.stderr));
}

#[cfg(feature = "cluster-tests")]
#[tokio::test(flavor = "multi_thread")]
async fn a_store_on_tikv_is_checked_while_it_is_served() {
    let cluster = cluster::Cluster::start();
    let (endpoints, prefix) = (cluster.endpoints(), cluster.prefix());
    let free_peer = "--listen-peer-urls=http://127.0.0.1:0";
    let mut server = Program::start(&[FREE_PORT, free_peer, "--engine=tikv", &endpoints, &prefix]);
    let address = server.address();
    while clients::http(&address, "/readyz").0 != 200 {
        clients::pause().await;
    }
    let channel = connect(&address).await;
    put(&channel, "a", "1").await.unwrap();
    let checked = output(&["check", "--engine=tikv", &endpoints, &prefix], &[]);
    let said = text(&checked.stdout);
    assert_eq!(checked.status.code(), Some(0), "{said}{}", text(&checked.stderr));
    assert!(said.contains("1 keys, 1 objects, "), "{said}");
    assert!(said.ends_with("at revision 2: everything is as it should be\n"), "{said}");
    // No server's: nothing is there.
    let absent = output(&["check", "--engine=tikv", &endpoints, "--key-prefix=nobody/"], &[]);
    assert_eq!(absent.status.code(), Some(2), "{}", text(&absent.stderr));
    assert!(text(&absent.stderr).contains("no store under the key prefix \"nobody/\""));
}
