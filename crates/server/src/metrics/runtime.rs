//! The tokio runtime that does the work: where the processor time goes, and whether tasks wait for it.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::runtime::{Handle, RuntimeMetrics};

#[derive(Debug)]
struct Runtime;

pub(super) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Runtime));
}

impl Collector for Runtime {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Whoever asks does so from a task.
        let Ok(runtime) = Handle::try_current() else { return Ok(()) };
        let metrics = runtime.metrics();
        let gauges = [
            ("orlop_runtime_workers", "Threads that run tasks", metrics.num_workers()),
            ("orlop_runtime_tasks_alive", "Tasks that have not ended", metrics.num_alive_tasks()),
            (
                "orlop_runtime_queue_tasks",
                "Tasks that could run and wait for a thread, in the queue that all threads share",
                metrics.global_queue_depth(),
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let help = "How long each thread was busy";
        let busy = |worker: usize| metrics.worker_total_busy_duration(worker).as_secs_f64();
        let each =
            encoder.encode_descriptor("orlop_runtime_busy_seconds", help, None, MetricType::Counter)?;
        of_each_worker(&metrics, each, busy)?;
        let help = "How often each thread had nothing to do and went to sleep";
        let parks = |worker: usize| metrics.worker_park_count(worker) as f64;
        let each = encoder.encode_descriptor("orlop_runtime_parks", help, None, MetricType::Counter)?;
        of_each_worker(&metrics, each, parks)
    }
}

fn of_each_worker(
    metrics: &RuntimeMetrics,
    mut encoder: MetricEncoder<'_>,
    value: impl Fn(usize) -> f64,
) -> fmt::Result {
    for worker in 0..metrics.num_workers() {
        let counter = ConstCounter::new(value(worker));
        counter.encode(encoder.encode_family(&[("worker", worker.to_string())])?)?;
    }
    Ok(())
}
