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
        gauge(
            "process_virtual_memory_max_bytes",
            "The limit of virtual memory.",
            limit("Max address space"),
        )?;
        let (used, most) = (open_files(), limit("Max open files"));
        gauge("process_open_fds", "Open file descriptors.", used)?;
        gauge("process_max_fds", "The limit of open file descriptors.", most)?;
        gauge("os_fd_used", "Open file descriptors.", used)?;
        gauge("os_fd_limit", "The limit of open file descriptors.", most)?;
        let start = start_unix_secs();
        gauge("process_start_time_seconds", "The unix time of the process's start.", start)?;
        let mut counter = |name: &str, help: &str, value: Option<f64>| -> fmt::Result {
            let Some(value) = value else { return Ok(()) };
            let counter = ConstCounter::new(value);
            let encoder = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(encoder)
        };
        counter("process_cpu_seconds", "Processor time used.", cpu_secs())?;
        let network = std::fs::read_to_string("/proc/self/net/netstat").unwrap_or_default();
        let (received, sent) = (octets(&network, "InOctets"), octets(&network, "OutOctets"));
        let help = "Bytes received by all processes of the network namespace.";
        counter("process_network_receive_bytes", help, received)?;
        let help = "Bytes sent by all processes of the network namespace.";
        counter("process_network_transmit_bytes", help, sent)
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

/// A soft limit of the process; as Go's metrics have it, the largest number when there is none.
fn limit(name: &str) -> Option<f64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX as f64),
        limit => limit.parse().ok(),
    }
}

/// A number of the kernel's table of the IP protocol: a line of names, then a line of their values.
fn octets(netstat: &str, name: &str) -> Option<f64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("IpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|found| found == name)?;
    values.split_whitespace().nth(place)?.parse().ok()
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
        assert!(open_files().unwrap() >= 3.0 && limit("Max open files").unwrap() > 3.0);
        assert!(start_unix_secs().unwrap() > 1_700_000_000.0);
        assert!(cpu_secs().is_some() && limit("Max address space").unwrap() > 0.0);
        let netstat = "TcpExt: A B\nTcpExt: 1 2\nIpExt: InOctets OutOctets\nIpExt: 3 4\n";
        assert_eq!((octets(netstat, "InOctets"), octets(netstat, "OutOctets")), (Some(3.0), Some(4.0)));
        assert_eq!(octets(netstat, "B"), None);
    }
}
