use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::{Clock, SystemClock};
use bytes::Bytes;
use clap::ValueEnum;
use hdrhistogram::Histogram;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, compare, compare::TargetUnion,
    request_op::Request,
};
use tonic::transport::Channel;

/// What the requests are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Load {
    /// Plain puts of new keys.
    Put,
    /// kube-apiserver's creation: a transaction that puts a key if it does not exist.
    Create,
    /// Point reads of the keys that an earlier `put` or `create` of as many requests left.
    Get,
}

/// A load, spelled out.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the server listens.
    pub endpoint: String,
    /// Connections, each shared by an equal part of the clients.
    pub connections: usize,
    /// Clients: each has one request in flight.
    pub clients: usize,
    /// Requests in all.
    pub total: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// What the requests are.
    pub load: Load,
}

/// What came of a load.
pub struct Outcome {
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// The time of each request, in microseconds.
    pub latency_us: Histogram<u64>,
}

/// Anything that ends a run: a broken connection, a refused request.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The longest answer that is told apart: one minute.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Runs the load.
pub async fn run(plan: &Plan) -> Result<Outcome, Error> {
    let mut channels = Vec::with_capacity(plan.connections);
    for _ in 0..plan.connections {
        channels.push(Channel::from_shared(plan.endpoint.clone())?.connect().await?);
    }
    let next = Arc::new(AtomicU64::new(0));
    let began = SystemClock.now();
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..plan.clients {
        let Some(channel) = channels.get(client % channels.len()) else { continue };
        let client = Client { kv: KvClient::new(channel.clone()), next: next.clone(), plan: plan.clone() };
        clients.spawn(client.run());
    }
    let mut latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?;
    while let Some(done) = clients.join_next().await {
        latency_us.add(done??)?;
    }
    Ok(Outcome { elapsed: SystemClock.now() - began, latency_us })
}

struct Client {
    kv: KvClient<Channel>,
    next: Arc<AtomicU64>,
    plan: Plan,
}

impl Client {
    async fn run(mut self) -> Result<Histogram<u64>, Error> {
        let mut latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)?;
        let value = Bytes::from(vec![b'v'; self.plan.value_bytes]);
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.plan.total {
                return Ok(latency_us);
            }
            let began = SystemClock.now();
            self.request(number, value.clone()).await?;
            let took = SystemClock.now() - began;
            latency_us.saturating_record(u64::try_from(took.as_micros()).unwrap_or(LATENCY_US_MAX).max(1));
        }
    }

    async fn request(&mut self, number: u64, value: Bytes) -> Result<(), Error> {
        let key = key(number);
        match self.plan.load {
            Load::Put => {
                self.kv.put(PutRequest { key, value, ..PutRequest::default() }).await?;
            }
            Load::Create => {
                let answer = self.kv.txn(create(key, value)).await?.into_inner();
                if !answer.succeeded {
                    return Err("a key to be created exists already: use an empty store".into());
                }
            }
            Load::Get => {
                let request = RangeRequest { key, ..RangeRequest::default() };
                if self.kv.range(request).await?.into_inner().kvs.is_empty() {
                    return Err(
                        "a key to be read is not there: run put or create with as many requests first".into(),
                    );
                }
            }
        }
        Ok(())
    }
}

/// 73 bytes, shaped like the key of a Kubernetes object; neighbours in number are not neighbours in order.
fn key(number: u64) -> Bytes {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("/registry/pods/namespace-{:04}/bench-{spread:016x}-{number:020}", spread % 1000).into()
}

fn create(key: Bytes, value: Bytes) -> TxnRequest {
    let compare = Compare {
        result: compare::CompareResult::Equal.into(),
        target: compare::CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(0)),
        ..Compare::default()
    };
    let put = PutRequest { key, value, ..PutRequest::default() };
    let success = vec![RequestOp { request: Some(Request::RequestPut(put)) }];
    TxnRequest { compare: vec![compare], success, failure: Vec::new() }
}
