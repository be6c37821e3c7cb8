//! Nothing is told of a store that is as it should be.

use std::sync::Arc;

use base::{Random, SeededRandom};
use engine::MemoryEngine;
use layout::system::Alarm;
use model::{Change, ChangeKind, KeyMeta, LeaseId, Revision};
use partition::Import;

use crate::common::{Machine, Records, delete_op, key, put_op, space};

const NONE: Vec<String> = Vec::new();

#[tokio::test]
async fn any_store_that_processes_write_restart_and_compact_is_sound() {
    for seed in 0..40 {
        let random = SeededRandom::new(seed);
        let below = |bound: u64| random.next_u64() % bound;
        let splits: &[&str] = if seed % 2 == 0 { &[] } else { &["k3", "k4", "z"] };
        let mut machine = Machine::founded(Arc::new(MemoryEngine::new()), splits).await;
        let mut leases = vec![LeaseId::NONE];
        for step in 0..120 {
            let name = |number: u64| format!("k{}", number % 9);
            match below(20) {
                0..10 => {
                    let lease = leases[below(leases.len() as u64) as usize];
                    machine.put(&name(below(9)), &step.to_string(), lease).await;
                }
                10..13 => machine.delete(&name(below(9))).await,
                13..15 => {
                    let first = below(9);
                    machine
                        .txn(vec![delete_op(&name(first)), put_op(&name(first + 1), "x", LeaseId::NONE)])
                        .await;
                }
                15 => leases.push(machine.grant(step + 1).await),
                16 if leases.len() > 1 => {
                    let lease = leases.pop().unwrap();
                    machine.store.system.begin_revoke(lease).await.unwrap();
                    if below(4) > 0 {
                        machine.store.keys.delete_attached(lease, 1000).await.unwrap();
                        machine.store.system.finish_revoke(lease).await.unwrap();
                    }
                }
                17 => machine = machine.restart().await,
                18 => {
                    let back = below(5) as i64;
                    let revision = Revision::new((machine.store.keys.revision().get() - back).max(1));
                    if machine.store.system.compacted().is_none_or(|compacted| compacted < revision) {
                        machine.compact(revision).await;
                    }
                }
                _ if machine.store.system.is_raised(Alarm::NoSpace) => {
                    machine.store.system.clear(Alarm::NoSpace).await.unwrap();
                }
                _ => machine.store.system.raise(Alarm::NoSpace).await.unwrap(),
            }
            if step % 10 == 0 {
                assert_eq!(machine.records().await.problems().await, NONE, "seed {seed}, step {step}");
            }
        }
        assert_eq!(machine.records().await.problems().await, NONE, "seed {seed}");
        machine.stop().await;
    }
}

#[tokio::test]
async fn long_logs_and_many_versions_are_read_in_pages() {
    let machine = Machine::start(Arc::new(MemoryEngine::new())).await;
    for number in 0..1500 {
        machine.put(&format!("k{}", number % 7), "value", LeaseId::NONE).await;
        // The system partition's log is trimmed, too.
        machine.grant(number + 1).await;
    }
    let (report, findings) = machine.records().await.check().await;
    let report = report.unwrap();
    assert_eq!((findings, report.keys, report.objects, report.leases), (Vec::new(), 7, 1500, 1500));
    assert_eq!(report.revision, Revision::new(1501));
    machine.stop().await;
}

#[tokio::test]
async fn a_store_that_was_imported_is_sound_also_when_it_goes_on() {
    for revision in [9, 1_000_009] {
        let engine = Arc::new(MemoryEngine::new());
        let mut import = Import::begin(engine.clone(), &SeededRandom::new(5), space()).await.unwrap();
        let meta = |created, modified, version, value: &str| KeyMeta {
            create_revision: Revision::new(created),
            mod_revision: Revision::new(modified),
            version,
            lease: LeaseId::NONE,
            value_len: u32::try_from(value.len()).unwrap(),
        };
        import.lease(LeaseId(7), 60).await.unwrap();
        import.live(&key("a"), &meta(3, 7, 4, "first"), b"first").await.unwrap();
        let new = meta(5, 9, 2, "new");
        import.live(&key("b"), &new, b"new").await.unwrap();
        if revision == 9 {
            import.replaced(&key("b"), &meta(5, 5, 1, "old"), b"old").await.unwrap();
            let (at, previous) = (Revision::new(9), Revision::new(5));
            let put = Change { revision: at, key: key("b"), kind: ChangeKind::Put(new), previous };
            import.change(put).await.unwrap();
            let previous = Revision::NONE;
            import
                .change(Change { revision: at, key: key("c"), kind: ChangeKind::Delete, previous })
                .await
                .unwrap();
        }
        import.finish(Revision::new(revision)).await.unwrap();
        assert_eq!(Records::of(engine.as_ref()).await.problems().await, NONE);
        let machine = Machine::start(engine).await;
        machine.put("b", "newer", LeaseId(7)).await;
        assert_eq!(machine.records().await.problems().await, NONE);
        machine.compact(Revision::new(revision + 1)).await;
        assert_eq!(machine.records().await.problems().await, NONE);
        machine.stop().await;
    }
}
