//! `orlop dump` and `orlop decode`: what lies in a store, record by record.

mod entry;

use std::io::{BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use engine::{Direction, KeySpan, ReadError, Scan, Snapshot};
use kubernetes::Node;
use layout::log::{PartitionId, Slot};
use layout::{KeySpace, Span};
use model::{Key, KeyRange};
use thiserror::Error;

use super::store::{StoreArguments, StoreFailure, runtime};
use crate::console;

pub(super) const ABOUT: &str = "\
Prints the records of a store as they are, in the order in which they lie in the engine.

Nothing is changed. A data directory must have no server. Of Kubernetes objects in protobuf, kind and metadata are shown.";

pub(super) const DETAILS: &str = "\
The kinds of records:
  meta    format and cluster id, compacted revision, positions of reclaiming, who leads
  log     what each slot of a partition's log holds
  index   what is known of a live key without its value
  object  a version of a key, or its deletion
  system  leases and raised alarms
A record that cannot be read is printed with the reason. Values that are JSON or text are printed whole; annotations of an
object may repeat what is in it.

Example: all versions of one key that are still there
  orlop dump --data-dir /var/lib/orlop --key /registry/pods/default/a

Example: the leases
  orlop dump --data-dir /var/lib/orlop --kind system -o json

Exit codes: 0 all was printed, 1 some records are damaged, 2 the store cannot be read, 64 the command line is wrong.";

pub(super) const ABOUT_DECODE: &str = "\
Shows what Kubernetes object a value holds: of its protobuf encoding the kind and the metadata, JSON whole.

The value is read from a file or from standard input. One end of line behind it is passed over, as etcdctl prints one.";

pub(super) const DETAILS_DECODE: &str = "\
Example: a value in a file
  orlop decode pod.bin

Example: a value of a running store
  etcdctl get --print-value-only /registry/pods/default/a | orlop decode

Exit codes: 0 it was shown, 1 it cannot be read, 64 the command line is wrong.";

/// The store cannot be read, or not to its end.
const UNREAD: u8 = 2;
/// One read takes so many records.
const RECORDS_PER_PAGE_MAX: usize = 256;
/// And no further one when they have so many bytes.
const BYTES_PER_PAGE: usize = 4 << 20;
/// The largest value that is decoded: far above the largest request that a server takes.
const DECODED_BYTES_MAX: u64 = 128 << 20;

/// The arguments of `orlop dump`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct DumpArguments {
    #[command(flatten)]
    pub(super) store: StoreArguments,
    /// Only records of these kinds [default: all; with --key or --prefix: index,object]
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    kind: Vec<RecordKind>,
    /// Only index and objects of this key
    #[arg(long, value_name = "KEY", conflicts_with = "prefix")]
    key: Option<String>,
    /// Only index and objects of keys that begin with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// How to print
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "yaml")]
    output: Output,
}

/// The arguments of `orlop decode`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct DecodeArguments {
    /// The file that holds the value [default: standard input]
    file: Option<PathBuf>,
    /// How to print
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "yaml")]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RecordKind {
    Meta,
    Log,
    Index,
    Object,
    System,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A document of YAML for each record
    Yaml,
    /// One JSON object in a line
    Json,
}

#[derive(Debug, Error)]
enum DumpFailure {
    #[error(transparent)]
    Store(#[from] StoreFailure),
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("--key: a key has at least one byte")]
    EmptyKey,
    #[error("{} cannot be read: {source}", .file.as_ref().map_or("standard input".into(), |it| it.display().to_string()))]
    Value { file: Option<PathBuf>, source: std::io::Error },
    #[error("the value has more than {DECODED_BYTES_MAX} bytes, which no key of a store has")]
    TooLarge,
    #[error("standard output cannot be written: {0}")]
    Print(std::io::Error),
}

/// Prints records.
pub(super) fn run(arguments: &DumpArguments) -> ExitCode {
    match runtime().map_err(DumpFailure::from).and_then(|it| it.block_on(dump(arguments))) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(damaged) => console::complain(&format!("{damaged} records are damaged")),
        Err(failure) => end(failure, UNREAD),
    }
}

/// Prints what a value holds.
pub(super) fn decode(arguments: &DecodeArguments) -> ExitCode {
    match decode_value(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => end(failure, 1),
    }
}

/// A reader that has seen enough and closes its end is no failure.
fn end(failure: DumpFailure, code: u8) -> ExitCode {
    match failure {
        DumpFailure::Print(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        failure => console::complain_with(code, &failure),
    }
}

fn decode_value(arguments: &DecodeArguments) -> Result<(), DumpFailure> {
    let mut value = Vec::new();
    let read = match &arguments.file {
        Some(file) => {
            std::fs::File::open(file).and_then(|it| it.take(DECODED_BYTES_MAX + 1).read_to_end(&mut value))
        }
        None => std::io::stdin().lock().take(DECODED_BYTES_MAX + 1).read_to_end(&mut value),
    };
    read.map_err(|source| DumpFailure::Value { file: arguments.file.clone(), source })?;
    if value.len() as u64 > DECODED_BYTES_MAX {
        return Err(DumpFailure::TooLarge);
    }
    let described = kubernetes::describe(value.strip_suffix(b"\n").unwrap_or(&value));
    print_node(&mut std::io::stdout().lock(), &described, arguments.output).map_err(DumpFailure::Print)
}

fn print_node(out: &mut impl Write, node: &Node, output: Output) -> std::io::Result<()> {
    match output {
        Output::Yaml => out.write_all(node.to_yaml().as_bytes()),
        Output::Json => writeln!(out, "{}", node.to_json()),
    }
}

/// Prints what was asked for; how many of them are damaged.
async fn dump(arguments: &DumpArguments) -> Result<u64, DumpFailure> {
    let range = arguments.range()?;
    let view = arguments.store.view().await?;
    let mut damaged = 0;
    let mut out = BufWriter::new(std::io::stdout().lock());
    for kind in arguments.kinds() {
        let mut rest = Some(kind.span(&view.space, range.as_ref()));
        while let Some(span) = rest {
            let (records, next) = page(view.snapshot.as_ref(), span).await?;
            for (key, value) in records {
                let described = value.and_then(|value| kind.describe(&view.space, &key, &value));
                damaged += u64::from(described.is_err());
                let described = entry::of(kind.name(), &key, described);
                if arguments.output == Output::Yaml {
                    out.write_all(b"---\n").map_err(DumpFailure::Print)?;
                }
                print_node(&mut out, &described, arguments.output).map_err(DumpFailure::Print)?;
            }
            rest = next;
        }
    }
    out.flush().map_err(DumpFailure::Print)?;
    Ok(damaged)
}

/// A record's key, and its value or why it cannot be read.
type Record = (Bytes, Result<Bytes, String>);

/// The next records. One that cannot be read hides no other.
async fn page(snapshot: &dyn Snapshot, span: KeySpan) -> Result<(Vec<Record>, Option<KeySpan>), ReadError> {
    let mut scan = Scan {
        span,
        direction: Direction::Forward,
        records_max: RECORDS_PER_PAGE_MAX,
        bytes_max: BYTES_PER_PAGE,
        values: true,
    };
    match snapshot.scan(&scan).await {
        Ok(page) => Ok((page.records.into_iter().map(|(key, value)| (key, Ok(value))).collect(), page.next)),
        Err(ReadError::Corrupt(_)) => {
            scan.values = false;
            let page = snapshot.scan(&scan).await?;
            let mut records = Vec::with_capacity(page.records.len());
            for (key, _) in page.records {
                let value = match snapshot.get(&key).await {
                    Ok(Some(value)) => Ok(value),
                    Ok(None) => Err("the engine lists it and does not have it".to_owned()),
                    Err(ReadError::Corrupt(reason)) => Err(reason),
                    Err(error) => return Err(error),
                };
                records.push((key, value));
            }
            Ok((records, page.next))
        }
        Err(error) => Err(error),
    }
}

impl DumpArguments {
    fn kinds(&self) -> Vec<RecordKind> {
        if !self.kind.is_empty() {
            return self.kind.clone();
        }
        match (&self.key, &self.prefix) {
            (None, None) => RecordKind::value_variants().to_vec(),
            _ => vec![RecordKind::Index, RecordKind::Object],
        }
    }

    /// The keys that are wanted; none for all.
    fn range(&self) -> Result<Option<KeyRange>, DumpFailure> {
        if let Some(key) = &self.key {
            let key = Key::new(key.clone()).map_err(|_| DumpFailure::EmptyKey)?;
            return Ok(Some(KeyRange::single(&key)));
        }
        let Some(Ok(start)) = self.prefix.as_ref().map(|prefix| Key::new(prefix.clone())) else {
            return Ok(None);
        };
        // The first key behind all that begin with it; there is one, as the argument is UTF-8.
        let mut end = start.as_slice().to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        Ok(Some(KeyRange::between(&start, end)))
    }
}

impl RecordKind {
    fn name(self) -> &'static str {
        match self {
            RecordKind::Meta => "meta",
            RecordKind::Log => "log",
            RecordKind::Index => "index",
            RecordKind::Object => "object",
            RecordKind::System => "system",
        }
    }

    fn span(self, space: &KeySpace, range: Option<&KeyRange>) -> KeySpan {
        let span = match (self, range) {
            (RecordKind::Meta, _) => space.meta_span(),
            (RecordKind::Log, _) => {
                let start = space.log_span(PartitionId::SYSTEM, Slot(0)).start;
                Span { start, end: space.index_span().start }
            }
            (RecordKind::Index, None) => space.index_span(),
            (RecordKind::Index, Some(range)) => space.index_span_of(range),
            (RecordKind::Object, range) => space.object_span(range.unwrap_or(&KeyRange::all())),
            (RecordKind::System, _) => space.system_span(),
        };
        KeySpan { start: span.start, end: Some(span.end) }
    }

    fn describe(self, space: &KeySpace, key: &Bytes, value: &Bytes) -> Result<Node, String> {
        match self {
            RecordKind::Meta => entry::meta(space, key, value),
            RecordKind::Log => entry::log(space, key, value),
            RecordKind::Index => entry::index(space, key, value),
            RecordKind::Object => entry::object(space, key, value),
            RecordKind::System => entry::system(space, key, value),
        }
    }
}
