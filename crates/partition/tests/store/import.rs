//! A store that was not written but imported does everything that others do.

use std::sync::Arc;

use base::SeededRandom;
use engine::{Engine, MemoryEngine};
use layout::log::{Body, PartitionId, Slot};
use model::{Change, ChangeKind, KeyMeta, KeyRange, LeaseId, RangeOp, ReadRevision, Revision};
use partition::{
    Content, Import, ImportFailure, LogFailure, LogItem, LogReader, OpenFailure, ReadFailure, Store,
};

use crate::common::{Machine, forgetful, key, retentive, settle, space};

fn meta(created: i64, modified: i64, version: i64, lease: i64, value: &str) -> KeyMeta {
    KeyMeta {
        create_revision: Revision::new(created),
        mod_revision: Revision::new(modified),
        version,
        lease: LeaseId(lease),
        value_len: u32::try_from(value.len()).unwrap(),
    }
}

/// `a` is of revision 7, `b` on a lease of 9, `c` was deleted at 9; the store is at 9.
async fn imported() -> Arc<MemoryEngine> {
    let engine = Arc::new(MemoryEngine::new());
    let mut import = Import::begin(engine.clone(), &SeededRandom::new(5), space()).await.unwrap();
    for lease in 1..=3000 {
        import.lease(LeaseId(lease), 60).await.unwrap();
    }
    import.live(&key("a"), &meta(3, 7, 4, 0, "first"), b"first").await.unwrap();
    let (old, new) = (meta(5, 5, 1, 0, "old"), meta(5, 9, 2, 77, "new"));
    import.replaced(&key("b"), &old, b"old").await.unwrap();
    import.live(&key("b"), &new, b"new").await.unwrap();
    let at = Revision::new(9);
    let put = Change { revision: at, key: key("b"), kind: ChangeKind::Put(new), previous: Revision::new(5) };
    import.change(put).await.unwrap();
    let delete = Change { revision: at, key: key("c"), kind: ChangeKind::Delete, previous: Revision::NONE };
    import.change(delete).await.unwrap();
    import.finish(at).await.unwrap();
    engine
}

async fn keys(store: &Store, at: ReadRevision) -> Result<Vec<(String, KeyMeta, String)>, ReadFailure> {
    let view = store.keys.view(at).await?;
    let op = RangeOp { revision: at, ..RangeOp::of(KeyRange::all()) };
    let found = view.range(&op).await?;
    let decoded = found.versions.iter().map(|version| {
        let name = String::from_utf8(layout::object::key_of(version).unwrap().to_vec()).unwrap();
        let value = String::from_utf8(layout::object::value_of(version).unwrap().to_vec()).unwrap();
        (name, layout::object::meta_of(version).unwrap(), value)
    });
    Ok(decoded.collect())
}

#[tokio::test]
async fn what_was_imported_is_served_and_nothing_before_it() {
    for settings in [forgetful(), retentive()] {
        let machine = Machine::on(imported().await, settings).await;
        let store = &machine.store;
        let expected = [
            ("a".to_owned(), meta(3, 7, 4, 0, "first"), "first".to_owned()),
            ("b".to_owned(), meta(5, 9, 2, 77, "new"), "new".to_owned()),
        ];
        let at = Revision::new(9);
        assert_eq!((store.keys.revision(), store.keys.compacted()), (at, Some(at)));
        for revision in [ReadRevision::Latest, ReadRevision::At(at)] {
            assert_eq!(keys(store, revision).await.unwrap(), expected);
        }
        let before = keys(store, ReadRevision::At(Revision::new(8))).await;
        assert_eq!(before, Err(ReadFailure::Compacted(at)));
        assert_eq!(store.system.leases().len(), 3000);
        assert_eq!(store.keys.attached(LeaseId(77)), ["b"]);
    }
}

#[tokio::test]
async fn a_watch_from_the_imported_revision_on_tells_what_it_changed_and_what_comes_after() {
    let machine = Machine::on(imported().await, forgetful()).await;
    machine.put("a", "second").await;
    let mut told = Vec::new();
    let mut from = Revision::new(9);
    while from <= machine.store.keys.revision() {
        let page = machine.store.keys.events(from, &KeyRange::all()).await.unwrap();
        for event in &page.events {
            let previous = machine.store.keys.previous(event).await.unwrap();
            let previous = previous.map(|it| layout::object::value_of(&it).unwrap());
            let change = &event.change;
            told.push((change.revision.get(), change.key.to_string(), event.is_delete(), previous));
        }
        from = page.through.next();
    }
    let expected = [
        (9, "b".to_owned(), false, Some("old".into())),
        (9, "c".to_owned(), true, None),
        (10, "a".to_owned(), false, Some("first".into())),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn leases_end_and_compaction_gives_back_what_was_imported() {
    let machine = Machine::on(imported().await, forgetful()).await;
    machine.put("a", "second").await;
    let lease = LeaseId(77);
    machine.store.system.begin_revoke(lease).await.unwrap();
    machine.store.keys.delete_attached(lease, 10).await.unwrap();
    machine.store.system.finish_revoke(lease).await.unwrap();
    machine.put("a", "third").await;
    machine.compact(12).await;
    machine.store.keys.reclaimed(Revision::new(12)).await;
    settle().await;
    assert_eq!(machine.objects().await, [("a".to_owned(), 10, false), ("a".to_owned(), 12, false)]);
    let machine = machine.restart().await;
    let left = keys(&machine.store, ReadRevision::Latest).await.unwrap();
    assert_eq!(left, [("a".to_owned(), meta(3, 12, 6, 0, "third"), "third".to_owned())]);
    assert_eq!(machine.store.system.leases().len(), 2999);
}

#[tokio::test]
async fn its_log_reads_as_that_of_a_store_which_was_compacted() {
    let engine = imported().await;
    let reader = LogReader::open(engine.snapshot().await.unwrap(), space()).await.unwrap();
    let at = Revision::new(9);
    assert_eq!((reader.head().revision, reader.head().compacted), (at, Some(at)));
    let page = reader.page(layout::log::PartitionId::FIRST, Slot(1)).await.unwrap();
    let [LogItem::Slot(Slot(1), founding), LogItem::Slot(Slot(2), changed)] = page.items.as_slice() else {
        panic!("{:?}", page.items)
    };
    assert_eq!((&founding.body, founding.revision), (&Body::Filler, Revision::FIRST));
    let Body::Changes(changes) = &changed.body else { panic!("{changed:?}") };
    assert_eq!(reader.contents(changes).await.unwrap(), [Content::Value("new".into()), Content::Deleted]);
    let page = reader.page(PartitionId::SYSTEM, Slot(1)).await.unwrap();
    assert_eq!(page.items.len(), 5, "one that founds, three with grants, one with the compaction");
}

#[tokio::test]
async fn an_empty_state_and_a_revision_without_changes_can_be_imported_too() {
    for revision in [1, 50] {
        let engine = Arc::new(MemoryEngine::new());
        let import = Import::begin(engine.clone(), &SeededRandom::new(5), space()).await.unwrap();
        import.finish(Revision::new(revision)).await.unwrap();
        let machine = Machine::on(engine, forgetful()).await.restart().await;
        assert_eq!(machine.revision(), revision);
        assert_eq!(machine.put("a", "1").await, Revision::new(revision + 1));
        let page = machine.store.keys.events(Revision::new(revision), &KeyRange::all()).await.unwrap();
        assert_eq!(page.events.len(), 1);
    }
}

#[tokio::test]
async fn an_import_that_broke_off_is_never_served_and_never_gone_on_with() {
    let engine = Arc::new(MemoryEngine::new());
    let mut import = Import::begin(engine.clone(), &SeededRandom::new(5), space()).await.unwrap();
    for number in 0..3000 {
        import.live(&key(&format!("key-{number}")), &meta(2, 2, 1, 0, "v"), b"v").await.unwrap();
    }
    drop(import);
    let opened = Machine::try_on(engine.clone(), retentive()).await.err();
    assert_eq!(opened, Some(OpenFailure::Unfinished));
    let log = LogReader::open(engine.snapshot().await.unwrap(), space()).await.err();
    assert_eq!(log, Some(LogFailure::Unfinished));
    let again = Import::begin(engine, &SeededRandom::new(6), space()).await.err();
    assert_eq!(again, Some(ImportFailure::Unfinished));
}

#[tokio::test]
async fn a_store_is_never_imported_into() {
    let machine = Machine::start(retentive()).await;
    let refused = Import::begin(machine.engine.clone(), &SeededRandom::new(6), space()).await.err();
    assert_eq!(refused, Some(ImportFailure::NotEmpty));
}
