//! A store in memory against a plain model: any sequence of requests, compactions, leases and restarts is answered alike,
//! and every state and event that is not compacted is told as it was.

use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use base::{SeededRandom, Shutdown, Supervisor};
use bytes::Bytes;
use engine::MemoryEngine;
use layout::KeySpace;
use model::{KeyRange, LeaseId, LeaseTtl, RangeOp, ReadRevision, Revision};
use partition::{
    BranchOutcome, OpOutcome, RangeOutcome, ReadFailure, Settings, Store, SystemFailure, TxnFailure, World,
};
use prost::Message;
use proto::mvccpb::KeyValue;
use server::fuzzing as convert;

use crate::clock::EagerClock;
use crate::directory::block_on;
use crate::model::{Answer, Model, Ranged, Refusal};
use crate::store_input::Step;

/// Longer lives show nothing that shorter ones do not, and are slow.
const STEPS_MAX: usize = 40;
/// A backstop: the tasks of a store end when nobody can speak to it any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes a store and the model through the steps of the input.
pub fn check(input: &[u8]) {
    let Some((&settings, rest)) = input.split_first() else { return };
    block_on(async {
        let mut input = Unstructured::new(rest);
        let mut life = Life::begin(settings).await;
        for _ in 0..STEPS_MAX {
            if input.is_empty() {
                break;
            }
            let Ok(step) = Step::arbitrary(&mut input) else { break };
            life.step(step).await;
        }
        life.check_past().await;
        life.end().await;
    });
}

struct Life {
    engine: Arc<MemoryEngine>,
    settings: Settings,
    supervisor: Supervisor,
    store: Store,
    model: Model,
}

impl Life {
    /// A store with memory for everything, or for next to nothing.
    async fn begin(settings: u8) -> Life {
        let space = KeySpace::new("").expect("an empty prefix is allowed");
        let all = Settings::new(space);
        let settings = match settings % 3 {
            0 => all,
            1 => Settings { history_bytes_max: 300, cache_bytes_max: 300, ..all },
            _ => Settings { history_bytes_max: 0, cache_bytes_max: 0, ..all },
        };
        let engine = Arc::new(MemoryEngine::new());
        let (supervisor, store) = open(&engine, &settings).await;
        Life { engine, settings, supervisor, store, model: Model::default() }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Txn(request) => {
                // What is refused before it runs is the business of another target.
                let Ok(txn) = convert::txn(request, convert::TXN_OPS_MAX_DEFAULT) else { return };
                let answered = self.store.keys.txn(txn.clone()).await;
                let answered = answered.map(|outcome| (outcome.revision.get(), outcome.branch));
                let expected = self.model.txn(&txn);
                let answered = answered.map_err(refusal).map(|(revision, branch)| {
                    let (succeeded, answers) = answers(branch);
                    (revision, succeeded, answers)
                });
                assert_eq!(answered, expected, "{txn:?}");
            }
            Step::Range(request) => {
                let Ok(op) = convert::range(request) else { return };
                let expected = self.model.range(&op);
                assert_eq!(self.range(&op).await, expected, "{op:?}");
            }
            Step::Compact(revision) => {
                let revision = Revision::new(revision.max(0));
                let answered = self.store.system.compact(revision).await;
                let expected = self.model.compact(revision.get());
                assert_eq!(answered.map_err(system_refusal), expected);
                if expected.is_ok() {
                    self.store.keys.reclaimed(revision).await;
                }
            }
            Step::Grant(lease) => {
                let (lease, ttl) =
                    (LeaseId(lease), LeaseTtl::clamped(60, 1).expect("a minute is no long time"));
                let expected =
                    if self.model.leases.insert(lease) { Ok(()) } else { Err(Refusal::LeaseExists) };
                assert_eq!(self.store.system.grant(lease, ttl).await.map_err(system_refusal), expected);
            }
            Step::Revoke(lease) => self.revoke(LeaseId(lease)).await,
            Step::Restart => {
                let (supervisor, store) = open(&self.engine, &self.settings).await;
                let old = std::mem::replace(&mut self.supervisor, supervisor);
                self.store = store;
                stop(&old).await;
            }
        }
        assert_eq!(self.store.keys.revision().get(), self.model.revision());
        assert_eq!(self.store.keys.key_count(), self.model.newest().len());
    }

    /// Ends a lease as the server does: its keys first, a few at a time.
    async fn revoke(&mut self, lease: LeaseId) {
        let begun = self.store.system.begin_revoke(lease).await.map_err(system_refusal);
        let expected = if self.model.leases.remove(&lease) { Ok(()) } else { Err(Refusal::LeaseNotFound) };
        assert_eq!(begun, expected);
        if begun.is_err() {
            return;
        }
        assert_eq!(self.store.keys.attached(lease), self.model.attached(lease));
        loop {
            let gone = self.store.keys.delete_attached(lease, 2).await.expect("the engine takes everything");
            assert_eq!((gone.deleted, gone.left), self.model.delete_attached(lease, 2));
            if gone.left == 0 {
                break;
            }
        }
        self.store.system.finish_revoke(lease).await.expect("a revocation that was begun can be finished");
    }

    async fn range(&self, op: &RangeOp) -> Result<Ranged, Refusal> {
        let view = self.store.keys.view(op.revision).await.map_err(|it| refusal(it.into()))?;
        let outcome = view.range(op).await.map_err(|it| refusal(it.into()))?;
        Ok(ranged(outcome))
    }

    /// Compares every state, and every event, that can still be told.
    async fn check_past(&self) {
        let (floor, newest) = (self.model.floor(), self.model.revision());
        for revision in floor..=newest {
            let op = RangeOp {
                revision: ReadRevision::At(Revision::new(revision)),
                ..RangeOp::of(KeyRange::all())
            };
            assert_eq!(self.range(&op).await, self.model.range(&op), "the state at {revision}");
        }
        let mut told = Vec::new();
        let mut next = Revision::new(floor + 1);
        while next.get() <= newest {
            let page = self.store.keys.events(next, &KeyRange::all()).await.expect("it is not compacted");
            for event in &page.events {
                let previous = self.store.keys.previous(event).await.expect("it is not compacted");
                told.push((
                    event.change.revision.get(),
                    decode(&event.key_value),
                    previous.map(|it| decode(&it)),
                ));
            }
            assert!(page.through >= next, "a step goes forward");
            next = page.through.next();
        }
        let changes = (floor + 1..=newest).flat_map(|revision| changes(&self.model, revision));
        // Within a revision in the order of the operations, which the states do not tell.
        told.sort_by(|one, other| (one.0, &one.1.key).cmp(&(other.0, &other.1.key)));
        assert_eq!(told, changes.collect::<Vec<_>>());
    }

    async fn end(self) {
        drop(self.store);
        stop(&self.supervisor).await;
    }
}

async fn open(engine: &Arc<MemoryEngine>, settings: &Settings) -> (Supervisor, Store) {
    let supervisor = Supervisor::new(Shutdown::new());
    let world = World {
        engine: engine.clone(),
        clock: Arc::new(EagerClock::default()),
        random: Arc::new(SeededRandom::new(1)),
        supervisor: supervisor.clone(),
    };
    let store = Store::open(world, settings.clone()).await.expect("what a store has written it can open");
    (supervisor, store)
}

async fn stop(supervisor: &Supervisor) {
    supervisor.shutdown().begin();
    assert!(supervisor.drain(PATIENCE).await, "the tasks of a store end with its handles");
}

/// What changed at a revision: the version that it left (of a deletion only key and revision), and the one before.
fn changes(model: &Model, revision: i64) -> Vec<(i64, KeyValue, Option<KeyValue>)> {
    let (before, after) = (&model.states[revision as usize - 1], &model.states[revision as usize]);
    let mut keys: Vec<&Bytes> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    let change = |key: &Bytes| match (before.get(key), after.get(key)) {
        (old, new) if old == new => None,
        (old, Some(new)) => Some((revision, new.clone(), old.cloned())),
        (old, None) => {
            let gone = KeyValue { key: key.clone(), mod_revision: revision, ..KeyValue::default() };
            Some((revision, gone, old.cloned()))
        }
    };
    keys.into_iter().filter_map(change).collect()
}

fn answers(branch: BranchOutcome) -> (bool, Vec<Answer>) {
    let answer = |op| match op {
        OpOutcome::Range { revision, outcome } => Answer::Range(revision.get(), ranged(outcome)),
        OpOutcome::Put { revision, previous } => Answer::Put(revision.get(), previous.map(|it| decode(&it))),
        OpOutcome::Delete { revision, deleted, previous } => {
            Answer::Delete(revision.get(), deleted, previous.iter().map(decode).collect())
        }
        OpOutcome::Txn(nested) => {
            let (succeeded, answers) = answers(nested);
            Answer::Txn(succeeded, answers)
        }
    };
    (branch.succeeded, branch.ops.into_iter().map(answer).collect())
}

fn ranged(outcome: RangeOutcome) -> Ranged {
    Ranged { kvs: outcome.versions.iter().map(decode).collect(), more: outcome.more, count: outcome.count }
}

fn decode(key_value: &Bytes) -> KeyValue {
    KeyValue::decode(key_value.clone()).expect("what a store answers can be read")
}

fn refusal(failure: TxnFailure) -> Refusal {
    match failure {
        TxnFailure::KeyNotFound => Refusal::KeyNotFound,
        TxnFailure::LeaseNotFound => Refusal::LeaseNotFound,
        TxnFailure::Read(ReadFailure::Compacted(_)) => Refusal::Compacted,
        TxnFailure::Read(ReadFailure::FutureRevision) => Refusal::FutureRevision,
        other => unreachable!("{other}"),
    }
}

fn system_refusal(failure: SystemFailure) -> Refusal {
    match failure {
        SystemFailure::LeaseExists => Refusal::LeaseExists,
        SystemFailure::LeaseNotFound => Refusal::LeaseNotFound,
        SystemFailure::Compacted(_) => Refusal::Compacted,
        SystemFailure::FutureRevision => Refusal::FutureRevision,
        other => unreachable!("{other}"),
    }
}
