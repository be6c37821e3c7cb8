//! The program on a TiKV cluster: one that the test starts, or the real one that `ORLOP_TEST_PD` names.
//! `cargo xtask test --only tikv-server,tikv` runs this.

#![cfg(feature = "cluster-tests")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod clients;
mod cluster;
mod program;

use clients::{connect, free_address, get, http, pause, put, watched};
use cluster::Cluster;
use program::{Program, output, text};
use rustix::process::Signal;
use tonic::Code;
use tonic::transport::Channel;

const FREE_PORT: &str = "--listen-client-urls=http://127.0.0.1:0";
const FREE_PEER_PORT: &str = "--listen-peer-urls=http://127.0.0.1:0";

/// A server on the cluster, and a connection to it.
async fn serve(cluster: &Cluster) -> (Program, Channel) {
    let mut server = Program::start(&[
        FREE_PORT,
        FREE_PEER_PORT,
        "--engine=tikv",
        &cluster.endpoints(),
        &cluster.prefix(),
    ]);
    let address = server.address();
    ready(&address).await;
    (server, connect(&address).await)
}

/// Waits until the server is ready: it leads as soon as it has seen that nobody else does.
async fn ready(address: &str) {
    while http(address, "/readyz").0 != 200 {
        pause().await;
    }
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

#[tokio::test]
async fn it_waits_for_pd_alive_and_not_ready() {
    if Cluster::is_real() {
        println!("a PD that is not there yet cannot be a real one: not run on ORLOP_TEST_PD");
        return;
    }
    let (pd, address) = (free_address(), free_address());
    let url = format!("--listen-client-urls=http://{address}");
    let mut server =
        Program::start(&[&url, FREE_PEER_PORT, "--engine=tikv", &format!("--pd-endpoints={pd}")]);
    let waiting = server.log_line("waiting for TiKV");
    assert!(waiting.contains(&format!("no PD answers at {pd}")), "{waiting}");
    assert_eq!(http(&address, "/livez").0, 200);
    let (status, body) = http(&address, "/readyz");
    assert!(status == 503 && body.contains("TiKV's PD does not answer"), "{status} {body}");
    let channel = connect(&address).await;
    let refused = put(&channel, "a", "1").await.unwrap_err();
    assert!(refused.code() == Code::Unavailable && refused.message().contains("PD"), "{refused}");

    let _cluster = Cluster::start_at(&pd);
    let greeting = server.greeting();
    assert!(greeting.contains(&format!("TiKV at {pd}")), "{greeting}");
    ready(&address).await;
    let channel = connect(&address).await;
    put(&channel, "a", "1").await.unwrap();
}

#[test]
fn while_it_waits_for_pd_it_can_be_asked_to_stop() {
    let pd = format!("--pd-endpoints={}", free_address());
    let mut server = Program::start(&[FREE_PORT, FREE_PEER_PORT, "--engine=tikv", &pd]);
    server.log_line("waiting for TiKV");
    server.signal(Signal::TERM);
    assert_eq!(server.end().0, Some(0));
}

#[test]
fn a_file_for_tls_that_cannot_be_read_is_named() {
    let files = ["--tikv-ca-file=/nowhere/ca", "--tikv-cert-file=/nowhere/c", "--tikv-key-file=/nowhere/k"];
    let arguments =
        [&[FREE_PORT, FREE_PEER_PORT, "--engine=tikv", "--pd-endpoints=127.0.0.1:1"][..], &files].concat();
    let refused = output(&arguments, &[]);
    assert_eq!(refused.status.code(), Some(1));
    let said = text(&refused.stderr);
    assert!(said.contains("orlop: TLS to TiKV: ") && said.contains("/nowhere/"), "{said}");
}
