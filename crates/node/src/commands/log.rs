//! `orlop log`: the revision log of a data directory that no server uses, as JSON lines.

mod failure;
mod lines;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use engine_embedded::{Config, ReadOnlyEngine};
use layout::KeySpace;
use layout::log::{Body, LogRecord, PartitionId, Slot};
use model::Revision;
use partition::{LogItem, LogReader};

use crate::config::Problems;
use failure::LogCommandFailure;
use lines::{Line, SlotFacts};

pub(super) const ABOUT: &str = "\
Prints the revision log of a data directory: what each revision changed, in order, as JSON lines.

The server must not run. Nothing in the directory is changed, so it can also be a copy, or lie on a disk that is
mounted read-only.";

pub(super) const DETAILS: &str = "\
Each line is one JSON object, and its `type` says what of:
  store       the first line: cluster id, newest revision, compacted revision
  revision    one revision: its slot and epoch, and its changes: put or delete, key and value in base64 as etcdctl
              writes them, lease, create revision, version, and the revision that it replaced (0: the key was new).
              A value that a compaction has freed is null, and `value_gone` says so
  system      changes of the system partition: leases granted and revoked, compactions, alarms
  takeover    a start of a server: from here on slots have another epoch
  released    the owner of the partition gave it up
  filler      a slot that was filled, so that a write with an unclear outcome can never take it
  gone        slots that a compaction removed
First come all lines of partition 1, which has the keys, then those of partition 0, the system partition: the two
have no common order. With --from or --to only lines of type revision are printed.

Example: who changed the key /registry/leases/kube-system/a, from revision 1000 on?
  orlop log --data-dir /var/lib/orlop --from 1000 |
    jq -c 'select(any(.changes[]; .key == (\"/registry/leases/kube-system/a\" | @base64)))'

Exit codes: 0 all was printed, 1 it could not be read, 64 the command line is wrong.";

/// The arguments of `orlop log`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct LogArguments {
    /// The data directory [default: ./orlop-data; variable: ORLOP_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// What every record in the engine begins with [default: nothing; variable: ORLOP_KEY_PREFIX]
    #[arg(long, value_name = "TEXT", value_parser = super::key_space)]
    key_prefix: Option<KeySpace>,
    /// Print only this revision and later ones
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(i64).range(0..))]
    from: Option<i64>,
    /// Print only this revision and earlier ones
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(i64).range(0..))]
    to: Option<i64>,
    /// The form of what is printed: there is one
    #[arg(short, long, value_name = "FORMAT", default_value = "json", value_parser = ["json"])]
    output: String,
}

impl LogArguments {
    /// Takes what was left out from the environment, where it is set.
    pub(super) fn complete(&mut self, variables: &[(OsString, OsString)], problems: &mut Problems) {
        super::complete((&mut self.data_dir, &mut self.key_prefix), variables, problems);
    }

    fn wants(&self, revision: i64) -> bool {
        self.from.is_none_or(|from| from <= revision) && self.to.is_none_or(|to| revision <= to)
    }

    /// Whether everything is wanted, also what has no revision.
    fn wants_all(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }
}

/// Prints the log. A reader that has seen enough and closes its end is no failure.
pub(super) fn run(arguments: &LogArguments) -> Result<(), LogCommandFailure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
    let done = runtime.map_err(LogCommandFailure::SetUp)?.block_on(print(arguments));
    match done {
        Err(LogCommandFailure::Print(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

async fn print(arguments: &LogArguments) -> Result<(), LogCommandFailure> {
    let dir = arguments.data_dir.clone().unwrap_or_default();
    let at = |source| LogCommandFailure::Read { dir: dir.clone(), source };
    let engine = ReadOnlyEngine::open(Config::new(&dir))?;
    let snapshot = engine.snapshot().map_err(|error| at(partition::ReadFailure::from(error).into()))?;
    let space = match &arguments.key_prefix {
        Some(space) => space.clone(),
        None => {
            super::key_space("").map_err(|reason| LogCommandFailure::SetUp(std::io::Error::other(reason)))?
        }
    };
    let reader = LogReader::open(snapshot, space).await.map_err(at)?;
    let mut printer = Printer { arguments, reader, out: BufWriter::new(std::io::stdout().lock()) };
    if arguments.wants_all() {
        printer.write(&Line::store(printer.reader.head()))?;
    }
    printer.user_keys().await.map_err(|failure| failure.at(&dir))?;
    if arguments.wants_all() {
        printer.partition(PartitionId::SYSTEM).await.map_err(|failure| failure.at(&dir))?;
    }
    printer.out.flush().map_err(LogCommandFailure::Print)
}

/// Where the reading of a partition's log is.
struct Cursor {
    partition: PartitionId,
    items: VecDeque<LogItem>,
    next: Option<Slot>,
}

impl Cursor {
    fn new(partition: PartitionId) -> Cursor {
        Cursor { partition, items: VecDeque::new(), next: Some(Slot(1)) }
    }

    async fn fill(&mut self, reader: &LogReader) -> Result<(), LogCommandFailure> {
        while self.items.is_empty()
            && let Some(first) = self.next
        {
            let page = reader.page(self.partition, first).await?;
            self.items.extend(page.items);
            self.next = page.next;
        }
        Ok(())
    }

    /// That of the first change in the next slot; what has none comes at once.
    fn revision(&self) -> Revision {
        match self.items.front() {
            Some(LogItem::Slot(_, LogRecord { body: Body::Changes(changes), .. })) => {
                changes.first().map_or(Revision::NONE, |change| change.revision)
            }
            _ => Revision::NONE,
        }
    }
}

struct Printer<'a, W> {
    arguments: &'a LogArguments,
    reader: LogReader,
    out: W,
}

impl<W: Write> Printer<'_, W> {
    fn write(&mut self, line: &Line) -> Result<(), LogCommandFailure> {
        serde_json::to_writer(&mut self.out, line).map_err(|error| LogCommandFailure::Print(error.into()))?;
        self.out.write_all(b"\n").map_err(LogCommandFailure::Print)
    }

    /// The logs of all partitions of user keys as one, in the order of the revisions. A page of each is in memory.
    async fn user_keys(&mut self) -> Result<(), LogCommandFailure> {
        let partitions = self.reader.partitions().ids();
        let mut cursors: Vec<Cursor> = partitions.map(Cursor::new).collect();
        loop {
            for cursor in &mut cursors {
                cursor.fill(&self.reader).await?;
            }
            let next = cursors.iter_mut().filter(|cursor| !cursor.items.is_empty());
            let Some(cursor) = next.min_by_key(|cursor| cursor.revision()) else { return Ok(()) };
            let partition = cursor.partition;
            if let Some(item) = cursor.items.pop_front() {
                self.item(partition, item).await?;
            }
        }
    }

    async fn partition(&mut self, partition: PartitionId) -> Result<(), LogCommandFailure> {
        let mut next = Some(Slot(1));
        while let Some(first) = next {
            let page = self.reader.page(partition, first).await?;
            for item in page.items {
                self.item(partition, item).await?;
            }
            next = page.next;
        }
        Ok(())
    }

    async fn item(&mut self, partition: PartitionId, item: LogItem) -> Result<(), LogCommandFailure> {
        let (slot, record) = match item {
            LogItem::Gone(slots) if self.arguments.wants_all() => {
                return self.write(&Line::gone(partition, &slots));
            }
            LogItem::Gone(_) => return Ok(()),
            LogItem::Slot(slot, record) => (slot, record),
        };
        let facts = SlotFacts { partition: partition.0, slot: slot.0, epoch: record.epoch.0 };
        let Body::Changes(changes) = &record.body else {
            return if self.arguments.wants_all() {
                self.write(&Line::other(facts, &record))
            } else {
                Ok(())
            };
        };
        for of_one in changes.chunk_by(|before, after| before.revision == after.revision) {
            let revision = of_one.first().map_or(0, |change| change.revision.get());
            if self.arguments.wants(revision) {
                let contents = self.reader.contents(of_one).await?;
                self.write(&Line::revision(facts, revision, of_one.iter().zip(contents)))?;
            }
        }
        Ok(())
    }
}
