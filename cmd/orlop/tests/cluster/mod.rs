//! A TiKV cluster for a test.

#![allow(dead_code, reason = "each test program uses its part of it")]

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};

use base::{Random, SystemRandom};

/// The process of `tests/tikv`, or a real cluster.
pub struct Cluster {
    pd: String,
    prefix: String,
    _server: Option<Server>,
}

/// Ends with the test; with its standard input also when the test is killed.
struct Server {
    child: Child,
    _tie: ChildStdin,
}

impl Cluster {
    /// Whether the tests run against a real cluster.
    pub fn is_real() -> bool {
        std::env::var_os("ORLOP_TEST_PD").is_some()
    }

    /// The cluster to test on.
    pub fn start() -> Cluster {
        match std::env::var("ORLOP_TEST_PD") {
            Ok(pd) => Cluster { pd, prefix: unique_prefix(), _server: None },
            Err(_) => Cluster::start_at("127.0.0.1:0"),
        }
    }

    /// One of the test's own, with its PD at this address.
    pub fn start_at(pd: &str) -> Cluster {
        let program = std::env::var_os("ORLOP_TIKV_SERVER")
            .expect("ORLOP_TIKV_SERVER names the program: run `cargo xtask test --only tikv-server,tikv`");
        let mut command = Command::new(program);
        command.args(["--tied", "--pd-addr", pd]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let tie = child.stdin.take().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (_, rest) = line.split_once("\"pd\":\"").expect("it says where PD is");
        let pd = rest.split_once('"').unwrap().0.to_owned();
        Cluster { pd, prefix: unique_prefix(), _server: Some(Server { child, _tie: tie }) }
    }

    /// The flag that says where it is.
    pub fn endpoints(&self) -> String {
        format!("--pd-endpoints={}", self.pd)
    }

    /// The flag for keys that nobody else has.
    pub fn prefix(&self) -> String {
        format!("--key-prefix={}", self.prefix)
    }
}

fn unique_prefix() -> String {
    format!("orlop-test/{:032x}/", SystemRandom.next_u128())
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
