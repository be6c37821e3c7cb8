use std::fmt;

use bytes::Bytes;

use crate::{Batch, CommitError, Direction, Engine, KeySpan, ReadError, Scan, Snapshot};

/// What a check saw that it should not have seen.
pub struct Detail(pub(super) String);

impl From<ReadError> for Detail {
    fn from(error: ReadError) -> Self {
        Detail(format!("a read failed: {error}"))
    }
}

impl From<CommitError> for Detail {
    fn from(error: CommitError) -> Self {
        Detail(format!("a commit failed: {error}"))
    }
}

/// Fails the check with a formatted detail unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($detail:tt)+) => {
        if !$condition {
            return Err($crate::conformance::steps::Detail(format!($($detail)+)));
        }
    };
}
pub(super) use ensure;

pub(super) type Record = (Bytes, Bytes);

pub(super) fn equal<T: PartialEq + fmt::Debug>(what: &str, got: &T, want: &T) -> Result<(), Detail> {
    ensure!(got == want, "{what}: got {}, want {}", shortened(got), shortened(want));
    Ok(())
}

fn shortened(value: &impl fmt::Debug) -> String {
    const CHARACTERS_MAX: usize = 400;
    let text = format!("{value:?}");
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}… ({} characters)", &text[..end], text.len()),
        None => text,
    }
}

/// Commits the batch that `fill` makes.
pub(super) async fn commit(engine: &dyn Engine, fill: impl FnOnce(&mut Batch)) -> Result<(), CommitError> {
    engine.commit(batch(fill)).await
}

pub(super) fn batch(fill: impl FnOnce(&mut Batch)) -> Batch {
    let mut batch = Batch::new();
    fill(&mut batch);
    batch
}

pub(super) async fn put(engine: &dyn Engine, key: &'static str, value: &'static str) -> Result<(), Detail> {
    Ok(commit(engine, |batch| batch.put(key, value)).await?)
}

/// Fails unless a new snapshot shows exactly `want` under `key`.
pub(super) async fn holds(engine: &dyn Engine, key: &str, want: Option<&str>) -> Result<(), Detail> {
    let got = engine.snapshot().await?.get(key.as_bytes()).await?;
    equal(&format!("the value of {key}"), &got, &want.map(|value| Bytes::copy_from_slice(value.as_bytes())))
}

pub(super) fn everything() -> KeySpan {
    KeySpan { start: Bytes::new(), end: None }
}

pub(super) fn span(start: &'static str, end: &'static str) -> KeySpan {
    KeySpan { start: Bytes::from_static(start.as_bytes()), end: Some(Bytes::from_static(end.as_bytes())) }
}

/// A scan of `span` with no limit that matters.
pub(super) fn whole(span: KeySpan, direction: Direction) -> Scan {
    Scan { span, direction, records_max: 1_000_000, bytes_max: 1 << 30, values: true }
}

/// Every record that a new snapshot shows.
pub(super) async fn all(engine: &dyn Engine) -> Result<Vec<Record>, Detail> {
    let snapshot = engine.snapshot().await?;
    read(&*snapshot, whole(everything(), Direction::Forward)).await
}

/// Follows a scan to its end, and checks on the way what holds for each page alone.
pub(super) async fn read(snapshot: &dyn Snapshot, mut scan: Scan) -> Result<Vec<Record>, Detail> {
    let mut records = Vec::new();
    loop {
        let page = snapshot.scan(&scan).await?;
        check_limits(&scan, &page.records)?;
        let empty = page.records.is_empty();
        records.extend(page.records);
        let Some(next) = page.next else { return Ok(records) };
        let shrunk = match scan.direction {
            Direction::Forward => next.end == scan.span.end && next.start >= scan.span.start,
            Direction::Backward => {
                next.start == scan.span.start
                    && next.end.is_some()
                    && (scan.span.end.is_none() || next.end <= scan.span.end)
            }
        };
        ensure!(shrunk, "`next` {next:?} does not lie at the far end of {:?}", scan.span);
        ensure!(
            !empty || next != scan.span,
            "a page was empty and its `next` is the span itself, {next:?}: the scan never ends"
        );
        scan.span = next;
    }
}

fn check_limits(scan: &Scan, records: &[Record]) -> Result<(), Detail> {
    ensure!(
        records.len() <= scan.records_max,
        "a page of at most {} records has {}",
        scan.records_max,
        records.len()
    );
    let bytes: usize = records.iter().map(|(key, value)| key.len() + value.len()).sum();
    let last = records.last().map_or(0, |(key, value)| key.len() + value.len());
    ensure!(
        records.len() <= 1 || bytes - last < scan.bytes_max,
        "a page went on after it had reached its {} bytes: it has {} records of {bytes} bytes",
        scan.bytes_max,
        records.len()
    );
    for (key, _) in records {
        ensure!(
            *key >= scan.span.start && scan.span.end.as_ref().is_none_or(|end| key < end),
            "the key {key:?} is not in the span {:?}",
            scan.span
        );
    }
    Ok(())
}

/// A key or value with a number in it that sorts as the number does.
pub(super) fn numbered(prefix: &str, number: usize) -> Bytes {
    Bytes::from(format!("{prefix}{number:06}"))
}
