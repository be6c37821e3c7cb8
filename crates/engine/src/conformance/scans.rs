use std::sync::Arc;

use bytes::Bytes;

use super::Factory;
use super::steps::{Detail, Record, commit, ensure, equal, everything, numbered, read, span, whole};
use crate::{Direction, Engine, KeySpan, Scan, Snapshot};

const DIRECTIONS: [Direction; 2] = [Direction::Forward, Direction::Backward];
const RECORDS: usize = 60;

/// An engine with records `k000000` up to before `RECORDS`, with values of 0 to 99 bytes, some written twice,
/// and deleted records between and around them.
async fn filled(factory: &dyn Factory, name: &str) -> Result<(Arc<dyn Engine>, Vec<Record>), Detail> {
    let engine = factory.open(name).await;
    let records: Vec<Record> = (0..RECORDS)
        .map(|number| (numbered("k", number), Bytes::from(vec![number as u8; number * 37 % 100])))
        .collect();
    let ghosts: Vec<Bytes> = records
        .iter()
        .map(|(key, _)| Bytes::from([key, &b"-deleted"[..]].concat()))
        .chain(["a".into(), "z".into()])
        .collect();
    commit(&*engine, |batch| {
        ghosts.iter().for_each(|key| batch.put(key.clone(), "ghost"));
        records.iter().step_by(3).for_each(|(key, _)| batch.put(key.clone(), "old"));
    })
    .await?;
    commit(&*engine, |batch| {
        ghosts.iter().for_each(|key| batch.delete(key.clone()));
        records.iter().for_each(|(key, value)| batch.put(key.clone(), value.clone()));
    })
    .await?;
    Ok((engine, records))
}

fn in_order(mut records: Vec<Record>, direction: Direction) -> Vec<Record> {
    if direction == Direction::Backward {
        records.reverse();
    }
    records
}

pub(super) async fn a_scan_covers_its_span_in_both_directions(factory: &dyn Factory) -> Result<(), Detail> {
    let (engine, records) = filled(factory, "spans").await?;
    let snapshot = engine.snapshot().await?;
    let spans = [
        everything(),
        span("", "a"),
        span("k000010", "k000020"),
        span("k000010\0", "k000020\0"),
        span("k00001", "k00002"),
        span("a", "k000000"),
        span("a", "k000000\0"),
        span("k000059", "zz"),
        KeySpan { start: "k000058".into(), end: None },
        KeySpan { start: "zz".into(), end: None },
        KeySpan { start: Bytes::new(), end: Some(Bytes::from_static(b"\xff\xff")) },
    ];
    for span in spans {
        let inside = |key: &Bytes| *key >= span.start && span.end.as_ref().is_none_or(|end| key < end);
        let want: Vec<Record> = records.iter().filter(|(key, _)| inside(key)).cloned().collect();
        for direction in DIRECTIONS {
            let got = read(&*snapshot, whole(span.clone(), direction)).await?;
            equal(&format!("{span:?} {direction:?}"), &got, &in_order(want.clone(), direction))?;
        }
    }
    Ok(())
}

pub(super) async fn pages_join_without_gap_or_overlap(factory: &dyn Factory) -> Result<(), Detail> {
    let (engine, records) = filled(factory, "pages").await?;
    let snapshot = engine.snapshot().await?;
    // What is written between two pages of a snapshot must not shift them.
    commit(&*engine, |batch| {
        batch.delete(numbered("k", 30));
        batch.put("k000030a", "new");
    })
    .await?;
    for direction in DIRECTIONS {
        for records_max in [1, 2, 3, 7, RECORDS - 1, RECORDS, RECORDS + 1, usize::MAX] {
            for bytes_max in [0, 1, 50, 333, 100_000, usize::MAX] {
                let scan = Scan { span: everything(), direction, records_max, bytes_max, values: true };
                let got = read(&*snapshot, scan).await?;
                let what = format!("{direction:?} in pages of {records_max} records, {bytes_max} bytes");
                equal(&what, &got, &in_order(records.clone(), direction))?;
                continue_inside(&*snapshot, direction, records_max, &records).await?;
            }
        }
    }
    Ok(())
}

/// The same on a span that has records before and behind it.
async fn continue_inside(
    snapshot: &dyn Snapshot,
    direction: Direction,
    records_max: usize,
    records: &[Record],
) -> Result<(), Detail> {
    let scan =
        Scan { span: span("k000005", "k000025"), direction, records_max, bytes_max: 1000, values: true };
    let want = in_order(records[5..25].to_vec(), direction);
    equal(&format!("[5, 25) {direction:?} in pages of {records_max}"), &read(snapshot, scan).await?, &want)
}

pub(super) async fn a_page_keeps_its_limits(factory: &dyn Factory) -> Result<(), Detail> {
    let (engine, records) = filled(factory, "limits").await?;
    let snapshot = engine.snapshot().await?;
    for direction in DIRECTIONS {
        let want = in_order(records.clone(), direction);
        let first = |records_max, bytes_max, values| {
            let scan = Scan { span: everything(), direction, records_max, bytes_max, values };
            let snapshot = &snapshot;
            async move { snapshot.scan(&scan).await }
        };
        for values in [true, false] {
            let page = first(10, 0, values).await?;
            equal("the keys of a page of 0 bytes", &keys(&page.records), &keys(&want[..1]))?;
            ensure!(page.next.is_some(), "a page that stopped at its byte limit has no `next`");
            let page = first(1, usize::MAX, values).await?;
            equal("the keys of a page of one record", &keys(&page.records), &keys(&want[..1]))?;
            ensure!(page.next.is_some(), "a page that stopped at its record limit has no `next`");
        }
    }
    Ok(())
}

fn keys(records: &[Record]) -> Vec<Bytes> {
    records.iter().map(|(key, _)| key.clone()).collect()
}

pub(super) async fn an_empty_span_gives_nothing(factory: &dyn Factory) -> Result<(), Detail> {
    let (engine, _) = filled(factory, "empty spans").await?;
    let snapshot = engine.snapshot().await?;
    for span in [
        span("k000010", "k000010"),
        span("k000020", "k000010"),
        span("", ""),
        span("k", "k0"),
        span("k000010\0", "k000010\x01"),
        span("z", "zz"),
    ] {
        for direction in DIRECTIONS {
            let got = read(&*snapshot, whole(span.clone(), direction)).await?;
            equal(&format!("{span:?} {direction:?}"), &got, &Vec::new())?;
        }
    }
    Ok(())
}

pub(super) async fn a_scan_without_values_gives_the_same_keys(factory: &dyn Factory) -> Result<(), Detail> {
    let (engine, records) = filled(factory, "keys").await?;
    let snapshot = engine.snapshot().await?;
    let want: Vec<Record> = records.into_iter().map(|(key, _)| (key, Bytes::new())).collect();
    for direction in DIRECTIONS {
        for records_max in [1, 7, 1000] {
            let scan = Scan { span: everything(), direction, records_max, bytes_max: 100, values: false };
            let got = read(&*snapshot, scan).await?;
            equal(
                &format!("keys {direction:?} in pages of {records_max}"),
                &got,
                &in_order(want.clone(), direction),
            )?;
        }
    }
    Ok(())
}
