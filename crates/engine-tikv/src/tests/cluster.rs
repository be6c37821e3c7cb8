use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Random, SystemClock, SystemRandom};
use bytes::Bytes;
use engine::{Batch, Engine};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::prefixed::Prefixed;
use crate::{Collecting, Config, ConnectError, TikvEngine};

/// Tries to connect, each of which fails only if it meets a fault.
const CONNECTS_MAX: usize = 50;

/// A cluster for one test.
pub(super) struct Cluster {
    pd: String,
    /// What every key of this test begins with: a real cluster is there for others too.
    prefix: String,
    server: Option<Server>,
}

/// The process of `tests/tikv`. It ends with its standard input, so also when the test is killed.
struct Server {
    child: Child,
    _tie: ChildStdin,
    admin: String,
}

impl Cluster {
    /// The cluster to test against.
    pub(super) fn start() -> Cluster {
        Cluster::start_with(&[])
    }

    /// One of our own that takes only clients with the certificates that it writes into `dir`; `None` on a real one.
    pub(super) fn with_tls(dir: &Path) -> Option<Cluster> {
        let cluster = Cluster::start_with(&["--tls".as_ref(), dir.as_os_str()]);
        cluster.server.is_some().then_some(cluster).or_else(|| not_run("certificates of its own"))
    }

    fn start_with(arguments: &[&OsStr]) -> Cluster {
        let prefix = format!("orlop-test/{:032x}/", SystemRandom.next_u128());
        if let Ok(pd) = std::env::var("ORLOP_TEST_PD") {
            return Cluster { pd, prefix, server: None };
        }
        let program = std::env::var_os("ORLOP_TIKV_SERVER")
            .expect("ORLOP_TIKV_SERVER names the program: run `cargo xtask test --only tikv-server,tikv`");
        let mut command = Command::new(program);
        command
            .arg("--tied")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("the TiKV server starts");
        let tie = child.stdin.take().expect("a pipe");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("its addresses");
        let addresses: serde_json::Value = serde_json::from_str(&line).expect("a line of JSON");
        let address = |name: &str| addresses[name].as_str().expect("an address").to_owned();
        let server = Server { child, _tie: tie, admin: address("admin") };
        Cluster { pd: address("pd"), prefix, server: Some(server) }
    }

    /// A cluster whose faults can be chosen. `None` on a real one: then the test says so, and has nothing to do.
    pub(super) fn with_faults() -> Option<Cluster> {
        let cluster = Cluster::start();
        cluster.server.is_some().then_some(cluster).or_else(|| not_run("faults to order"))
    }

    pub(super) fn pd(&self) -> &str {
        &self.pd
    }

    pub(super) fn config(&self) -> Config {
        // A real cluster may be there for others, who need their old versions.
        let collecting = if self.server.is_some() { Collecting::Here } else { Collecting::Elsewhere };
        Config { service: self.prefix.clone(), collecting, ..Config::new(vec![self.pd.clone()]) }
    }

    /// An engine of its own on the cluster. It sees all keys.
    pub(super) async fn connect(&self) -> TikvEngine {
        self.connect_with(self.config()).await
    }

    pub(super) async fn connect_with(&self, config: Config) -> TikvEngine {
        for _ in 0..CONNECTS_MAX {
            match TikvEngine::connect(config.clone()).await {
                Ok(engine) => return engine,
                // As every user of it: it may be in trouble at the moment.
                Err(ConnectError::Unreachable { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the cluster cannot be reached")
    }

    /// An engine that sees only the store `name` of this test.
    pub(super) async fn store(&self, name: &str) -> Arc<dyn Engine> {
        Arc::new(Prefixed::new(self.connect().await, self.key(&format!("{name}/"))))
    }

    /// The same, of which the outcome of every batch can be told.
    pub(super) async fn marking_store(&self, name: &str) -> Arc<dyn Engine> {
        Arc::new(Prefixed::new(self.connect().await, self.key(&format!("{name}/"))).marking())
    }

    /// A key of this test.
    pub(super) fn key(&self, name: &str) -> Bytes {
        Bytes::from(format!("{}{name}", self.prefix))
    }

    /// Sends a request to the side door and returns the answer.
    pub(super) async fn admin(&self, request: &str) -> String {
        let admin = &self.server.as_ref().expect("a cluster with faults").admin;
        let mut stream = TcpStream::connect(admin).await.expect("the side door is open");
        let head = format!("GET {request} HTTP/1.0\r\nHost: {admin}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP response");
        assert!(head.starts_with("HTTP/1.0 200"), "{request}: {head} {body}");
        body.to_owned()
    }

    /// The next `count` calls of `method` that concern the region of `key` meet `kind`.
    pub(super) async fn inject(&self, method: &str, kind: &str, key: &Bytes, count: usize) {
        let region = self.admin(&format!("/region?key={}", text(key))).await;
        self.admin(&format!("/inject?method={method}&kind={kind}&count={count}&region={region}")).await;
    }

    /// From now on a region begins at `key`.
    pub(super) async fn split(&self, key: &Bytes) {
        self.admin(&format!("/split?key={}", text(key))).await;
    }

    /// How often `method` was called since the faults were cleared last.
    pub(super) async fn calls(&self, method: &str) -> u64 {
        let counts: serde_json::Value = serde_json::from_str(&self.admin("/counts").await).expect("JSON");
        counts[method].as_u64().unwrap_or(0)
    }
}

fn not_run(needs: &str) -> Option<Cluster> {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    println!("{test} needs {needs}, and a real cluster has none: not run on ORLOP_TEST_PD");
    None
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn text(key: &Bytes) -> &str {
    std::str::from_utf8(key).expect("the keys of a test are text")
}

/// A batch as the owner of a log makes it: the next slot first, then the records.
pub(super) fn batch_of(slot: &Bytes, records: &[(&Bytes, &'static str)]) -> Batch {
    let mut batch = Batch::new();
    batch.insert(slot.clone(), "slot");
    for (key, value) in records {
        batch.put((*key).clone(), *value);
    }
    batch
}

/// What a new snapshot shows under these keys.
pub(super) async fn values(engine: &dyn Engine, keys: &[&Bytes]) -> Vec<Option<Bytes>> {
    let keys: Vec<Bytes> = keys.iter().map(|key| (*key).clone()).collect();
    engine.snapshot().await.expect("a snapshot").get_many(&keys).await.expect("the values")
}

/// A clock on which ten times as much time passes: what takes its time must not take ours.
pub(super) struct FastClock;

const FASTER: u32 = 10;

impl Clock for FastClock {
    fn now(&self) -> Duration {
        SystemClock.now() * FASTER
    }

    fn sleep_until(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move { SystemClock.sleep_until(deadline / FASTER).await })
    }
}
