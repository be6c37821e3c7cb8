//! Clients that write: transactions of every shape that Kubernetes uses, and some more.

use bytes::Bytes;
use model::{
    Compare, CompareOperator, CompareTarget, DeleteOp, Key, KeyRange, LeaseId, Op, PutLease, PutOp, PutValue,
    RangeOp, Txn,
};
use partition::{TxnFailure, TxnOutcome};

use super::{Answered, Client};
use crate::evaluate::{answer_of, evaluate};
use crate::process::Process;

/// Now and then a value has this many bytes more, so that history does not fit into little memory.
const LONG_VALUE_BYTES: usize = 900;

/// A transaction, and how to find out whether it happened.
struct Attempt {
    txn: Txn,
    /// The values that it may put, which nobody else does.
    tokens: Vec<Bytes>,
    /// The leases that it may put keys on.
    leases: Vec<LeaseId>,
    /// All of these were live when it was made.
    leases_live: bool,
}

impl Client {
    pub(super) async fn write(&self, number: u64) {
        let Attempt { txn, tokens, leases, leases_live } = self.attempt(number);
        let asked = txn.clone();
        let write = |process: Process| async move { process.store.keys.txn(asked).await };
        let done = self.change_at_owner(&txn, write).await;
        let Ok(Answered { answer, floor, .. }) = done else {
            self.world.tell(|| format!("client {} hears nothing of {tokens:?}", self.number));
            return;
        };
        match answer {
            Ok(outcome) => self.check_outcome(&txn, &outcome, floor),
            Err(TxnFailure::Undetermined(reason)) => {
                self.world.tell(|| format!("client {} hears maybe of {tokens:?}: {reason}", self.number));
            }
            Err(failure) => {
                self.world.tell(|| format!("client {} hears no of {tokens:?}: {failure}", self.number));
                tokens.iter().for_each(|token| self.oracle.never(token));
                self.check_failure(&failure, &leases, leases_live);
            }
        }
    }

    fn attempt(&self, number: u64) -> Attempt {
        let mut attempt =
            Attempt { txn: Txn::default(), tokens: Vec::new(), leases: Vec::new(), leases_live: true };
        let key = self.key();
        match self.world.below(8) {
            0..3 => {
                let put = self.put_op(&key, number, &mut attempt);
                attempt.txn.success.push(put);
            }
            3 => attempt.txn.success.push(self.delete_op(KeyRange::single(&key))),
            4 => attempt.txn.success.push(self.delete_op(self.range())),
            5 => {
                // Kubernetes' create, update and delete.
                attempt.txn.compares.push(self.compare(&key));
                let op = match self.world.below(3) {
                    0 => self.delete_op(KeyRange::single(&key)),
                    _ => self.put_op(&key, number, &mut attempt),
                };
                attempt.txn.success.push(op);
                attempt.txn.failure.push(Op::Range(RangeOp::of(KeyRange::single(&key))));
            }
            _ => self.several(number, &mut attempt),
        }
        attempt
    }

    /// Several operations on keys of their own, in both branches.
    fn several(&self, number: u64, attempt: &mut Attempt) {
        for _ in 0..self.world.below(3) {
            let compare = self.compare(&self.key());
            attempt.txn.compares.push(compare);
        }
        for succeeded in [true, false] {
            let mut ops = Vec::new();
            for at in 0..self.plan.keys.len() {
                let Ok(key) = Key::new(Bytes::from_static(self.plan.keys[at])) else { continue };
                match self.world.below(8) {
                    0 => ops.push(self.put_op(&key, number, attempt)),
                    1 => ops.push(self.delete_op(KeyRange::single(&key))),
                    2 => ops.push(Op::Range(RangeOp {
                        limit: self.world.below(4) as usize,
                        ..RangeOp::of(self.range())
                    })),
                    _ => {}
                }
            }
            match succeeded {
                true => attempt.txn.success = ops,
                false => attempt.txn.failure = ops,
            }
        }
    }

    fn put_op(&self, key: &Key, number: u64, attempt: &mut Attempt) -> Op {
        let mut value = format!("{}-{number}-{}", self.number, attempt.tokens.len());
        if self.world.chance(200) {
            value.extend(std::iter::repeat_n('.', LONG_VALUE_BYTES));
        }
        let token = Bytes::from(value);
        attempt.tokens.push(token.clone());
        let mut lease = LeaseId::NONE;
        let leases = self.leases.lock();
        if !leases.is_empty() && self.world.chance(300) {
            lease = *self.world.pick(&leases);
            attempt.leases_live &= self.oracle.known().leases.get(&lease) == Some(&false);
            attempt.leases.push(lease);
        }
        Op::Put(PutOp {
            key: key.clone(),
            value: PutValue::Set(token),
            lease: PutLease::Set(lease),
            return_previous: self.world.chance(500),
        })
    }

    fn delete_op(&self, range: KeyRange) -> Op {
        Op::Delete(DeleteOp { range, return_previous: self.world.chance(500) })
    }

    /// A condition that often holds: on what the key is now.
    fn compare(&self, key: &Key) -> Compare {
        let known = self.oracle.known();
        let newest = known.history.newest();
        let version = newest.get(key.as_slice());
        let number = |of: Option<i64>| if self.world.chance(800) { of.unwrap_or(0) } else { 1 };
        let target = match self.world.below(5) {
            0..2 => CompareTarget::ModRevision(number(version.map(|version| version.modified))),
            2 => CompareTarget::Version(number(version.map(|version| version.version))),
            3 => CompareTarget::CreateRevision(number(version.map(|version| version.create))),
            _ => CompareTarget::Value(version.map_or_else(Bytes::new, |version| version.value.clone())),
        };
        let operator = match self.world.below(6) {
            0 => CompareOperator::Greater,
            1 => CompareOperator::NotEqual,
            _ => CompareOperator::Equal,
        };
        Compare { range: KeyRange::single(key), operator, target }
    }

    /// A transaction was answered: it must be what happened at its revision, or what it saw must be the state there.
    fn check_outcome(&self, txn: &Txn, outcome: &TxnOutcome, floor: i64) {
        let revision = outcome.revision.get();
        let answer = match answer_of(&outcome.branch) {
            Ok(answer) => answer,
            Err(damage) => return self.world.violated(damage),
        };
        let known = self.oracle.known();
        // What other partitions have on its way is of other keys.
        let newest = known.history.revision();
        let (before, at) = (known.history.at(revision - 1), known.history.at(revision.min(newest)));
        let (Some(before), Some(at)) = (before, at) else {
            drop(known);
            return self.world.violated(format!("revision {revision} was told, and nothing is there"));
        };
        let (expected, mut events) = evaluate(&before, revision, txn);
        // Of one revision, events come partition by partition.
        events.sort_by_key(|event| self.plan.partitions.position(&event.key));
        let is_this = !events.is_empty() && events == known.history.of(revision) && expected == answer;
        drop(known);
        if is_this {
            self.world.check(revision > floor, || {
                format!("a write got revision {revision} after {floor} had been told")
            });
            self.world.tell(|| format!("client {} wrote revision {revision}", self.number));
            return self.oracle.claim(revision);
        }
        let (observed, events) = evaluate(&at, revision + 1, txn);
        self.world.check(events.is_empty() && observed == answer, || {
            format!("{txn:?} was answered {answer:?} at {revision}; as a write: {expected:?}, as a look: {observed:?}")
        });
        self.world.check(revision >= floor, || {
            format!("a transaction saw revision {revision} after {floor} had been told")
        });
        let mut known = self.oracle.known();
        known.told = known.told.max(revision);
        self.world.tell(|| format!("client {} saw revision {revision}", self.number));
    }

    fn check_failure(&self, failure: &TxnFailure, leases: &[LeaseId], were_live: bool) {
        let weather = self.plan.weather;
        match failure {
            TxnFailure::LeaseNotFound => {
                let known = self.oracle.known();
                let live = leases.iter().all(|lease| known.leases.get(lease) == Some(&false));
                drop(known);
                self.world.check(!(were_live && live), || {
                    format!("one of the live leases {leases:?} was told not to exist")
                });
            }
            TxnFailure::NoSpace(_) => {
                self.world.check(weather.no_space > 0, || "there is space".to_owned());
            }
            TxnFailure::KeyNotFound => self.world.violated("no put keeps anything"),
            TxnFailure::Read(_)
            | TxnFailure::Elsewhere
            | TxnFailure::Unavailable(_)
            | TxnFailure::Undetermined(_) => {}
        }
    }
}
