//! The program as a user or a service manager meets it: what it prints, and the code that it ends with.

mod program;

use std::net::TcpListener;

use program::{Program, output, text};
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::{PutRequest, PutResponse, RangeRequest};
use rustix::process::Signal;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

const FREE_PORT: &str = "--listen-client-urls=http://127.0.0.1:0";

#[test]
fn everything_that_is_wrong_with_the_flags_is_said_at_once_with_code_64() {
    let output = output(&["serve", "--datadir=/d", "--max-txn-ops", "many"], &[("ORLOP_ENGINE", "bolt")]);
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(text(&output.stdout), "");
    assert_eq!(
        text(&output.stderr),
        "orlop: --datadir: there is no such flag; did you mean --data-dir?\n\
         orlop: ORLOP_ENGINE: \"bolt\": expected one of: embedded, tikv, memory\n\
         orlop: --max-txn-ops: \"many\": expected a whole number from 1 to 65536\n\
         orlop: nothing was started; `orlop --help` shows the flags\n"
    );
}

#[test]
fn help_and_version_are_printed_with_code_0() {
    let version = output(&["--version"], &[]);
    assert_eq!((version.status.code(), text(&version.stdout)), (Some(0), "orlop 0.1.0 (etcd API 3.7)\n"));
    let help = output(&["--help"], &[]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help.stdout).contains("--data-dir DIR"));
}

#[test]
fn it_says_where_it_is_and_ends_with_0_on_sigterm_and_on_sigint() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("data");
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Program::start(&[FREE_PORT, &format!("--data-dir={}", dir.display())]);
        let greeting = server.greeting();
        assert!(greeting.contains("on    http://127.0.0.1:") && !greeting.contains(":0\n"), "{greeting}");
        assert!(greeting.contains(&format!("data  {} (0 keys, revision 1)", dir.display())), "{greeting}");
        server.signal(signal);
        let (code, log) = server.end();
        assert_eq!(code, Some(0), "{log}");
    }
}

#[test]
fn with_json_every_line_is_an_object_and_standard_output_stays_empty() {
    let mut server = Program::start(&["--engine=memory", FREE_PORT, "--log-format=json"]);
    let ready = server.log_line("ready to serve client requests");
    assert!(ready.contains("\"url\":\"http://127.0.0.1:"), "{ready}");
    server.signal(Signal::TERM);
    let stdout = server.stdout();
    let (code, log) = server.end();
    assert_eq!((code, stdout.as_str()), (Some(0), ""));
    assert!(log.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{log}");
}

#[test]
fn a_second_process_on_the_same_data_is_refused_by_name() {
    let temp = tempfile::tempdir().unwrap();
    let data = format!("--data-dir={}", temp.path().display());
    let mut first = Program::start(&[FREE_PORT, &data]);
    first.greeting();
    let second = output(&[FREE_PORT, &data], &[]);
    assert_eq!(second.status.code(), Some(1));
    let expected = format!(
        "orlop: the data directory {} is in use by another process (process id {}); stop that process, or choose \
         another directory\n",
        temp.path().display(),
        first.pid(),
    );
    assert!(text(&second.stderr).ends_with(&expected), "{}", text(&second.stderr));
    first.signal(Signal::TERM);
    assert_eq!(first.end().0, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_though_a_request_is_under_way() {
    let mut server = Program::start(&["--engine=memory", FREE_PORT]);
    let url = format!("http://{}", server.address());
    let channel = Channel::from_shared(url).unwrap().connect().await.unwrap();
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    // A request whose body never comes.
    let endless = tonic::Request::new(tokio_stream::pending::<PutRequest>());
    let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
    let put = client.client_streaming(endless, path, ProstCodec::<PutRequest, PutResponse>::default());
    // Kept to the end: it is what is under way.
    tokio::pin!(put);
    let range = RangeRequest { key: b"a".to_vec().into(), ..RangeRequest::default() };
    let mut behind_it = KvClient::new(channel);
    tokio::select! {
        biased;
        answer = &mut put => panic!("answered without a body: {answer:?}"),
        // What is sent behind it on the same connection is answered: so the server has it.
        answer = behind_it.range(range) => drop(answer.unwrap()),
    }
    server.signal(Signal::TERM);
    server.log_line("asked to stop");
    server.signal(Signal::TERM);
    assert_eq!(server.end().0, Some(143));
}

#[test]
fn a_damaged_data_file_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let data = format!("--data-dir={}", temp.path().display());
    let mut server = Program::start(&[FREE_PORT, &data]);
    server.greeting();
    server.signal(Signal::TERM);
    assert_eq!(server.end().0, Some(0));

    let file = temp.path().join("FORMAT");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let refused = output(&[FREE_PORT, &data], &[]);
    assert_eq!(refused.status.code(), Some(1));
    let expected = format!("orlop: the data file {} is damaged at offset ", file.display());
    assert!(text(&refused.stderr).contains(&expected), "{}", text(&refused.stderr));
}

#[test]
fn a_port_that_is_taken_is_named_and_nothing_is_left_behind() {
    let temp = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", taken.local_addr().unwrap());
    let dir = temp.path().join("data");
    let refused =
        output(&[&format!("--listen-client-urls={url}"), &format!("--data-dir={}", dir.display())], &[]);
    assert_eq!(refused.status.code(), Some(1));
    let expected =
        format!("orlop: cannot listen on {url}: Address already in use (os error 98); another process");
    assert!(text(&refused.stderr).contains(&expected), "{}", text(&refused.stderr));
    assert!(!dir.exists());
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("file");
    std::fs::write(&file, "").unwrap();
    // In both places not even the superuser can create a directory.
    for dir in [file.join("data").display().to_string(), "/proc/orlop-data".to_owned()] {
        let refused = output(&[FREE_PORT, &format!("--data-dir={dir}")], &[]);
        assert_eq!(refused.status.code(), Some(1));
        let expected = format!("orlop: the data directory {dir} cannot be created: ");
        assert!(text(&refused.stderr).contains(&expected), "{}", text(&refused.stderr));
    }
}

#[test]
fn the_name_of_a_missing_configuration_file_is_said() {
    let refused = output(&["--config-file=/nowhere/orlop.toml"], &[]);
    assert_eq!(refused.status.code(), Some(64));
    let expected =
        "orlop: /nowhere/orlop.toml: the configuration file cannot be read: No such file or directory";
    assert!(text(&refused.stderr).starts_with(expected), "{}", text(&refused.stderr));
}
