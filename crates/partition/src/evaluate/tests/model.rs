use std::collections::BTreeMap;

use bytes::Bytes;
use model::{
    Compare, CompareTarget, Key, KeyMeta, KeyRange, LeaseId, Op, PutLease, PutOp, PutValue, RangeOp,
    ReadRevision, Revision, SortOrder, SortTarget, Txn,
};

use super::{COMPACTED, Leases, TwoLeases};

/// A key with all that clients see of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyValue {
    pub(super) key: Bytes,
    pub(super) create: Revision,
    pub(super) modified: Revision,
    pub(super) version: i64,
    pub(super) value: Bytes,
    pub(super) lease: LeaseId,
}

/// What etcd answers to an operation: its revision first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ModelOp {
    Range(Revision, ModelRange),
    Put(Revision, Option<KeyValue>),
    Delete(Revision, usize, Vec<KeyValue>),
    Txn(bool, Vec<ModelOp>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ModelRange {
    /// The keys, whether there are more, and the count.
    Found(Vec<KeyValue>, bool, usize),
    /// A state before the transaction, which is read elsewhere.
    Older,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    KeyNotFound,
    LeaseNotFound,
    Compacted,
    FutureRevision,
}

/// The newest state of a store.
#[derive(Clone, Debug)]
pub(super) struct Etcd {
    pub(super) revision: Revision,
    keys: BTreeMap<Bytes, KeyValue>,
}

impl Default for Etcd {
    fn default() -> Etcd {
        Etcd { revision: Revision::FIRST, keys: BTreeMap::new() }
    }
}

/// A transaction while it runs: the state that it changes, and whether it has changed anything.
struct Running {
    state: Etcd,
    changed: bool,
}

impl Etcd {
    pub(super) fn metas(&self) -> BTreeMap<Bytes, KeyMeta> {
        let meta = |kv: &KeyValue| KeyMeta {
            create_revision: kv.create,
            mod_revision: kv.modified,
            version: kv.version,
            lease: kv.lease,
            value_len: kv.value.len() as u32,
        };
        self.keys.iter().map(|(key, kv)| (key.clone(), meta(kv))).collect()
    }

    pub(super) fn attached(&self, lease: LeaseId) -> Vec<&KeyValue> {
        self.keys.values().filter(|kv| kv.lease == lease).collect()
    }

    /// Deletes the keys that the subject chose, at one revision.
    pub(super) fn follow<'k>(&mut self, deleted: impl Iterator<Item = &'k Key>) {
        let before = self.keys.len();
        deleted.for_each(|key| drop(self.keys.remove(key.bytes())));
        if self.keys.len() != before {
            self.revision = self.revision.next();
        }
    }

    pub(super) fn txn(&mut self, txn: &Txn) -> Result<(bool, Vec<ModelOp>), Refusal> {
        self.check(txn)?;
        let mut running = Running { state: self.clone(), changed: false };
        let answer = running.branch(txn, self);
        if running.changed {
            running.state.revision = self.revision.next();
            *self = running.state;
        }
        Ok(answer)
    }

    /// Every compare, nested or not, looks at the state before the transaction.
    fn branch_of<'t>(&self, txn: &'t Txn) -> (bool, &'t [Op]) {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        (succeeded, if succeeded { &txn.success } else { &txn.failure })
    }

    fn check(&self, txn: &Txn) -> Result<(), Refusal> {
        for op in self.branch_of(txn).1 {
            match op {
                Op::Range(range) => self.check_revision(range.revision)?,
                Op::Put(put) => self.check_put(put)?,
                Op::Delete(_) => {}
                Op::Txn(nested) => self.check(nested)?,
            }
        }
        Ok(())
    }

    fn check_revision(&self, revision: ReadRevision) -> Result<(), Refusal> {
        let ReadRevision::At(revision) = revision else { return Ok(()) };
        let compacted = if self.revision >= COMPACTED { COMPACTED.get() } else { 1 };
        if revision > self.revision {
            return Err(Refusal::FutureRevision);
        }
        if revision.get() < compacted { Err(Refusal::Compacted) } else { Ok(()) }
    }

    fn check_put(&self, put: &PutOp) -> Result<(), Refusal> {
        if let PutLease::Set(lease) = put.lease
            && lease != LeaseId::NONE
            && !TwoLeases.is_attachable(lease)
        {
            return Err(Refusal::LeaseNotFound);
        }
        let keeps = put.lease == PutLease::Keep || put.value == PutValue::Keep;
        if keeps && !self.keys.contains_key(put.key.bytes()) { Err(Refusal::KeyNotFound) } else { Ok(()) }
    }

    fn in_range(&self, range: &KeyRange) -> Vec<KeyValue> {
        self.keys.values().filter(|kv| range.contains(&kv.key)).cloned().collect()
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found = self.in_range(&compare.range);
        if found.is_empty() {
            let nothing = KeyValue {
                key: Bytes::new(),
                create: Revision::NONE,
                modified: Revision::NONE,
                version: 0,
                value: Bytes::new(),
                lease: LeaseId::NONE,
            };
            return !matches!(compare.target, CompareTarget::Value(_)) && satisfies(compare, &nothing);
        }
        found.iter().all(|kv| satisfies(compare, kv))
    }
}

fn satisfies(compare: &Compare, kv: &KeyValue) -> bool {
    let ordering = match &compare.target {
        CompareTarget::Version(given) => kv.version.cmp(given),
        CompareTarget::CreateRevision(given) => kv.create.get().cmp(given),
        CompareTarget::ModRevision(given) => kv.modified.get().cmp(given),
        CompareTarget::Lease(given) => kv.lease.0.cmp(given),
        CompareTarget::Value(given) => kv.value.cmp(given),
    };
    compare.operator.accepts(ordering)
}

impl Running {
    fn revision(&self) -> Revision {
        if self.changed { self.state.revision.next() } else { self.state.revision }
    }

    fn branch(&mut self, txn: &Txn, before: &Etcd) -> (bool, Vec<ModelOp>) {
        let (succeeded, ops) = before.branch_of(txn);
        (succeeded, ops.iter().map(|op| self.op(op, before)).collect())
    }

    fn op(&mut self, op: &Op, before: &Etcd) -> ModelOp {
        match op {
            Op::Range(range) => {
                let current = match range.revision {
                    ReadRevision::Latest => true,
                    ReadRevision::At(revision) => revision == self.revision(),
                };
                let outcome = if current { self.range(range) } else { ModelRange::Older };
                ModelOp::Range(self.revision(), outcome)
            }
            Op::Put(put) => {
                let previous = self.put(put);
                ModelOp::Put(self.revision(), previous.filter(|_| put.return_previous))
            }
            Op::Delete(delete) => {
                let deleted = self.state.in_range(&delete.range);
                for kv in &deleted {
                    self.state.keys.remove(&kv.key);
                    self.changed = true;
                }
                let count = deleted.len();
                let previous = if delete.return_previous { deleted } else { Vec::new() };
                ModelOp::Delete(self.revision(), count, previous)
            }
            Op::Txn(nested) => {
                let (succeeded, ops) = self.branch(nested, before);
                ModelOp::Txn(succeeded, ops)
            }
        }
    }

    fn put(&mut self, put: &PutOp) -> Option<KeyValue> {
        let previous = self.state.keys.get(put.key.bytes()).cloned();
        self.changed = true;
        let kv = KeyValue {
            key: put.key.bytes().clone(),
            create: previous.as_ref().map_or(self.revision(), |kv| kv.create),
            modified: self.revision(),
            version: previous.as_ref().map_or(0, |kv| kv.version) + 1,
            value: match &put.value {
                PutValue::Set(value) => value.clone(),
                PutValue::Keep => previous.as_ref().unwrap().value.clone(),
            },
            lease: match put.lease {
                PutLease::Set(lease) => lease,
                PutLease::Keep => previous.as_ref().unwrap().lease,
            },
        };
        self.state.keys.insert(kv.key.clone(), kv);
        previous
    }

    /// `executeRange`, step by step.
    fn range(&self, op: &RangeOp) -> ModelRange {
        let mut found = self.state.in_range(&op.range);
        let count = found.len();
        if op.count_only {
            return ModelRange::Found(Vec::new(), false, count);
        }
        let filter = op.filter;
        let filtered = filter != Default::default();
        let default_order =
            op.order == SortOrder::None || (op.target == SortTarget::Key && op.order == SortOrder::Ascend);
        if op.limit > 0 && default_order && !filtered {
            found.truncate(op.limit + 1);
        }
        let keep_min = |bound: Revision, it: Revision| bound.is_none() || it >= bound;
        let keep_max = |bound: Revision, it: Revision| bound.is_none() || it <= bound;
        found.retain(|kv| {
            keep_max(filter.mod_revision_max, kv.modified)
                && keep_min(filter.mod_revision_min, kv.modified)
                && keep_max(filter.create_revision_max, kv.create)
                && keep_min(filter.create_revision_min, kv.create)
        });
        found.sort_by(|a, b| {
            let ordering = match op.target {
                SortTarget::Key => a.key.cmp(&b.key),
                SortTarget::Version => a.version.cmp(&b.version),
                SortTarget::Create => a.create.cmp(&b.create),
                SortTarget::Mod => a.modified.cmp(&b.modified),
                SortTarget::Value => a.value.cmp(&b.value),
            };
            if op.order == SortOrder::Descend { ordering.reverse() } else { ordering }
        });
        let more = op.limit > 0 && found.len() > op.limit;
        if more {
            found.truncate(op.limit);
        }
        if op.keys_only {
            for kv in &mut found {
                kv.value = Bytes::new();
                // The fast path of etcd 3.7 answers from its index, which knows no leases.
                if op.target != SortTarget::Value {
                    kv.lease = LeaseId::NONE;
                }
            }
        }
        ModelRange::Found(found, more, count)
    }
}
