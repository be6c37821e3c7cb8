//! What is not as it was written is told, with where it is.

use std::sync::Arc;

use base::SeededRandom;
use bytes::Bytes;
use check::{CheckFailure, Problem};
use engine::{Batch, Engine, MemoryEngine};
use layout::KeySpace;
use layout::log::{PartitionId, Slot};
use layout::meta::Identity;
use layout::system::{Alarm, LeaseRecord};
use model::{KeyMeta, LeaseId, Revision};
use partition::Import;

use crate::common::{Machine, Records, space};

const USER: PartitionId = PartitionId(1);

/// A store with something of everything, at revision 8, compacted at 5.
async fn store() -> Records {
    let machine = Machine::start(Arc::new(MemoryEngine::new())).await;
    let lease = machine.grant(0x70d3).await;
    machine.put("a", "1", LeaseId::NONE).await;
    machine.put("a", "2", lease).await;
    machine.put("b", "1", LeaseId::NONE).await;
    machine.put("c", "1", LeaseId::NONE).await;
    machine.compact(Revision::new(5)).await;
    let machine = machine.restart().await;
    machine.put("b", "2", LeaseId::NONE).await;
    machine.delete("c").await;
    machine.put("d", "1", LeaseId::NONE).await;
    machine.store.system.raise(Alarm::NoSpace).await.unwrap();
    let records = machine.records().await;
    machine.stop().await;
    assert_eq!(records.problems().await, Vec::<String>::new());
    records
}

/// The problems after a change of the store's records.
async fn after(change: impl FnOnce(&mut Records)) -> Vec<String> {
    let mut records = store().await;
    change(&mut records);
    records.problems().await
}

fn remove(key: Bytes) -> impl FnOnce(&mut Records) {
    move |records| drop(records.0.remove(&key).unwrap())
}

#[tokio::test]
async fn a_bit_that_flips_in_any_record_is_told() {
    let sound = store().await;
    for key in sound.0.keys() {
        let length = sound.0[key].len();
        for bit in [0, length * 4, length * 8 - 1] {
            let mut records = sound.clone();
            let mut value = records.0[key].to_vec();
            value[bit / 8] ^= 1 << (bit % 8);
            records.0.insert(key.clone(), value.into());
            let (_, findings) = records.check().await;
            let at = |finding: &&check::Finding| {
                finding.problem == Problem::Damaged
                    && (finding.record.as_ref() == Some(key) || *key == space().identity_key())
            };
            assert!(findings.iter().any(|finding| at(&finding)), "{}: {findings:?}", key.escape_ascii());
        }
    }
}

#[tokio::test]
async fn any_record_that_is_gone_is_missed() {
    let sound = store().await;
    let space = space();
    // Nothing follows from these: the newest slot of a log may not have been written yet, who leads is told by the log, and
    // without a position reclaiming begins anew.
    let last_of_system = space.log_key(PartitionId::SYSTEM, Slot(6));
    let unnoticed = [space.leader_key(), space.reclaimed_key(USER), last_of_system];
    for key in sound.0.keys().filter(|key| !unnoticed.contains(key)) {
        let mut records = sound.clone();
        records.0.remove(key);
        let (_, findings) = records.check().await;
        assert!(!findings.is_empty(), "{} is not missed", key.escape_ascii());
    }
    assert!(sound.0.contains_key(&unnoticed[2]), "the list names what is there");
}

#[tokio::test]
async fn an_object_that_is_gone_is_named_with_its_key_and_revision() {
    let gone = space().object_key(b"a", Revision::new(3));
    let expected = "missing a @3: the object of a key that the index names is missing: reads of it fail";
    assert_eq!(after(remove(gone)).await, [expected]);
    // One that the change at the compacted revision or later has replaced, for watches with previous values.
    let replaced = space().object_key(b"b", Revision::new(4));
    assert_eq!(
        after(remove(replaced)).await,
        ["missing b @4: the object that revision 6 has replaced is missing"]
    );
    // A tombstone: the key seems to live again.
    let tombstone = space().object_key(b"c", Revision::new(7));
    assert_eq!(
        after(remove(tombstone)).await,
        [
            "missing c @5: the index has no record of a key that exists: reads do not find it",
            "missing c @7: the object of a change in the log is missing",
        ]
    );
}

#[tokio::test]
async fn an_index_record_that_is_gone_or_another_is_told() {
    let index = space().index_key(b"d");
    assert_eq!(
        after(remove(index.clone())).await,
        ["missing d @8: the index has no record of a key that exists: reads do not find it"]
    );
    let meta = KeyMeta {
        create_revision: Revision::new(8),
        mod_revision: Revision::new(8),
        version: 1,
        lease: LeaseId::NONE,
        value_len: 2,
    };
    let change = |records: &mut Records| {
        records.0.insert(index.clone(), space().encode_index(&index, &meta));
    };
    let expected = "contradiction d @8: the index says create revision 8, version 1, lease 0, 2 bytes, and the object \
                    says create revision 8, version 1, lease 0, 1 bytes";
    assert_eq!(after(change).await, [expected]);
    let dead = space().index_key(b"c");
    let raise = |records: &mut Records| {
        let meta = KeyMeta { mod_revision: Revision::new(7), ..meta };
        records.0.insert(dead.clone(), space().encode_index(&dead, &meta));
    };
    assert_eq!(
        after(raise).await,
        ["contradiction c @7: the index has a record of a key whose newest object is its deletion"]
    );
}

#[tokio::test]
async fn a_slot_that_is_gone_is_named_and_so_is_the_object_that_it_leaves() {
    let records = store().await;
    let of_b = |records: &Records| {
        let slots = (1..20).map(|slot| (slot, space().log_key(USER, Slot(slot))));
        let mut found = slots.filter(|(_, key)| {
            let record = records.0.get(key).map(|value| space().decode_log(key, value).unwrap());
            record.is_some_and(|record| record.revision == Revision::new(6))
        });
        found.next().unwrap()
    };
    let (slot, key) = of_b(&records);
    let problems = after(remove(key)).await;
    assert_eq!(
        problems,
        [
            format!("missing: slots {slot} to {slot} of partition 1 are missing"),
            "contradiction b @6: no slot of the log has the change that an object tells of".to_owned(),
        ]
    );
}

#[tokio::test]
async fn an_object_that_nobody_wrote_is_told() {
    let object = space().object_key(b"b", Revision::new(5));
    let meta = KeyMeta {
        create_revision: Revision::new(4),
        mod_revision: Revision::new(5),
        version: 2,
        lease: LeaseId::NONE,
        value_len: 1,
    };
    let add = |records: &mut Records| {
        records.0.insert(object.clone(), space().encode_put(&object, b"b", &meta, b"x"));
    };
    let problems = after(add).await;
    let expected = "contradiction b @5: no slot of the log has the change that an object tells of".to_owned();
    assert!(problems.contains(&expected), "{problems:?}");
}

#[tokio::test]
async fn what_a_compaction_should_have_given_back_is_told() {
    let old = space().object_key(b"a", Revision::new(2));
    let meta = KeyMeta {
        create_revision: Revision::new(2),
        mod_revision: Revision::new(2),
        version: 1,
        lease: LeaseId::NONE,
        value_len: 1,
    };
    let add = |records: &mut Records| {
        records.0.insert(old.clone(), space().encode_put(&old, b"a", &meta, b"1"));
    };
    let expected = "leftover a @2: an older version is still there, and a compaction has given it back";
    assert_eq!(after(add).await, [expected]);
}

#[tokio::test]
async fn leases_alarms_and_the_compacted_revision_are_compared_with_their_log() {
    let lease = space().lease_key(LeaseId(0x70d3));
    assert_eq!(
        after(remove(lease.clone())).await,
        [
            "missing: the log says that the lease 70d3 is granted for 60 s, and its record is missing",
            "missing a: the key hangs on the lease 70d3, which does not exist: it never expires",
        ]
    );
    let other = |records: &mut Records| {
        let record = LeaseRecord { ttl_secs: 61, revoking: false };
        records.0.insert(lease.clone(), space().encode_lease(&lease, record));
    };
    assert_eq!(
        after(other).await,
        [
            "contradiction: the log says that the lease 70d3 is granted for 60 s, and its record says something else"
        ]
    );
    let alarm = space().alarm_key(Alarm::NoSpace);
    assert_eq!(
        after(remove(alarm)).await,
        ["contradiction: the log says another thing about an alarm than its record"]
    );
    let forget = |records: &mut Records| {
        let key = space().compacted_key();
        records.0.insert(key, space().encode_compacted(Revision::new(4)));
    };
    assert_eq!(
        after(forget).await[0],
        "contradiction @5: the log says that it is compacted at 5, and the record says 4"
    );
}

#[tokio::test]
async fn records_of_no_kind_are_told_and_those_of_other_stores_are_not() {
    for strange in
        ["blue/", "blue/\u{6}", "blue/\u{1f}x", "blue/\u{7f}", "blue/\u{1}strange", "blue/\u{5}\u{9}"]
    {
        let add = |records: &mut Records| {
            records.0.insert(Bytes::copy_from_slice(strange.as_bytes()), Bytes::from("x"));
        };
        let problems = after(add).await;
        assert_eq!(problems.len(), 1, "{strange:?}: {problems:?}");
    }
    let partition = space().log_key(PartitionId(2), Slot(1));
    let problems = after(|records| drop(records.0.insert(partition, Bytes::from("x")))).await;
    assert_eq!(problems, ["unknown: there is a record of the log of a partition that does not exist"]);
    let others = |records: &mut Records| {
        for other in ["", "a", "blue", "blue/x", "blue0", "c"] {
            let key = KeySpace::new(other).unwrap().identity_key();
            records.0.insert(key, Bytes::from("x"));
        }
        records.0.insert(Bytes::from_static(b"\xff"), Bytes::from("x"));
    };
    assert_eq!(after(others).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_no_store_is_refused_and_not_called_damaged() {
    let check = |records: Records| async move {
        let (report, findings) = records.check().await;
        (report.unwrap_err(), findings)
    };
    let empty = Records(std::collections::BTreeMap::new());
    assert_eq!(check(empty).await, (CheckFailure::Absent { prefix: "blue/".to_owned() }, Vec::new()));
    let mut newer = store().await;
    let identity = Identity { format: 9, cluster_id: 7 };
    newer.0.insert(space().identity_key(), space().encode_identity(identity));
    assert_eq!(check(newer).await, (CheckFailure::NewerFormat { found: 9 }, Vec::new()));
    let engine = Arc::new(MemoryEngine::new());
    let import = Import::begin(engine.clone(), &SeededRandom::new(5), space()).await.unwrap();
    drop(import);
    assert_eq!(check(Records::of(engine.as_ref()).await).await, (CheckFailure::Unfinished, Vec::new()));
}

#[tokio::test]
async fn an_engine_that_fails_ends_the_check_with_its_reason() {
    let engine = MemoryEngine::new();
    let mut batch = Batch::new();
    store().await.0.into_iter().for_each(|(key, value)| batch.put(key, value));
    engine.commit(batch).await.unwrap();
    let snapshot = engine.snapshot().await.unwrap();
    engine.close().await;
    struct Nobody;
    impl check::Observer for Nobody {
        fn found(&mut self, finding: &check::Finding) {
            panic!("{finding:?}");
        }
    }
    let failure = check::check(snapshot.as_ref(), &space(), &mut Nobody).await.unwrap_err();
    assert!(matches!(failure, CheckFailure::Read(engine::ReadError::Closed(_))), "{failure}");
}
