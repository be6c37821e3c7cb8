//! `orlop check`: whether every record of a store is as it should be.

use std::io::{BufWriter, Stdout, Write};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use check::{CheckFailure, Finding, Observer, Phase, Problem, Report};
use clap::Args;
use engine_embedded::OpenError;
use serde::Serialize;
use thiserror::Error;

use super::OutputFormat;
use super::bar::Bar;
use super::store::{StoreArguments, StoreFailure, runtime};
use crate::console;

pub(super) const ABOUT: &str = "\
Checks every record of a store: that it is what was written, and that log, objects, index and leases say the same.

Nothing is changed. A data directory must have no server; it can also be a copy, or lie on a disk that is mounted
read-only. On TiKV the servers may go on: one snapshot is checked, which has to take less than half of
--tikv-gc-lifetime.";

pub(super) const DETAILS: &str = "\
Each problem is printed with the key and revision that it is about, and the key of the record in the engine, in hex:
  damaged        a record does not read back as anything that was ever written
  missing        a record should be there and is not
  contradiction  two records say different things
  order          what has to follow in order does not
  unknown        there is a record that no version writes
  leftover       a record should be gone and is there
With -o json each is a line of JSON, of type \"problem\", with keys in base64 as etcdctl writes them; the last line is of
type \"report\". Memory does not grow with the store, but for the embedded engine's list of all records.

Example: check a directory before a server starts on it
  orlop check --data-dir /var/lib/orlop && systemctl start orlop

Example: check a store on TiKV while it is served
  orlop check --engine tikv --pd-endpoints pd-0:2379,pd-1:2379 --key-prefix blue/

Exit codes: 0 everything is as it should be, 1 there are problems, 2 it could not be checked, or not to its end, 64 the
command line is wrong.";

/// The store could not be checked to its end.
const UNCHECKED: u8 = 2;

/// The arguments of `orlop check`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct CheckArguments {
    #[command(flatten)]
    pub(super) store: StoreArguments,
    /// How to print what is found
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text")]
    output: OutputFormat,
}

/// Why a store was not checked to its end.
#[derive(Debug, Error)]
enum CheckCommandFailure {
    #[error(transparent)]
    Store(#[from] StoreFailure),
    #[error("{place}: {source}")]
    Check { place: String, source: CheckFailure },
    #[error("standard output cannot be written: {0}")]
    Print(std::io::Error),
}

/// Checks, and says what is wrong.
pub(super) fn run(arguments: &CheckArguments) -> ExitCode {
    let done = runtime().map_err(CheckCommandFailure::from).and_then(|it| it.block_on(check(arguments)));
    match done {
        Ok(Report { problems: 0, .. }) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(failure) => console::complain_with(UNCHECKED, &failure),
    }
}

async fn check(arguments: &CheckArguments) -> Result<Report, CheckCommandFailure> {
    let printer = |bytes| Printer {
        output: arguments.output,
        bar: Bar::over(bytes),
        out: BufWriter::new(std::io::stdout()),
        failed: None,
    };
    let view = match arguments.store.view().await {
        // Damage is what this looks for, also where it is such that the records cannot be listed.
        Err(StoreFailure::Open(error @ OpenError::Corrupt { .. })) => {
            let mut printer = printer(None);
            let text = error.to_string();
            let problem = Problem::Damaged;
            printer.found(&Finding { problem, text, key: None, revision: None, record: None });
            printer.end()?;
            return Ok(Report { problems: 1, ..Report::default() });
        }
        view => view?,
    };
    let mut printer = printer(view.bytes);
    let report = check::check(view.snapshot.as_ref(), &view.space, &mut printer).await;
    let place = || arguments.store.place();
    let report = report.map_err(|source| CheckCommandFailure::Check { place: place(), source });
    if let Ok(report) = &report {
        printer.report(&place(), report);
    }
    printer.end()?;
    report
}

struct Printer {
    output: OutputFormat,
    bar: Bar,
    out: BufWriter<Stdout>,
    /// Why nothing more is printed.
    failed: Option<std::io::Error>,
}

impl Printer {
    fn print(&mut self, text: &str) {
        if self.failed.is_some() {
            return;
        }
        let out = &mut self.out;
        // At once: who waits for a long check wants to see.
        let done = self.bar.aside(|| out.write_all(text.as_bytes()).and_then(|()| out.flush()));
        self.failed = done.err();
    }

    fn json(&mut self, line: &Line<'_>) {
        match serde_json::to_string(line) {
            Ok(line) => self.print(&format!("{line}\n")),
            Err(error) => self.failed = Some(error.into()),
        }
    }

    fn report(&mut self, place: &str, report: &Report) {
        if self.output == OutputFormat::Json {
            return self.json(&Line::Report {
                cluster_id: report.cluster_id,
                revision: report.revision.get(),
                compacted_revision: report.compacted.map(|compacted| compacted.get()),
                keys: report.keys,
                objects: report.objects,
                slots: report.slots,
                leases: report.leases,
                problems: report.problems,
            });
        }
        let Report { keys, objects, slots, leases, revision, .. } = report;
        let found = match report.problems {
            0 => "everything is as it should be".to_owned(),
            1 => "1 problem".to_owned(),
            problems => format!("{problems} problems"),
        };
        self.print(&format!(
            "{place}: {keys} keys, {objects} objects, {slots} slots and {leases} leases at revision {revision}: {found}\n"
        ));
    }

    /// A reader that has seen enough and closes its end is no failure.
    fn end(self) -> Result<(), CheckCommandFailure> {
        match self.failed {
            Some(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(CheckCommandFailure::Print(error))
            }
            _ => Ok(()),
        }
    }
}

impl Observer for Printer {
    fn found(&mut self, finding: &Finding) {
        if self.output == OutputFormat::Json {
            return self.json(&Line::problem(finding));
        }
        let mut text = format!("{}: {}\n", finding.problem.name(), finding.text);
        if let Some(key) = &finding.key {
            text.push_str(&format!("  key       {}\n", key.escape_ascii()));
        }
        if let Some(revision) = finding.revision {
            text.push_str(&format!("  revision  {revision}\n"));
        }
        if let Some(record) = &finding.record {
            text.push_str(&format!("  record    {}\n", hex(record)));
        }
        self.print(&text);
    }

    fn read(&mut self, phase: Phase, _: u64, bytes: u64) {
        self.bar.phase(match phase {
            Phase::System => "leases and alarms",
            Phase::Log => "the log",
            Phase::Objects => "objects and index",
            Phase::Locating => "log and objects differ: looking where",
            Phase::Unknown => "other records",
        });
        self.bar.add(bytes);
    }
}

pub(super) fn hex(bytes: &Bytes) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    Problem {
        problem: &'static str,
        text: &'a str,
        key: Option<String>,
        revision: Option<i64>,
        record: Option<String>,
    },
    Report {
        cluster_id: u64,
        revision: i64,
        compacted_revision: Option<i64>,
        keys: u64,
        objects: u64,
        slots: u64,
        leases: u64,
        problems: u64,
    },
}

impl Line<'_> {
    fn problem(finding: &Finding) -> Line<'_> {
        Line::Problem {
            problem: finding.problem.name(),
            text: &finding.text,
            key: finding.key.as_ref().map(|key| STANDARD.encode(key)),
            revision: finding.revision.map(|revision| revision.get()),
            record: finding.record.as_ref().map(hex),
        }
    }
}
