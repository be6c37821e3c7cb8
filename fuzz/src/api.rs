//! The whole service, as a client's bytes meet it: any call with any body is answered, and with a code of etcd's.
//!
//! An input is a list of calls, each a byte for the method, two for the length of its body, and the body. If the first
//! byte is odd, the body is one message, and its prefix is made here. Time stands still.

use std::sync::Arc;
use std::time::Duration;

use base::{ManualClock, SeededRandom, Shutdown, Supervisor};
use bytes::Bytes;
use engine::MemoryEngine;
use layout::KeySpace;
use partition::{Settings, Store, World};
use prometheus_client::registry::Registry;
use server::fuzzing::{Code, call, get};
use server::{Config, Metrics, Parts, Server};

use crate::directory::block_on;

const CALLS_MAX: usize = 12;
/// How often a call may be asked without getting on before it counts as one that waits for ever.
const POLLS_MAX: usize = 10_000;
/// A watch goes on after its requests have ended; this often it is asked what it has to say.
const WATCH_POLLS: usize = 50;
const PATIENCE: Duration = Duration::from_secs(60);

/// The methods of gRPC that are called, those among them that are refused.
pub const METHODS: [&str; 22] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/RangeStream",
    "/etcdserverpb.KV/Put",
    "/etcdserverpb.KV/DeleteRange",
    "/etcdserverpb.KV/Txn",
    "/etcdserverpb.KV/Compact",
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseGrant",
    "/etcdserverpb.Lease/LeaseRevoke",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/etcdserverpb.Lease/LeaseTimeToLive",
    "/etcdserverpb.Lease/LeaseLeases",
    "/etcdserverpb.Maintenance/Alarm",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/Hash",
    "/etcdserverpb.Maintenance/HashKV",
    "/etcdserverpb.Cluster/MemberList",
    "/etcdserverpb.Auth/Authenticate",
    "/etcdserverpb.KV/Nothing",
    "/grpc.health.v1.Health/Check",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    GET,
];

/// A plain HTTP request: its body names what it asks for.
const GET: &str = "GET";

/// Sends the calls of the input to a server of their own, one after the other.
pub fn check(input: &[u8]) {
    let Some((&framed, mut rest)) = input.split_first() else { return };
    block_on(async {
        let supervisor = Supervisor::new(Shutdown::new());
        let server = serve(&supervisor).await;
        for _ in 0..CALLS_MAX {
            let [method, low, high, behind @ ..] = rest else { break };
            let len = usize::from(u16::from_le_bytes([*low, *high])).min(behind.len());
            let (body, behind) = behind.split_at(len);
            rest = behind;
            let method = METHODS[usize::from(*method) % METHODS.len()];
            if method == GET {
                let status = get(&server, body).await;
                assert!(matches!(status, None | Some(200 | 404 | 405 | 503)), "{status:?}");
                continue;
            }
            let body = if framed % 2 == 1 { message(body) } else { Bytes::copy_from_slice(body) };
            answered(&server, method, body).await;
        }
        assert_eq!(supervisor.failure(), None, "a task has failed");
        drop(server);
        supervisor.shutdown().begin();
        assert!(supervisor.drain(PATIENCE).await, "every task ends with the server");
    });
}

/// A message as gRPC sends it.
pub fn message(body: &[u8]) -> Bytes {
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    Bytes::from([&[0], &len.to_be_bytes()[..], body].concat())
}

async fn answered(server: &Server, method: &str, body: Bytes) {
    let mut answer = std::pin::pin!(call(server, method, body));
    let is_watch = method.ends_with("/Watch");
    for _ in 0..if is_watch { WATCH_POLLS } else { POLLS_MAX } {
        let poll =
            std::future::poll_fn(|context| std::task::Poll::Ready(answer.as_mut().poll(context))).await;
        match poll {
            std::task::Poll::Ready(code) => return check_code(method, code),
            std::task::Poll::Pending => tokio::task::yield_now().await,
        }
    }
    assert!(is_watch, "{method} is never answered");
}

/// What is wrong with a request has a code of its own: these are for what is wrong with the server.
fn check_code(method: &str, code: Code) {
    let is_ours = matches!(code, Code::Unknown | Code::DataLoss | Code::Aborted);
    assert!(!is_ours, "{method} ends with {code:?}");
}

async fn serve(supervisor: &Supervisor) -> Server {
    let (engine, clock) = (Arc::new(MemoryEngine::new()), Arc::new(ManualClock::default()));
    let random = Arc::new(SeededRandom::new(1));
    let world = World {
        engine: engine.clone(),
        clock: clock.clone(),
        random: random.clone(),
        supervisor: supervisor.clone(),
    };
    let space = KeySpace::new("").expect("an empty prefix is allowed");
    let store = Store::open(world, Settings::new(space)).await.expect("an empty engine can be opened");
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    Server::new(Parts {
        fleet: None,
        store,
        engine,
        clock,
        random,
        supervisor: supervisor.clone(),
        permissions: None,
        tracing: None,
        config: Config::default(),
        metrics,
        registry: Arc::new(registry),
    })
}
