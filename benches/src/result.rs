//! What a run has measured: as a file, and summed up over its rounds.

mod against;
mod plot;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::connection::Error;
pub(crate) use against::compare;
pub(crate) use plot::plot;
pub(crate) use table::table;

/// The version of the file's form.
const FORMAT: u32 = 1;

/// A run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    /// The version of this form.
    pub(crate) format: u32,
    /// Processors of the machine.
    pub(crate) processors: usize,
    /// The load average of the machine before the run, and after it.
    pub(crate) load_average: (f64, f64),
    /// What the loads were scaled to, as text: results of different scales are not comparable.
    pub(crate) scale: String,
    pub(crate) measurements: Vec<Measurement>,
    /// Rows that a system does not have or that failed, with the reason.
    pub(crate) missing: Vec<Missing>,
}

/// One row of one system in one round. "per operation" is per object, event or call, as the row says.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measurement {
    pub(crate) row: String,
    pub(crate) system: String,
    pub(crate) round: usize,
    pub(crate) ops: u64,
    pub(crate) seconds: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    /// CPU time of the processes that answer, microseconds per operation.
    pub(crate) server_cpu_us: Option<f64>,
    /// CPU time of a process that stores for them, microseconds per operation.
    pub(crate) store_cpu_us: Option<f64>,
    /// CPU time of the load generator, microseconds per operation.
    pub(crate) generator_cpu_us: f64,
    /// Resident memory of the processes that answer, at the end.
    pub(crate) rss_mib: Option<f64>,
    /// The most resident memory during the row, beyond that at its begin.
    pub(crate) rss_extra_mib: Option<f64>,
    /// Bytes written to storage, per operation.
    pub(crate) written_bytes: Option<f64>,
    /// What only this row has, by name with unit.
    pub(crate) extra: BTreeMap<String, f64>,
}

/// A row that is not there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Missing {
    pub(crate) row: String,
    pub(crate) system: String,
    pub(crate) reason: String,
}

impl Results {
    /// Nothing measured yet.
    pub(crate) fn new(scale: String, load_average: f64, processors: usize) -> Results {
        Results {
            format: FORMAT,
            processors,
            load_average: (load_average, load_average),
            scale,
            measurements: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Reads a file that [`Results::write`] wrote.
    pub(crate) fn read(path: &Path) -> Result<Results, Error> {
        let text =
            fs::read_to_string(path).map_err(|error| format!("reading {}: {error}", path.display()))?;
        let results: Results = serde_json::from_str(&text)
            .map_err(|error| format!("{} is no result: {error}", path.display()))?;
        if results.format != FORMAT {
            return Err(format!("{} has form {}, known is {FORMAT}", path.display(), results.format).into());
        }
        Ok(results)
    }

    /// Writes the file.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self)?;
        Ok(fs::write(path, text).map_err(|error| format!("writing {}: {error}", path.display()))?)
    }

    /// The rows, in the order in which they were first measured.
    pub(crate) fn rows(&self) -> Vec<&str> {
        firsts(self.measurements.iter().map(|measured| measured.row.as_str()))
    }

    /// The systems, likewise.
    pub(crate) fn systems(&self) -> Vec<&str> {
        firsts(self.measurements.iter().map(|measured| measured.system.as_str()))
    }

    /// All rounds of one row of one system.
    pub(crate) fn rounds<'r>(
        &'r self,
        row: &'r str,
        system: &'r str,
    ) -> impl Iterator<Item = &'r Measurement> {
        self.measurements.iter().filter(move |measured| measured.row == row && measured.system == system)
    }

    /// One number of a row of a system over the rounds; nothing where it was not measured.
    pub(crate) fn spread(
        &self,
        row: &str,
        system: &str,
        number: impl Fn(&Measurement) -> Option<f64>,
    ) -> Option<Spread> {
        Spread::of(self.rounds(row, system).filter_map(number).collect())
    }
}

impl Measurement {
    /// Operations a second.
    pub(crate) fn throughput(&self) -> f64 {
        self.ops as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }
}

fn firsts<'r>(names: impl Iterator<Item = &'r str>) -> Vec<&'r str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

/// The median of some rounds, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of an even number the median is the lower of the two in the middle: a number that was measured.
    fn of(mut numbers: Vec<f64>) -> Option<Spread> {
        numbers.sort_by(f64::total_cmp);
        let median = *numbers.get(numbers.len().checked_sub(1)? / 2)?;
        Some(Spread { min: *numbers.first()?, median, max: *numbers.last()? })
    }

    /// Whether no number of one is among those of the other.
    pub(crate) fn is_apart_from(&self, other: &Spread) -> bool {
        self.max < other.min || other.max < self.min
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Results with one row, of systems with some rounds of throughput and CPU time.
    pub(crate) fn results(systems: &[(&str, &[(u64, f64)])]) -> Results {
        let mut results = Results::new("test".into(), 0.0, 2);
        for (system, rounds) in systems {
            for (round, (ops, cpu)) in rounds.iter().enumerate() {
                results.measurements.push(Measurement {
                    row: "create/512b-300c".into(),
                    system: (*system).into(),
                    round,
                    ops: *ops,
                    seconds: 1.0,
                    server_cpu_us: Some(*cpu),
                    ..Measurement::default()
                });
            }
        }
        results
    }

    #[test]
    fn a_result_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result.json");
        results(&[("orlop", &[(10, 1.5)])]).write(&path).unwrap();
        let read = Results::read(&path).unwrap();
        assert_eq!(read.measurements.len(), 1);
        assert_eq!((read.measurements[0].ops, read.measurements[0].server_cpu_us), (10, Some(1.5)));
        fs::write(&path, "{}").unwrap();
        assert!(Results::read(&path).unwrap_err().to_string().contains("is no result"));
    }

    #[test]
    fn the_median_is_a_number_that_was_measured() {
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Some(Spread { min: 1.0, median: 2.0, max: 3.0 }));
        assert_eq!(Spread::of(vec![3.0, 1.0]), Some(Spread { min: 1.0, median: 1.0, max: 3.0 }));
    }

    #[test]
    fn spreads_are_apart_when_they_share_nothing() {
        let spread = |min, max| Spread { min, median: min, max };
        assert!(spread(1.0, 2.0).is_apart_from(&spread(2.5, 3.0)));
        assert!(spread(2.5, 3.0).is_apart_from(&spread(1.0, 2.0)));
        assert!(!spread(1.0, 2.5).is_apart_from(&spread(2.0, 3.0)));
    }
}
