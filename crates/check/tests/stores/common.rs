//! A process that writes a store, and what is then done to its records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base::{ManualClock, SeededRandom, Shutdown, Supervisor};
use bytes::Bytes;
use check::{CheckFailure, Finding, Observer, Report};
use engine::{Batch, Direction, Engine, KeySpan, MemoryEngine, Scan, Snapshot};
use layout::KeySpace;
use layout::map::PartitionMap;
use model::{DeleteOp, Key, KeyRange, LeaseId, LeaseTtl, Op, PutLease, PutOp, PutValue, Revision, Txn};
use partition::{Settings, Store, World};

/// A backstop, in case that something waits for ever: nothing here takes time.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn space() -> KeySpace {
    KeySpace::new("blue/").unwrap()
}

pub fn key(text: &str) -> Key {
    Key::new(text.to_owned()).unwrap()
}

/// A process with a store.
pub struct Machine {
    pub engine: Arc<MemoryEngine>,
    pub store: Store,
    supervisor: Supervisor,
}

impl Machine {
    pub async fn start(engine: Arc<MemoryEngine>) -> Machine {
        Machine::founded(engine, &[]).await
    }

    /// A new store is split before these keys.
    pub async fn founded(engine: Arc<MemoryEngine>, splits: &[&str]) -> Machine {
        let supervisor = Supervisor::new(Shutdown::new());
        let world = World {
            engine: engine.clone(),
            clock: Arc::new(ManualClock::default()),
            random: Arc::new(SeededRandom::new(1)),
            supervisor: supervisor.clone(),
        };
        let store = {
            let splits: Vec<_> = splits.iter().map(|split| key(split)).collect();
            let partitions = PartitionMap::split_at(&splits).unwrap();
            Store::open(world, Settings { partitions, ..Settings::new(space()) }).await.unwrap()
        };
        Machine { engine, store, supervisor }
    }

    pub async fn restart(self) -> Machine {
        let engine = self.engine.clone();
        self.stop().await;
        Machine::start(engine).await
    }

    pub async fn stop(self) {
        drop(self.store);
        self.supervisor.shutdown().begin();
        assert!(self.supervisor.drain(PATIENCE).await, "the tasks of a store end with its handles");
    }

    /// One transaction.
    pub async fn txn(&self, ops: Vec<Op>) {
        let mut txn = Txn::only(put_op("unused", "", LeaseId::NONE));
        txn.success = ops;
        self.store.keys.txn(txn).await.unwrap();
    }

    pub async fn put(&self, key: &str, value: &str, lease: LeaseId) {
        self.txn(vec![put_op(key, value, lease)]).await;
    }

    pub async fn delete(&self, key: &str) {
        self.txn(vec![delete_op(key)]).await;
    }

    pub async fn grant(&self, lease: i64) -> LeaseId {
        let ttl = LeaseTtl::clamped(60, 1).unwrap();
        self.store.system.grant(LeaseId(lease), ttl).await.unwrap();
        LeaseId(lease)
    }

    /// Compacts, and waits until what that frees is gone.
    pub async fn compact(&self, revision: Revision) {
        self.store.system.compact(revision).await.unwrap();
        self.store.keys.reclaimed(revision).await;
    }

    pub async fn records(&self) -> Records {
        Records::of(self.engine.as_ref()).await
    }
}

pub fn put_op(name: &str, value: &str, lease: LeaseId) -> Op {
    Op::Put(PutOp {
        key: key(name),
        value: PutValue::Set(Bytes::copy_from_slice(value.as_bytes())),
        lease: PutLease::Set(lease),
        return_previous: false,
    })
}

pub fn delete_op(name: &str) -> Op {
    Op::Delete(DeleteOp { range: KeyRange::single(&key(name)), return_previous: false })
}

/// Everything in an engine.
#[derive(Clone, Debug)]
pub struct Records(pub BTreeMap<Bytes, Bytes>);

impl Records {
    pub async fn of(engine: &dyn Engine) -> Records {
        let snapshot = engine.snapshot().await.unwrap();
        let mut rest = Some(KeySpan { start: Bytes::new(), end: None });
        let mut records = BTreeMap::new();
        while let Some(span) = rest {
            let scan = Scan {
                span,
                direction: Direction::Forward,
                records_max: 1000,
                bytes_max: usize::MAX,
                values: true,
            };
            let page = snapshot.scan(&scan).await.unwrap();
            records.extend(page.records);
            rest = page.next;
        }
        Records(records)
    }

    /// A check of these records.
    pub async fn check(&self) -> (Result<Report, CheckFailure>, Vec<Finding>) {
        let engine = MemoryEngine::new();
        let mut batch = Batch::new();
        for (key, value) in &self.0 {
            batch.put(key.clone(), value.clone());
        }
        engine.commit(batch).await.unwrap();
        check_in(engine.snapshot().await.unwrap().as_ref()).await
    }

    /// What is wrong with these records, in one line each.
    pub async fn problems(&self) -> Vec<String> {
        let (report, findings) = self.check().await;
        assert_eq!(report.unwrap().problems, findings.len() as u64, "each problem is told once");
        findings.iter().map(line).collect()
    }
}

/// A check of what an engine shows.
pub async fn check_in(snapshot: &dyn Snapshot) -> (Result<Report, CheckFailure>, Vec<Finding>) {
    let mut told = Told::default();
    let report = check::check(snapshot, &space(), &mut told).await;
    (report, told.0)
}

fn line(finding: &Finding) -> String {
    let revision = finding.revision.map_or_else(String::new, |revision| format!(" @{revision}"));
    let key = finding.key.as_ref().map_or_else(String::new, |key| format!(" {}", key.escape_ascii()));
    format!("{}{key}{revision}: {}", finding.problem.name(), finding.text)
}

#[derive(Default)]
struct Told(Vec<Finding>);

impl Observer for Told {
    fn found(&mut self, finding: &Finding) {
        self.0.push(finding.clone());
    }
}
