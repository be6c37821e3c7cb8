//! The process as its kernel sees it, under the names that all Prometheus clients use.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Linux shows processor times in hundredths of a second to every process, whatever the kernel's own tick is.
const TICKS_PER_SEC: f64 = 100.0;

#[derive(Debug)]
struct Process;

pub(super) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Process));
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // What cannot be read is left out: a metric that is not there says so better than a wrong number.
        let mut gauge = |name: &str, help: &str, value: Option<f64>| -> fmt::Result {
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            let encoder = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(encoder)
        };
        gauge("process_resident_memory_bytes", "Resident memory.", status_bytes("VmRSS:"))?;
        gauge("process_virtual_memory_bytes", "Virtual memory.", status_bytes("VmSize:"))?;
        gauge("process_open_fds", "Open file descriptors.", open_files())?;
        gauge("process_max_fds", "The limit of open file descriptors.", open_files_max())?;
        let start = start_unix_secs();
        gauge("process_start_time_seconds", "The unix time of the process's start.", start)?;
        if let Some(secs) = cpu_secs() {
            let counter = ConstCounter::new(secs);
            let help = "Processor time used.";
            let encoder =
                encoder.encode_descriptor("process_cpu_seconds", help, None, counter.metric_type())?;
            counter.encode(encoder)?;
        }
        Ok(())
    }
}

fn status_bytes(field: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024.0)
}

fn open_files() -> Option<f64> {
    // The directory that is being read is one of them.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

fn open_files_max() -> Option<f64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The fields of `/proc/self/stat` behind the process's name, which may hold anything; the first is number 3.
fn stat_field(number: usize) -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_secs() -> Option<f64> {
    Some((stat_field(14)? + stat_field(15)?) / TICKS_PER_SEC)
}

fn boot_unix_secs() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn start_unix_secs() -> Option<f64> {
    Some(boot_unix_secs()? + stat_field(22)? / TICKS_PER_SEC)
}

/// The unix time at `since_boot` on the machine's clock, which counts from its boot; 0 when it is not known.
pub(super) fn unix_secs_at(since_boot: Duration) -> i64 {
    boot_unix_secs().map_or(0, |boot| (boot + since_boot.as_secs_f64()) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_about_this_process() {
        assert!(status_bytes("VmRSS:").unwrap() > 1_000_000.0);
        assert!(open_files().unwrap() >= 3.0 && open_files_max().unwrap() > 3.0);
        assert!(start_unix_secs().unwrap() > 1_700_000_000.0);
        assert!(cpu_secs().is_some());
    }
}
