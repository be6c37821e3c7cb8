//! Traces of requests: where a call becomes one, how it goes on at another server, and how it ends at the watchers.
//!
//! A call is traced when its client says so in W3C's `traceparent`, or, where the client says nothing, once in so many.
//! Only then are its spans made; of another call nothing is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use base::{Random, TRACE};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use model::{Event, EventBatch, Revision};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{Span as _, SpanKind, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;
use parking_lot::Mutex;
use partition::Follower;
use tonic::Code;
use tracing::{Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The newest so many traced changes are known to whoever tells watchers of them. One that a watcher hears of later shows
/// no delivery to it.
const TRACED_CHANGES_MAX: usize = 256;
/// So many deliveries of a change are in its trace: a change of a key with thousands of watchers would make thousands.
const DELIVERIES_MAX: usize = 100;
/// Which the sampling rate is a part of.
const MILLION: u64 = 1_000_000;

/// What a server needs to trace requests. The process's subscriber of `tracing` has to have a layer that makes
/// OpenTelemetry's spans of those with the target [`base::TRACE`], with the same tracer.
#[derive(Clone, Debug)]
pub struct Tracing {
    /// Makes the spans that are no part of a call.
    pub tracer: SdkTracer,
    /// How many calls in a million are traced, of those whose clients say nothing about it.
    pub sampled_per_million: u32,
}

/// The traces of a server.
pub(crate) struct Traces {
    tracing: Tracing,
    random: Arc<dyn Random>,
    /// How many `changes` has: most of the time none, and then nobody has to lock it.
    change_count: AtomicUsize,
    /// In the order of their revisions.
    changes: Mutex<VecDeque<TracedChange>>,
}

/// A change whose request is traced, from when it is published on.
struct TracedChange {
    revision: Revision,
    context: Context,
    published_at: SystemTime,
    deliveries: usize,
}

impl Traces {
    pub(crate) fn new(tracing: Tracing, random: Arc<dyn Random>) -> Traces {
        Traces { tracing, random, change_count: AtomicUsize::new(0), changes: Mutex::default() }
    }

    /// The span of a client's call; none when it is not traced.
    pub(crate) fn of_client(&self, path: &str, headers: &HeaderMap) -> Span {
        let parent = parent_of(headers);
        let said = parent.span().span_context().clone();
        let is_traced = match said.is_valid() {
            true => said.is_sampled(),
            false => self.random.next_u64() % MILLION < u64::from(self.tracing.sampled_per_million),
        };
        if is_traced { begin(path, parent) } else { Span::none() }
    }

    /// The span of a call that another server passes on, which has decided whether it is traced.
    pub(crate) fn of_peer(path: &str, headers: &HeaderMap) -> Span {
        let parent = parent_of(headers);
        let is_traced = parent.span().span_context().is_sampled();
        if is_traced { begin(path, parent) } else { Span::none() }
    }

    /// A watcher is handed these events.
    pub(crate) fn delivered(&self, watch_id: i64, events: &[(Arc<Event>, Option<Bytes>)]) {
        if self.change_count.load(Ordering::Acquire) == 0 {
            return;
        }
        for change in self.changes.lock().iter_mut() {
            let has = |(event, _): &(Arc<Event>, _)| event.change.revision == change.revision;
            if change.deliveries >= DELIVERIES_MAX || !events.iter().any(has) {
                continue;
            }
            change.deliveries += 1;
            let tracer = &self.tracing.tracer;
            let span = tracer
                .span_builder("watch.deliver")
                .with_kind(SpanKind::Producer)
                .with_start_time(change.published_at)
                .with_attributes([KeyValue::new("watch_id", watch_id)]);
            span.start_with_context(tracer, &change.context).end();
        }
    }
}

impl Follower for Traces {
    fn published(&self, _: &Arc<EventBatch>) {}

    fn traced(&self, revision: Revision, request: &Span) {
        let context =
            Context::new().with_remote_span_context(request.context().span().span_context().clone());
        let published_at = opentelemetry::time::now();
        let mut changes = self.changes.lock();
        if changes.len() >= TRACED_CHANGES_MAX {
            changes.pop_front();
        }
        changes.push_back(TracedChange { revision, context, published_at, deliveries: 0 });
        self.change_count.store(changes.len(), Ordering::Release);
    }
}

fn begin(path: &str, parent: Context) -> Span {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
    let span = info_span!(
        target: TRACE,
        parent: None,
        "rpc",
        otel.name = path.trim_start_matches('/'),
        otel.kind = "server",
        otel.status_code = tracing::field::Empty,
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        rpc.grpc.status_code = tracing::field::Empty,
    );
    // Fails only for a span that has begun to be used, or where nobody makes traces of them.
    let _ = span.set_parent(parent);
    span
}

/// The span of a call on its way to another server, if the call is traced.
pub(crate) fn forward() -> Span {
    match base::traced() {
        Some(call) => info_span!(target: TRACE, parent: &call, "forward", otel.kind = "client"),
        None => Span::none(),
    }
}

/// A call's span ends with this code.
pub(crate) fn end(span: &Span, code: Code) {
    if span.is_disabled() {
        return;
    }
    span.record("rpc.grpc.status_code", code as i32);
    // As OpenTelemetry has it for servers: what clients got wrong is no error of the call.
    let is_error =
        matches!(code, Code::Unknown | Code::DeadlineExceeded | Code::Unimplemented | Code::Internal)
            || matches!(code, Code::Unavailable | Code::DataLoss);
    if is_error {
        span.record("otel.status_code", "ERROR");
    }
}

/// Has a call that goes to another server belong to the span that it is sent in, if that is traced.
pub(crate) fn pass_on(headers: &mut HeaderMap) {
    if let Some(span) = base::traced() {
        TraceContextPropagator::new().inject_context(&span.context(), &mut Headers(headers));
    }
}

fn parent_of(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Read(headers))
}

struct Read<'a>(&'a HeaderMap);

impl Extractor for Read<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct Headers<'a>(&'a mut HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}
