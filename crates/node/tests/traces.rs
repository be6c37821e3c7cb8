//! Traces as a collector gets them: an OTLP service in the test process receives what a server sends.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test whose equipment breaks has failed; the collector is no task of a server"
)]

mod command_line;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use node::config::{Command, Config, read};
use node::{App, Running, Traces, World};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::watch_client::WatchClient;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

/// Longer than any step takes; only a test that hangs ever waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Starts one on a free port.
    async fn start() -> (Collector, u16) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let collector = Collector::default();
        let service = TraceServiceServer::new(collector.clone());
        let incoming = TcpListenerStream::new(listener);
        tokio::task::spawn(
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming),
        );
        (collector, port)
    }

    /// The spans of all traces, by the traces' ids.
    fn traces(&self) -> BTreeMap<String, Vec<Span>> {
        let mut traces: BTreeMap<String, Vec<Span>> = BTreeMap::new();
        for request in self.0.lock().unwrap().iter() {
            for scope in request.resource_spans.iter().flat_map(|resource| &resource.scope_spans) {
                for span in &scope.spans {
                    traces.entry(hex(&span.trace_id)).or_default().push(span.clone());
                }
            }
        }
        traces
    }

    /// An attribute of who sent them.
    fn resource(&self, name: &str) -> String {
        let requests = self.0.lock().unwrap();
        let resource = requests[0].resource_spans[0].resource.as_ref().unwrap();
        let attribute = resource.attributes.iter().find(|attribute| attribute.key == name).unwrap();
        format!("{:?}", attribute.value)
    }
}

fn config(port: u16) -> Config {
    let flags = [
        "--listen-client-urls=http://127.0.0.1:0".to_owned(),
        "--engine=memory".to_owned(),
        "--enable-distributed-tracing".to_owned(),
        format!("--distributed-tracing-address=127.0.0.1:{port}"),
        "--distributed-tracing-instance-id=first".to_owned(),
    ];
    match read(&command_line::Arguments(flags.to_vec())).unwrap() {
        Command::Serve(config) => *config,
        other => panic!("{other:?}"),
    }
}

async fn start(config: &Config, world: World) -> (Running, Channel) {
    let app = App::build(config, world).await.unwrap();
    let url = app.listen_urls().next().unwrap().to_string();
    let running = app.start();
    (running, Channel::from_shared(url).unwrap().connect().await.unwrap())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn with_parent<T>(message: T, traceparent: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(traceparent) = traceparent {
        request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    }
    request
}

async fn put(channel: &Channel, traceparent: Option<&str>) {
    let put =
        PutRequest { key: b"a".to_vec().into(), value: b"secret".to_vec().into(), ..PutRequest::default() };
    KvClient::new(channel.clone()).put(with_parent(put, traceparent)).await.unwrap();
}

async fn watch(channel: &Channel) -> Streaming<WatchResponse> {
    let create = WatchCreateRequest { key: b"a".to_vec().into(), ..WatchCreateRequest::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = tokio_stream::iter([request]).chain(tokio_stream::pending());
    let mut responses = WatchClient::new(channel.clone()).watch(requests).await.unwrap().into_inner();
    assert!(responses.message().await.unwrap().unwrap().created);
    responses
}

async fn see_event(responses: &mut Streaming<WatchResponse>) {
    let next = tokio::time::timeout(PATIENCE, responses.message()).await.unwrap();
    assert_eq!(next.unwrap().unwrap().events.len(), 1);
}

/// The names of a trace's spans below the one with this id, in the order in which they began.
fn below(trace: &[Span], parent: &[u8]) -> Vec<String> {
    let mut children: Vec<&Span> = trace.iter().filter(|span| span.parent_span_id == parent).collect();
    children.sort_by_key(|span| span.start_time_unix_nano);
    children.iter().map(|span| span.name.clone()).collect()
}

fn named<'a>(trace: &'a [Span], name: &str) -> &'a Span {
    trace.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("there is no {name} in {trace:#?}"))
}

const PUT: &str = "etcdserverpb.KV/Put";
const RANGE: &str = "etcdserverpb.KV/Range";

/// What logs and traces go to is one for a process, hence one test.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_traced_from_its_client_to_its_watchers_if_the_client_says_so() {
    let (collector, port) = Collector::start().await;
    let config = config(port);
    let traces = Traces::open(&config.tracing).unwrap();
    node::log::start(config.log, Some(&traces));
    let world = World { tracing: Some(traces.tracing()), ..World::default() };
    let (running, channel) = start(&config, world).await;
    let (mut first, mut second) = (watch(&channel).await, watch(&channel).await);

    let (written, read) = ("0af7651916cd43dd8448eb211c80319c", "0af7651916cd43dd8448eb211c80319d");
    let span = "b7ad6b7169203331";
    put(&channel, Some(&format!("00-{written}-{span}-01"))).await;
    // Not these: one says no, one says nothing, and one says nothing that can be read.
    put(&channel, Some(&format!("00-0af7651916cd43dd8448eb211c80319e-{span}-00"))).await;
    put(&channel, None).await;
    put(&channel, Some("yes")).await;
    for _ in 0..4 {
        see_event(&mut first).await;
        see_event(&mut second).await;
    }
    let range = RangeRequest { key: b"a".to_vec().into(), ..RangeRequest::default() };
    let range = with_parent(range, Some(&format!("00-{read}-{span}-01")));
    KvClient::new(channel.clone()).range(range).await.unwrap();
    drop((first, second, channel));
    running.drain().await.unwrap();

    // A server that traces every call, without being told.
    let mut tracing = traces.tracing();
    tracing.sampled_per_million = 1_000_000;
    let (running, channel) = start(&config, World { tracing: Some(tracing), ..World::default() }).await;
    put(&channel, None).await;
    drop(channel);
    running.drain().await.unwrap();

    tokio::task::spawn_blocking(move || traces.flush(PATIENCE)).await.unwrap();
    let traces = collector.traces();
    let names = |trace: &Vec<Span>| trace.iter().map(|span| span.name.clone()).collect::<Vec<_>>();
    assert_eq!(traces.len(), 3, "{:?}", traces.values().map(names).collect::<Vec<_>>());
    let trace = &traces[written];
    let call = named(trace, PUT);
    assert_eq!(
        (hex(&call.parent_span_id).as_str(), call.kind),
        (span, 2),
        "a server's span, of its client's"
    );
    let steps = below(trace, &call.span_id);
    assert_eq!(steps[..4], ["queue", "evaluate", "engine.commit", "publish"], "{steps:?}");
    let mut rest = steps[4..].to_vec();
    rest.retain(|name| name != "watch.deliver");
    assert!(rest.is_empty() && steps.len() == 6, "one delivery for each watcher: {steps:?}");
    let ends = |name| named(trace, name).end_time_unix_nano;
    let begins = |name| named(trace, name).start_time_unix_nano;
    assert!(call.start_time_unix_nano <= begins("queue"));
    assert!(ends("queue") <= begins("evaluate") && ends("evaluate") <= begins("engine.commit"));
    assert!(ends("engine.commit") <= begins("publish") && begins("publish") <= begins("watch.deliver"));
    assert_eq!(below(&traces[read], &named(&traces[read], RANGE).span_id), ["confirm", "read"]);
    let sampled = traces.iter().find(|(id, _)| ![written, read].contains(&id.as_str())).unwrap().1;
    assert!(named(sampled, PUT).parent_span_id.is_empty(), "the first of its trace");
    assert_eq!(below(sampled, &named(sampled, PUT).span_id).len(), 4, "nobody watched");

    assert!(collector.resource("service.name").contains("orlop"));
    assert!(collector.resource("service.instance.id").contains("first"));
    let sent = format!("{:?}", collector.0.lock().unwrap());
    assert!(!sent.contains("secret"), "no value is in a trace");
}
