//! The start of a server on a large store.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::Stage;
use super::objects::fill;
use crate::connection::Error;
use crate::drive::Driven;
use crate::requests::PODS;

/// After it was asked to stop, and after it was killed. The operation is the start, to the first answer.
pub(super) async fn play(stage: &mut Stage<'_>, value_bytes: usize) -> Result<(), Error> {
    let keys = stage.scale.start_keys;
    for row in ["start/clean", "start/killed"] {
        if !stage.running.can_restart() || !stage.running.system.has_large_transactions() {
            stage.note(row, "it cannot be restarted, or not be filled");
        }
    }
    if !stage.running.can_restart() || !stage.running.system.has_large_transactions() {
        return Ok(());
    }
    fill(stage, PODS, keys, value_bytes).await?;
    let filled = stage.running.cost()?.map(|cost| cost.rss_bytes);
    for (row, kill) in [("start/clean", false), ("start/killed", true)] {
        let took = stage.restart(kill).await?;
        let cost = stage.running.cost()?;
        stage.measure(row, async { started(took) }).await?;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        stage.extra(row, "start s", took.as_secs_f64());
        stage.extra(row, "start CPU s", cost.map_or(0.0, |cost| cost.cpu.as_secs_f64()));
        stage.extra(row, "RSS MiB when filled", filled.map_or(0.0, mib));
        stage.extra(row, "disk MiB", stage.running.disk_bytes().map_or(0.0, mib));
    }
    Ok(())
}

fn started(took: Duration) -> Result<Driven, Error> {
    let micros = u64::try_from(took.as_micros())?.max(1);
    let mut latency_us = Histogram::new_with_max(micros.max(2), 3)?;
    latency_us.record(micros)?;
    Ok(Driven { ops: 1, elapsed: took, latency_us, seconds: Vec::new() })
}
