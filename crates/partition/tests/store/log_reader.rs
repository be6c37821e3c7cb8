//! The log as somebody reads it who does not serve the store.

use bytes::Bytes;
use engine::{Batch, Engine};
use layout::log::{Body, PartitionId, Slot, SystemChange};
use model::{LeaseId, LeaseTtl, Revision, Txn};
use partition::{Content, LogFailure, LogItem, LogReader, ReadFailure};

use crate::common::{Machine, forgetful, put_op, space};

async fn reader(machine: &Machine) -> LogReader {
    LogReader::open(machine.engine.snapshot().await.unwrap(), space()).await.unwrap()
}

/// All of a partition's log, page by page.
async fn items(reader: &LogReader, partition: PartitionId) -> Result<Vec<LogItem>, ReadFailure> {
    let (mut items, mut next) = (Vec::new(), Some(Slot(1)));
    while let Some(first) = next {
        let page = reader.page(partition, first).await?;
        items.extend(page.items);
        next = page.next;
    }
    Ok(items)
}

/// What each change of a user key left behind: its revision, its key, and the content.
async fn contents(reader: &LogReader) -> Vec<(i64, String, Content)> {
    let mut all = Vec::new();
    for item in items(reader, PartitionId::FIRST).await.unwrap() {
        let LogItem::Slot(_, record) = item else { continue };
        let Body::Changes(changes) = record.body else { continue };
        for (change, content) in changes.iter().zip(reader.contents(&changes).await.unwrap()) {
            all.push((change.revision.get(), change.key.to_string(), content));
        }
    }
    all
}

fn value(text: &'static str) -> Content {
    Content::Value(Bytes::from_static(text.as_bytes()))
}

#[tokio::test]
async fn a_log_reads_back_as_it_was_written_over_restarts() {
    let machine = Machine::start(forgetful()).await;
    let lease = LeaseId(7);
    machine.store.system.grant(lease, LeaseTtl::clamped(60, 1).unwrap()).await.unwrap();
    machine.put("a", "1").await;
    machine.txn(Txn::only(put_op("b", "", lease))).await.unwrap();
    let machine = machine.restart().await;
    machine.delete("a").await;
    let reader = reader(&machine).await;
    assert_eq!((reader.head().revision, reader.head().compacted), (Revision::new(4), None));
    let written =
        [(2, "a".into(), value("1")), (3, "b".into(), value("")), (4, "a".into(), Content::Deleted)];
    assert_eq!(contents(&reader).await, written);
    let slots = items(&reader, PartitionId::FIRST).await.unwrap();
    let stored: Vec<_> = machine.slots(PartitionId::FIRST).await.into_iter().collect();
    assert_eq!(
        slots,
        stored.into_iter().map(|(slot, record)| LogItem::Slot(slot, record)).collect::<Vec<_>>()
    );
    let granted = Body::System(vec![SystemChange::LeaseGranted(lease, 60)]);
    let system = items(&reader, PartitionId::SYSTEM).await.unwrap();
    assert!(system.iter().any(|item| matches!(item, LogItem::Slot(_, record) if record.body == granted)));
}

#[tokio::test]
async fn a_log_longer_than_a_page_is_read_whole() {
    let machine = Machine::start(forgetful()).await;
    for number in 0..600 {
        machine.put("a", &number.to_string()).await;
    }
    let contents = contents(&reader(&machine).await).await;
    assert_eq!(contents.len(), 600);
    assert_eq!(contents.last(), Some(&(601, "a".into(), value("599"))));
}

#[tokio::test]
async fn what_a_compaction_removed_is_said_to_be_gone() {
    let machine = Machine::start(forgetful()).await;
    for text in ["1", "2", "3"] {
        machine.put("a", text).await;
    }
    // The last slot before a takeover stays, although its change and its value are freed.
    let machine = machine.restart().await;
    machine.put("a", "4").await;
    machine.put("a", "5").await;
    machine.compact(6).await;
    let reader = reader(&machine).await;
    assert_eq!(reader.head().compacted, Some(Revision::new(6)));
    let gone: Vec<_> = items(&reader, PartitionId::FIRST)
        .await
        .unwrap()
        .into_iter()
        .filter_map(|item| match item {
            LogItem::Gone(slots) => Some(slots),
            LogItem::Slot(..) => None,
        })
        .collect();
    assert_eq!(gone, [3..=4, 7..=7], "founded and taken over in 1 and 2, taken over again in 6");
    let told = [(4, "a".into(), Content::Reclaimed), (6, "a".into(), value("5"))];
    assert_eq!(contents(&reader).await, told);
}

#[tokio::test]
async fn what_is_missing_without_a_compaction_is_damage() {
    let machine = Machine::start(forgetful()).await;
    for text in ["1", "2", "3"] {
        machine.put("a", text).await;
    }
    let mut batch = Batch::new();
    batch.delete(space().object_key(b"a", Revision::new(2)));
    machine.engine.commit(batch).await.unwrap();
    let failure = {
        let reader = reader(&machine).await;
        let page = reader.page(PartitionId::FIRST, Slot(3)).await.unwrap();
        let LogItem::Slot(_, record) = &page.items[0] else { panic!("{page:?}") };
        let Body::Changes(changes) = &record.body else { panic!("{record:?}") };
        reader.contents(changes).await.unwrap_err()
    };
    assert!(matches!(failure, ReadFailure::Corrupt(text) if text.contains("object record")));
    let mut batch = Batch::new();
    batch.delete(space().log_key(PartitionId::FIRST, Slot(4)));
    machine.engine.commit(batch).await.unwrap();
    let failure = items(&reader(&machine).await, PartitionId::FIRST).await.unwrap_err();
    assert_eq!(failure, ReadFailure::Corrupt("slot 4 of partition 1 is missing".to_owned()));
}

#[tokio::test]
async fn there_is_no_store_under_another_prefix() {
    let machine = Machine::start(forgetful()).await;
    let other = layout::KeySpace::new("other/").unwrap();
    let opened = LogReader::open(machine.engine.snapshot().await.unwrap(), other).await;
    assert_eq!(opened.map(|reader| reader.head()), Err(LogFailure::Absent { prefix: "other/".to_owned() }));
}
