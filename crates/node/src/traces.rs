//! Traces go to an OpenTelemetry collector by OTLP over gRPC, some seconds after they were made.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::{Clock, SystemClock, TRACE};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter,
};
use server::Tracing;
use thiserror::Error;
use tracing::{Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;

use crate::config::TracingConfig;

/// Spans that wait for the collector; further ones are thrown away. A few MiB.
const QUEUE_SPANS_MAX: usize = 8192;
/// Spans that are sent in one message, well below the 4 MiB that collectors take.
const MESSAGE_SPANS_MAX: usize = 512;
/// How long spans wait for others to be sent with.
const SEND_AFTER: Duration = Duration::from_secs(1);
/// How long the collector may take to answer; then what was sent counts as lost.
const SEND_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a process that stops waits for the collector.
pub(crate) const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);
/// A collector that does not answer is warned of once in so long.
const WARN_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Traces cannot be made.
#[derive(Debug, Error)]
#[error("traces cannot be sent to {address}: {source}; look at --distributed-tracing-address")]
pub struct TracesError {
    address: String,
    source: ExporterBuildError,
}

/// What makes traces and sends them.
#[derive(Clone)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracing: Tracing,
}

impl Traces {
    /// Makes ready to send; nothing is connected with yet. Must be called within the runtime that is to send, and
    /// [`Traces::flush`] before that ends.
    pub fn open(config: &TracingConfig) -> Result<Traces, TracesError> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(format!("http://{}", config.address))
            .with_timeout(SEND_TIME_MAX)
            .build()
            .map_err(|source| TracesError { address: config.address.clone(), source })?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_SPANS_MAX)
            .with_max_export_batch_size(MESSAGE_SPANS_MAX)
            .with_scheduled_delay(SEND_AFTER)
            .build();
        let exporter = Warning {
            exporter,
            address: config.address.clone(),
            lost: AtomicU64::new(0),
            next: AtomicU64::new(0),
        };
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let mut resource = Resource::builder_empty().with_service_name(config.service_name.clone());
        resource = resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        if !config.instance_id.is_empty() {
            resource =
                resource.with_attribute(KeyValue::new("service.instance.id", config.instance_id.clone()));
        }
        let provider = SdkTracerProvider::builder()
            // The server has decided before it makes a span.
            .with_sampler(Sampler::AlwaysOn)
            .with_resource(resource.build())
            .with_span_processor(processor)
            .build();
        let tracer = provider.tracer("orlop");
        Ok(Traces { provider, tracing: Tracing { tracer, sampled_per_million: config.sampled_per_million } })
    }

    /// What the server needs.
    pub fn tracing(&self) -> Tracing {
        self.tracing.clone()
    }

    /// Makes OpenTelemetry's spans of those with the target [`TRACE`], and of no other.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.tracing.tracer.clone())
            .with_location(false)
            .with_threads(false)
            .with_level(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_target(TRACE, LevelFilter::INFO))
    }

    /// Sends what is still there, for at most so long, and no more after that. Blocks.
    pub fn flush(&self, time_max: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(time_max) {
            warn!(%error, "the last traces may not have reached the collector");
        }
    }
}

/// An exporter that says now and then that the collector does not take anything.
struct Warning {
    exporter: opentelemetry_otlp::SpanExporter,
    address: String,
    /// Spans that were lost since it was said the last time.
    lost: AtomicU64,
    /// In milliseconds of the clock: when it may be said again.
    next: AtomicU64,
}

impl fmt::Debug for Warning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Warning").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Warning {
    fn lose(&self, spans: u64, error: &dyn fmt::Display) {
        let lost = self.lost.fetch_add(spans, Ordering::Relaxed) + spans;
        let now = SystemClock.now();
        if now < Duration::from_millis(self.next.load(Ordering::Relaxed)) {
            return;
        }
        let next = u64::try_from((now + WARN_AGAIN_AFTER).as_millis()).unwrap_or(u64::MAX);
        self.next.store(next, Ordering::Relaxed);
        self.lost.store(0, Ordering::Relaxed);
        warn!(collector = self.address, spans = lost, %error, "traces are lost: the collector does not take them");
    }
}

impl SpanExporter for Warning {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let sent = self.exporter.export(batch).await;
        if let Err(error) = &sent {
            self.lose(spans, error);
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Span, Tracer};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_collector_that_is_not_there_holds_up_nothing() {
        // A port that is free again.
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap().to_string();
        drop(socket);
        let config = TracingConfig {
            is_on: true,
            address,
            service_name: "orlop".to_owned(),
            instance_id: String::new(),
            sampled_per_million: 0,
        };
        let traces = Traces::open(&config).unwrap();
        let tracer = traces.tracing().tracer;
        for _ in 0..2 * QUEUE_SPANS_MAX {
            tracer.start("lost").end();
        }
        tokio::task::spawn_blocking(move || traces.flush(FLUSH_TIME_MAX)).await.unwrap();
    }

    #[test]
    fn a_wrong_address_is_named() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _within = runtime.enter();
        let config = TracingConfig {
            is_on: true,
            address: "a b:1".to_owned(),
            service_name: "orlop".to_owned(),
            instance_id: String::new(),
            sampled_per_million: 0,
        };
        let problem = Traces::open(&config).err().unwrap().to_string();
        assert!(problem.contains("a b:1") && problem.contains("--distributed-tracing-address"), "{problem}");
    }
}
