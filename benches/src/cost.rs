//! What a process costs, from the operating system.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// What a process has used so far, and what it holds now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    /// User and system time of all its threads, also of those that have ended.
    pub(crate) cpu: Duration,
    /// Resident memory, in bytes.
    pub(crate) rss_bytes: u64,
    /// The most resident memory since [`forget_peak`], in bytes.
    pub(crate) rss_peak_bytes: u64,
    /// Bytes that it caused to be written to storage.
    pub(crate) written_bytes: u64,
}

/// Linux counts CPU time in hundredths of a second here, on every architecture that it supports (`USER_HZ`).
const TICKS_PER_SEC: u64 = 100;

/// Reads the cost of process `pid`.
pub(crate) fn of(pid: u32) -> io::Result<Cost> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything; the numbers follow the last parenthesis.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = number(fields.get(11)) + number(fields.get(12));
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    Ok(Cost {
        cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_SEC),
        rss_bytes: labelled(&status, "VmRSS:") * 1024,
        rss_peak_bytes: labelled(&status, "VmHWM:") * 1024,
        written_bytes: labelled(&io, "write_bytes:"),
    })
}

/// The cost of several processes together.
pub(crate) fn of_all(pids: &[u32]) -> io::Result<Cost> {
    let mut all = Cost::default();
    for &pid in pids {
        let one = of(pid)?;
        all.cpu += one.cpu;
        all.rss_bytes += one.rss_bytes;
        all.rss_peak_bytes += one.rss_peak_bytes;
        all.written_bytes += one.written_bytes;
    }
    Ok(all)
}

/// Lets the peak of resident memory begin anew. Where that is not allowed, the peak since the start stays.
pub(crate) fn forget_peak(pids: &[u32]) {
    for pid in pids {
        // The kernel's number for "reset VmHWM".
        let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
    }
}

/// The bytes that the files below `dir` take on the disk.
pub(crate) fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = dir.read_dir() else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => disk_bytes(&entry.path()),
            Ok(data) => data.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// The load average of the last minute, and the number of processors.
pub(crate) fn machine() -> (f64, usize) {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0.0);
    (load, std::thread::available_parallelism().map_or(1, usize::from))
}

fn labelled(text: &str, label: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    number(line.and_then(|rest| rest.split_whitespace().next()).as_ref())
}

fn number(field: Option<&&str>) -> u64 {
    field.and_then(|field| field.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_cost_and_one_that_is_gone_has_none() {
        let own = of(std::process::id()).unwrap();
        assert!(own.rss_bytes > 0 && own.rss_peak_bytes >= own.rss_bytes);
        let twice = of_all(&[std::process::id(), std::process::id()]).unwrap();
        assert!(twice.rss_bytes > own.rss_bytes);
        assert!(of(u32::MAX).is_err());
    }

    #[test]
    fn the_disk_that_a_directory_takes_is_that_of_all_files_below_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        fs::write(dir.path().join("below/file"), vec![1; 100_000]).unwrap();
        let bytes = disk_bytes(dir.path());
        assert!((100_000..200_000).contains(&bytes), "{bytes}");
    }
}
