use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::{ManualClock, SeededRandom, Shutdown, Supervisor};
use engine::{Engine, MemoryEngine};
use layout::KeySpace;
use partition::{Settings, Store, World};
use prometheus_client::registry::Registry;
use proto::etcdserverpb::auth_client::AuthClient;
use proto::etcdserverpb::cluster_client::ClusterClient;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::{
    PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse, request_op,
};
use server::{Config, Listener, Metrics, Parts, Server, Serves};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Channel;

/// Longer than any step of a test takes; only a test that hangs ever waits so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server of its own for each test.
pub struct TestServer {
    pub address: SocketAddr,
    pub clock: ManualClock,
    pub engine: Arc<dyn Engine>,
    pub config: Config,
    supervisor: Supervisor,
    serving: JoinHandle<Result<(), server::ServeError>>,
    channel: Channel,
}

impl TestServer {
    pub async fn start() -> TestServer {
        TestServer::start_with(Config::default()).await
    }

    pub async fn start_with(config: Config) -> TestServer {
        TestServer::start_on(Arc::new(MemoryEngine::new()), config).await
    }

    pub async fn start_on(engine: Arc<dyn Engine>, config: Config) -> TestServer {
        let clock = ManualClock::default();
        let supervisor = Supervisor::new(Shutdown::new());
        let random = Arc::new(SeededRandom::new(7));
        let world = World {
            engine: engine.clone(),
            clock: Arc::new(clock.clone()),
            random: random.clone(),
            supervisor: supervisor.clone(),
        };
        let space = KeySpace::new("").unwrap();
        let store = Store::open(world, Settings::new(space)).await.unwrap();
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let server = Server::new(Parts {
            fleet: None,
            store,
            engine: engine.clone(),
            clock: Arc::new(clock.clone()),
            random,
            supervisor: supervisor.clone(),
            permissions: None,
            tracing: None,
            config: config.clone(),
            metrics,
            registry: Arc::new(registry),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = supervisor.shutdown().clone();
        let serving = tokio::task::spawn(async move {
            server
                .serve(
                    Listener { socket: Arc::new(listener), tls: None, serves: Serves::Everything },
                    shutdown,
                )
                .await
        });
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        TestServer { address, clock, engine, config, supervisor, serving, channel }
    }

    /// Gives the signal to stop.
    pub fn begin_stop(&self) {
        self.supervisor.shutdown().begin();
    }

    /// Waits until everything has ended.
    pub async fn ended(self) {
        let TestServer { supervisor, serving, channel, .. } = self;
        drop(channel);
        tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap().unwrap();
        assert!(supervisor.drain(PATIENCE).await, "every task has ended");
        assert_eq!(supervisor.failure(), None);
    }

    pub async fn stop(self) {
        self.begin_stop();
        self.ended().await;
    }

    /// Stops, and starts another on the same engine.
    pub async fn restart(self) -> TestServer {
        let (engine, config) = (self.engine.clone(), self.config.clone());
        self.stop().await;
        TestServer::start_on(engine, config).await
    }

    pub fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    pub fn lease(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    pub fn watch(&self) -> WatchClient<Channel> {
        WatchClient::new(self.channel.clone())
    }

    pub fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    pub fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    pub fn auth(&self) -> AuthClient<Channel> {
        AuthClient::new(self.channel.clone())
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub async fn put(&self, key: &str, value: &str) -> PutResponse {
        self.try_put(put_of(key, value)).await.unwrap()
    }

    pub async fn try_put(&self, put: PutRequest) -> Result<PutResponse, Status> {
        Ok(self.kv().put(put).await?.into_inner())
    }

    pub async fn range(&self, range: RangeRequest) -> Result<RangeResponse, Status> {
        Ok(self.kv().range(range).await?.into_inner())
    }

    pub async fn txn(&self, txn: TxnRequest) -> Result<TxnResponse, Status> {
        Ok(self.kv().txn(txn).await?.into_inner())
    }

    /// The keys in a range, with their values.
    pub async fn pairs(&self, range: RangeRequest) -> Vec<(String, String)> {
        pairs(&self.range(range).await.unwrap())
    }

    pub async fn revision(&self) -> i64 {
        self.range(range_of("absent", "")).await.unwrap().header.unwrap().revision
    }

    /// Sends a plain HTTP request; returns the status line, the headers and the body.
    pub async fn http(&self, method: &str, target: &str, headers: &str) -> (String, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let (status, headers) = head.split_once("\r\n").unwrap();
        (status.to_owned(), headers.to_owned(), body.to_owned())
    }

    pub async fn get(&self, target: &str) -> (String, String) {
        let (status, _, body) = self.http("GET", target, "").await;
        (status, body)
    }
}

/// Asks again and again until the answer is there; nothing else tells a test what goes on in the background.
pub async fn eventually<T, F: Future<Output = Option<T>>>(mut ask: impl FnMut() -> F) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("what is waited for happens")
}

pub fn put_of(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..PutRequest::default() }
}

pub fn range_of(key: &str, end: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), range_end: end.to_owned().into(), ..RangeRequest::default() }
}

/// Every key.
pub fn all() -> RangeRequest {
    range_of("\0", "\0")
}

pub fn op(request: request_op::Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

pub fn pairs(response: &RangeResponse) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    response.kvs.iter().map(|kv| (text(&kv.key), text(&kv.value))).collect()
}

/// What a client is told.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> (tonic::Code, String) {
    let status = answer.expect_err("the request is refused");
    (status.code(), status.message().to_owned())
}
