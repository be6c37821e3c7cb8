//! A store as etcd's documentation has it: every state that there was, and each rule written out.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use model::{
    Compare, CompareTarget, KeyRange, LeaseId, Op, PutLease, PutOp, PutValue, RangeOp, ReadRevision,
    SortOrder, SortTarget, Txn,
};
use proto::mvccpb::KeyValue;

/// The keys that exist.
pub(crate) type State = BTreeMap<Bytes, KeyValue>;

/// What an operation answers; the first number is the revision in its header.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    Range(i64, Ranged),
    Put(i64, Option<KeyValue>),
    Delete(i64, usize, Vec<KeyValue>),
    Txn(bool, Vec<Answer>),
}

/// What a range answers.
#[derive(Debug, PartialEq)]
pub(crate) struct Ranged {
    pub(crate) kvs: Vec<KeyValue>,
    pub(crate) more: bool,
    pub(crate) count: usize,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    KeyNotFound,
    LeaseNotFound,
    LeaseExists,
    Compacted,
    FutureRevision,
}

/// Everything that a store has gone through. The state at revision `r` is `states[r]`.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) states: Vec<State>,
    pub(crate) compacted: Option<i64>,
    pub(crate) leases: BTreeSet<LeaseId>,
}

impl Default for Model {
    fn default() -> Model {
        // An empty store is at revision 1.
        Model { states: vec![State::new(); 2], compacted: None, leases: BTreeSet::new() }
    }
}

/// A transaction that runs: the state that it changes, and whether it has changed anything.
struct Running<'m> {
    before: &'m Model,
    state: State,
    changed: bool,
}

impl Model {
    pub(crate) fn revision(&self) -> i64 {
        self.states.len() as i64 - 1
    }

    pub(crate) fn newest(&self) -> &State {
        self.states.last().expect("there is a first state")
    }

    /// The lowest revision that can be read.
    pub(crate) fn floor(&self) -> i64 {
        self.compacted.unwrap_or(1).max(1)
    }

    /// Runs a transaction; the answer begins with its revision.
    pub(crate) fn txn(&mut self, txn: &Txn) -> Result<(i64, bool, Vec<Answer>), Refusal> {
        self.check(txn)?;
        let mut running = Running { before: self, state: self.newest().clone(), changed: false };
        let (succeeded, answers) = running.branch(txn);
        let Running { state, changed, .. } = running;
        if changed {
            self.states.push(state);
        }
        Ok((self.revision(), succeeded, answers))
    }

    /// A read on its own.
    pub(crate) fn range(&self, op: &RangeOp) -> Result<Ranged, Refusal> {
        self.check_read(op.revision)?;
        Ok(match op.revision {
            ReadRevision::Latest => ranged(self.newest(), op),
            ReadRevision::At(revision) => ranged(&self.states[revision.get() as usize], op),
        })
    }

    pub(crate) fn compact(&mut self, revision: i64) -> Result<(), Refusal> {
        if self.compacted.is_some_and(|compacted| revision <= compacted) {
            return Err(Refusal::Compacted);
        }
        if revision > self.revision() {
            return Err(Refusal::FutureRevision);
        }
        self.compacted = Some(revision);
        Ok(())
    }

    /// Deletes the first `count` keys of a lease at one revision; how many were deleted and how many are left.
    pub(crate) fn delete_attached(&mut self, lease: LeaseId, count: usize) -> (usize, usize) {
        let keys: Vec<Bytes> = self.attached(lease);
        let mut state = self.newest().clone();
        for key in keys.iter().take(count) {
            state.remove(key);
        }
        let deleted = keys.len().min(count);
        if deleted > 0 {
            self.states.push(state);
        }
        (deleted, keys.len() - deleted)
    }

    /// The keys that hang on a lease.
    pub(crate) fn attached(&self, lease: LeaseId) -> Vec<Bytes> {
        self.newest().values().filter(|kv| kv.lease == lease.0).map(|kv| kv.key.clone()).collect()
    }

    /// Every condition, nested or not, looks at the state before the transaction.
    fn chosen<'t>(&self, txn: &'t Txn) -> (bool, &'t [Op]) {
        let succeeded = txn.compares.iter().all(|compare| holds(compare, self.newest()));
        (succeeded, if succeeded { &txn.success } else { &txn.failure })
    }

    fn check(&self, txn: &Txn) -> Result<(), Refusal> {
        for op in self.chosen(txn).1 {
            match op {
                Op::Range(range) => self.check_read(range.revision)?,
                Op::Put(put) => self.check_put(put)?,
                Op::Delete(_) => {}
                Op::Txn(nested) => self.check(nested)?,
            }
        }
        Ok(())
    }

    fn check_read(&self, revision: ReadRevision) -> Result<(), Refusal> {
        match revision {
            ReadRevision::At(revision) if revision.get() > self.revision() => Err(Refusal::FutureRevision),
            ReadRevision::At(revision) if revision.get() < self.floor() => Err(Refusal::Compacted),
            _ => Ok(()),
        }
    }

    fn check_put(&self, put: &PutOp) -> Result<(), Refusal> {
        if let PutLease::Set(lease) = put.lease
            && !lease.is_none()
            && !self.leases.contains(&lease)
        {
            return Err(Refusal::LeaseNotFound);
        }
        let keeps = put.lease == PutLease::Keep || put.value == PutValue::Keep;
        if keeps && !self.newest().contains_key(put.key.bytes()) { Err(Refusal::KeyNotFound) } else { Ok(()) }
    }
}

impl Running<'_> {
    fn revision(&self) -> i64 {
        self.before.revision() + i64::from(self.changed)
    }

    fn branch(&mut self, txn: &Txn) -> (bool, Vec<Answer>) {
        let (succeeded, ops) = self.before.chosen(txn);
        (succeeded, ops.iter().map(|op| self.op(op)).collect())
    }

    fn op(&mut self, op: &Op) -> Answer {
        match op {
            Op::Range(range) => {
                let state = match range.revision {
                    ReadRevision::At(revision) if revision.get() != self.revision() => {
                        &self.before.states[revision.get() as usize]
                    }
                    _ => &self.state,
                };
                Answer::Range(self.revision(), ranged(state, range))
            }
            Op::Put(put) => {
                let previous = self.put(put);
                Answer::Put(self.revision(), previous.filter(|_| put.return_previous))
            }
            Op::Delete(delete) => {
                let deleted = in_range(&self.state, &delete.range);
                self.changed |= !deleted.is_empty();
                self.state.retain(|key, _| !delete.range.contains(key));
                let count = deleted.len();
                let previous = if delete.return_previous { deleted } else { Vec::new() };
                Answer::Delete(self.revision(), count, previous)
            }
            Op::Txn(nested) => {
                let (succeeded, answers) = self.branch(nested);
                Answer::Txn(succeeded, answers)
            }
        }
    }

    fn put(&mut self, put: &PutOp) -> Option<KeyValue> {
        self.changed = true;
        let revision = self.revision();
        let previous = self.state.get(put.key.bytes()).cloned();
        let kept = previous.clone().unwrap_or_default();
        let kv = KeyValue {
            key: put.key.bytes().clone(),
            create_revision: if previous.is_some() { kept.create_revision } else { revision },
            mod_revision: revision,
            version: kept.version + 1,
            value: match &put.value {
                PutValue::Set(value) => value.clone(),
                PutValue::Keep => kept.value,
            },
            lease: match put.lease {
                PutLease::Set(lease) => lease.0,
                PutLease::Keep => kept.lease,
            },
        };
        self.state.insert(kv.key.clone(), kv);
        previous
    }
}

fn in_range(state: &State, range: &KeyRange) -> Vec<KeyValue> {
    state.values().filter(|kv| range.contains(&kv.key)).cloned().collect()
}

/// A key that does not exist has all facts zero, and no value that could be compared.
fn holds(compare: &Compare, state: &State) -> bool {
    let found = in_range(state, &compare.range);
    if found.is_empty() {
        return !matches!(compare.target, CompareTarget::Value(_))
            && satisfies(compare, &KeyValue::default());
    }
    found.iter().all(|kv| satisfies(compare, kv))
}

fn satisfies(compare: &Compare, kv: &KeyValue) -> bool {
    compare.operator.accepts(match &compare.target {
        CompareTarget::Version(given) => kv.version.cmp(given),
        CompareTarget::CreateRevision(given) => kv.create_revision.cmp(given),
        CompareTarget::ModRevision(given) => kv.mod_revision.cmp(given),
        CompareTarget::Lease(given) => kv.lease.cmp(given),
        CompareTarget::Value(given) => kv.value.cmp(given),
    })
}

/// etcd's `executeRange`, step by step.
fn ranged(state: &State, op: &RangeOp) -> Ranged {
    let mut kvs = in_range(state, &op.range);
    let count = kvs.len();
    if op.count_only {
        return Ranged { kvs: Vec::new(), more: false, count };
    }
    let filter = op.filter;
    let is_filtered = filter != Default::default();
    let in_key_order =
        op.order == SortOrder::None || (op.target == SortTarget::Key && op.order == SortOrder::Ascend);
    if op.limit > 0 && in_key_order && !is_filtered {
        kvs.truncate(op.limit.saturating_add(1));
    }
    let within = |number: i64, min: i64, max: i64| number >= min && (max == 0 || number <= max);
    kvs.retain(|kv| {
        within(kv.mod_revision, filter.mod_revision_min.get(), filter.mod_revision_max.get())
            && within(kv.create_revision, filter.create_revision_min.get(), filter.create_revision_max.get())
    });
    kvs.sort_by(|one, other| {
        let ordering = match op.target {
            SortTarget::Key => one.key.cmp(&other.key),
            SortTarget::Version => one.version.cmp(&other.version),
            SortTarget::Create => one.create_revision.cmp(&other.create_revision),
            SortTarget::Mod => one.mod_revision.cmp(&other.mod_revision),
            SortTarget::Value => one.value.cmp(&other.value),
        };
        if op.order == SortOrder::Descend { ordering.reverse() } else { ordering }
    });
    let more = op.limit > 0 && kvs.len() > op.limit;
    if more {
        kvs.truncate(op.limit);
    }
    if op.keys_only {
        for kv in &mut kvs {
            kv.value = Bytes::new();
            // The fast path of etcd 3.7 answers from its index, which knows no leases.
            if op.target != SortTarget::Value {
                kv.lease = 0;
            }
        }
    }
    Ranged { kvs, more, count }
}
