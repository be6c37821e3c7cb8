//! What a process costs, from the operating system.

use std::fs;
use std::io;
use std::time::Duration;

/// What a process has used so far, and what it holds now.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// User and system time of all its threads.
    pub cpu: Duration,
    /// Resident memory, in bytes.
    pub rss_bytes: u64,
    /// Bytes written to storage.
    pub written_bytes: u64,
}

/// Linux counts CPU time in hundredths of a second here, on every architecture that it supports (`USER_HZ`).
const TICKS_PER_SEC: u64 = 100;

/// Reads the cost of process `pid`.
pub fn cost(pid: u32) -> io::Result<Cost> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything; the numbers follow the last parenthesis.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = number(fields.get(11)) + number(fields.get(12));
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    Ok(Cost {
        cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_SEC),
        rss_bytes: labelled(&status, "VmRSS:") * 1024,
        written_bytes: labelled(&io, "write_bytes:"),
    })
}

fn labelled(text: &str, label: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    number(line.and_then(|rest| rest.split_whitespace().next()).as_ref())
}

fn number(field: Option<&&str>) -> u64 {
    field.and_then(|field| field.parse().ok()).unwrap_or(0)
}
