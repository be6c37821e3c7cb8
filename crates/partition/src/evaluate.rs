//! What a transaction does to the newest state: pure, without waiting for anything.
//!
//! The rules are etcd's (`etcdserver/txn`): all compares, nested ones too, look at the state before the
//! transaction; then what the chosen branches ask for is checked; only then are the operations carried out, each
//! seeing what those before it changed. Nothing is changed when a check fails.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use bytes::Bytes;
use layout::KeySpace;
use layout::object::{key_value_of, value_of};
use model::{
    Change, ChangeKind, Compare, CompareTarget, DeleteOp, Key, KeyMeta, KeyRange, LeaseId, Op, PutLease,
    PutOp, PutValue, RangeOp, ReadRevision, Revision, Txn,
};

use crate::attachments::Attachments;
use crate::error::{ReadFailure, TxnFailure};
use crate::index::{Index, Replaced};
use crate::outcome::{BranchOutcome, Listing, OpOutcome, Unread};
use crate::values::Found;

/// Which leases a key may be put on.
pub(crate) trait Leases: Send + Sync {
    /// Whether `lease` exists and is not being revoked.
    fn is_attachable(&self, lease: LeaseId) -> bool;
}

/// The state that transactions are evaluated against: the newest, with what earlier transactions of the batch
/// changed.
pub(crate) struct Present<'a> {
    pub(crate) space: &'a KeySpace,
    pub(crate) index: &'a mut Index,
    pub(crate) leases: &'a dyn Leases,
    /// The encoded `KeyValue`s at hand, by the keys of their objects.
    pub(crate) values: &'a HashMap<Bytes, Bytes>,
    /// The revision of the newest state.
    pub(crate) revision: Revision,
    pub(crate) compacted: Option<Revision>,
}

/// A key's change by a transaction that is not durable yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) change: Change,
    pub(crate) object_key: Bytes,
    /// The sealed object record, of a put.
    pub(crate) object: Option<Bytes>,
    /// The lease that the key hung on before.
    pub(crate) lease_before: LeaseId,
    /// The revision of the key's last change before this one, be it a deletion; none where there is none in memory.
    pub(crate) follows: Revision,
}

/// What a transaction did.
#[derive(Debug)]
pub(crate) struct Evaluation {
    pub(crate) pending: Vec<Pending>,
    pub(crate) branch: BranchOutcome<Unread, Found>,
}

/// Why a transaction was not evaluated. Nothing is changed.
#[derive(Debug)]
pub(crate) enum NotEvaluated {
    /// It fails.
    Failed(TxnFailure),
    /// These versions must be among the values at hand first.
    Needs(Vec<Found>),
}

impl From<TxnFailure> for NotEvaluated {
    fn from(failure: TxnFailure) -> NotEvaluated {
        NotEvaluated::Failed(failure)
    }
}

/// The branches that the compares of a transaction, and of those nested in it, choose; outer before inner, in the
/// order of the operations.
type Path = std::vec::IntoIter<bool>;

/// Carries `txn` out on `present`. Its changes are in the index afterwards, to be kept or taken back.
pub(crate) fn evaluate(txn: &Txn, present: Present<'_>) -> Result<Evaluation, NotEvaluated> {
    let mut needs = Vec::new();
    let mut path = Vec::new();
    choose(txn, &present, &mut path, &mut needs);
    if !needs.is_empty() {
        return Err(NotEvaluated::Needs(needs));
    }
    check(txn, &present, &mut path.clone().into_iter(), &mut needs)?;
    if !needs.is_empty() {
        return Err(NotEvaluated::Needs(needs));
    }
    let revision = present.revision.next();
    let mut run = Run { present, revision, pending: Vec::new() };
    let branch = run.branch(txn, &mut path.into_iter());
    Ok(Evaluation { pending: run.pending, branch })
}

/// Deletes up to `count` of the keys in `range` that hang on `lease`, at one revision, and says how many are left then.
///
/// `attached` is how keys hang on leases in the published state, `pending` what changed since.
pub(crate) fn delete_attached(
    (lease, range, count): (LeaseId, &KeyRange, usize),
    present: Present<'_>,
    attached: &Attachments,
    pending: &[Pending],
) -> (Vec<Pending>, usize) {
    let still_hangs = |key: &Key| {
        range.contains(key.as_slice())
            && present.index.newest(key.as_slice()).is_some_and(|meta| meta.lease == lease)
    };
    let since = pending.iter().filter(|pending| {
        pending.lease_after() == lease
            && pending.lease_before != lease
            && !attached.has(lease, &pending.change.key)
    });
    // Once each, however often it was moved since.
    let since: BTreeSet<&Key> = since.map(|pending| &pending.change.key).collect();
    let candidates = attached.of(lease).chain(since);
    let keys: Vec<Key> = candidates.filter(|key| still_hangs(key)).take(count).cloned().collect();
    let hanging = pending.iter().fold(attached.count(lease, range), |hanging, pending| {
        hanging + usize::from(pending.lease_after() == lease) - usize::from(pending.lease_before == lease)
    });
    let left = hanging - keys.len();
    let revision = present.revision.next();
    let mut run = Run { present, revision, pending: Vec::new() };
    for key in keys {
        run.delete_key(key);
    }
    (run.pending, left)
}

/// Takes the changes of a batch that did not become durable back out of the index, newest first.
pub(crate) fn take_back(pending: &[Pending], index: &mut Index) {
    for pending in pending.iter().rev() {
        index.revert(&pending.change);
    }
}

fn lease_of(meta: Option<&KeyMeta>) -> LeaseId {
    meta.map_or(LeaseId::NONE, |meta| meta.lease)
}

fn branch_of(txn: &Txn, chosen: bool) -> &[Op] {
    if chosen { &txn.success } else { &txn.failure }
}

fn choose(txn: &Txn, present: &Present<'_>, path: &mut Vec<bool>, needs: &mut Vec<Found>) {
    let chosen = txn.compares.iter().all(|compare| holds(compare, present, needs));
    path.push(chosen);
    for op in branch_of(txn, chosen) {
        if let Op::Txn(nested) = op {
            choose(nested, present, path, needs);
        }
    }
}

/// Whether the compare holds. When values are missing for that, they are added to `needs` and the answer is void.
fn holds(compare: &Compare, present: &Present<'_>, needs: &mut Vec<Found>) -> bool {
    let mut keys = 0usize;
    let mut all = true;
    present.index.visit(&compare.range, Revision::MAX, |key, meta| {
        keys += 1;
        all = match &compare.target {
            CompareTarget::Value(expected) => match present.value(key, meta) {
                Ok(value) => compare.operator.accepts(value.as_ref().cmp(expected.as_ref())),
                Err(found) => {
                    needs.push(found);
                    true
                }
            },
            target => compare.operator.accepts(compare_fact(target, Some(&meta))),
        };
        if all { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    match &compare.target {
        _ if keys > 0 => all,
        CompareTarget::Value(_) => false,
        target => compare.operator.accepts(compare_fact(target, None)),
    }
}

/// How a key's fact lies to the one given; the facts of a key that does not exist are 0.
fn compare_fact(target: &CompareTarget, meta: Option<&KeyMeta>) -> std::cmp::Ordering {
    let (fact, given) = match *target {
        CompareTarget::Version(given) => (meta.map(|meta| meta.version), given),
        CompareTarget::CreateRevision(given) => (meta.map(|meta| meta.create_revision.get()), given),
        CompareTarget::ModRevision(given) => (meta.map(|meta| meta.mod_revision.get()), given),
        CompareTarget::Lease(given) => (meta.map(|meta| meta.lease.0), given),
        // Values are compared where they are at hand.
        CompareTarget::Value(_) => return std::cmp::Ordering::Equal,
    };
    fact.unwrap_or(0).cmp(&given)
}

fn check(
    txn: &Txn,
    present: &Present<'_>,
    path: &mut Path,
    needs: &mut Vec<Found>,
) -> Result<(), TxnFailure> {
    let chosen = path.next().unwrap_or(false);
    for op in branch_of(txn, chosen) {
        match op {
            Op::Range(range) => present.check_revision(range.revision)?,
            Op::Put(put) => check_put(put, present, needs)?,
            Op::Delete(_) => {}
            Op::Txn(nested) => check(nested, present, path, needs)?,
        }
    }
    Ok(())
}

fn check_put(put: &PutOp, present: &Present<'_>, needs: &mut Vec<Found>) -> Result<(), TxnFailure> {
    if let PutLease::Set(lease) = put.lease
        && !lease.is_none()
        && !present.leases.is_attachable(lease)
    {
        return Err(TxnFailure::LeaseNotFound);
    }
    let keeps_value = put.value == PutValue::Keep;
    if !keeps_value && put.lease != PutLease::Keep {
        return Ok(());
    }
    let key = put.key.as_slice();
    let Some(meta) = present.index.newest(key) else {
        return Err(TxnFailure::KeyNotFound);
    };
    if keeps_value && let Err(found) = present.value(key, meta) {
        needs.push(found);
    }
    Ok(())
}

impl Present<'_> {
    fn check_revision(&self, revision: ReadRevision) -> Result<(), ReadFailure> {
        let ReadRevision::At(revision) = revision else { return Ok(()) };
        if revision > self.revision {
            return Err(ReadFailure::FutureRevision);
        }
        // No revision at all stands for a negative one, which lies below every compaction.
        let compacted = self.compacted.unwrap_or(Revision::NONE);
        if revision.is_none() || revision < compacted {
            return Err(ReadFailure::Compacted(compacted));
        }
        Ok(())
    }

    fn found(&self, key: &[u8], meta: KeyMeta) -> Found {
        let object_key = self.space.object_key(key, meta.mod_revision);
        let key_value = self.values.get(&object_key).cloned();
        Found { object_key, meta, key_value }
    }

    /// The value of a version, if it is at hand.
    fn value(&self, key: &[u8], meta: KeyMeta) -> Result<Bytes, Found> {
        let found = self.found(key, meta);
        found.key_value.as_ref().and_then(|key_value| value_of(key_value).ok()).ok_or(found)
    }
}

/// A transaction while its operations are carried out.
struct Run<'a> {
    present: Present<'a>,
    /// The revision that it gets if it changes anything.
    revision: Revision,
    pending: Vec<Pending>,
}

impl Run<'_> {
    fn branch(&mut self, txn: &Txn, path: &mut Path) -> BranchOutcome<Unread, Found> {
        let succeeded = path.next().unwrap_or(false);
        let ops = branch_of(txn, succeeded).iter().map(|op| self.op(op, path)).collect();
        BranchOutcome { succeeded, ops }
    }

    fn op(&mut self, op: &Op, path: &mut Path) -> OpOutcome<Unread, Found> {
        match op {
            Op::Range(range) => self.range(range),
            Op::Put(put) => self.put(put),
            Op::Delete(delete) => self.delete(delete),
            Op::Txn(nested) => OpOutcome::Txn(self.branch(nested, path)),
        }
    }

    /// The revision of the state that the next operation sees.
    fn revision_so_far(&self) -> Revision {
        if self.pending.is_empty() { self.present.revision } else { self.revision }
    }

    fn range(&self, op: &RangeOp) -> OpOutcome<Unread, Found> {
        let listing = match op.revision {
            ReadRevision::Latest => self.list(op),
            ReadRevision::At(revision) if revision == self.revision_so_far() => self.list(op),
            ReadRevision::At(_) => Listing::Older,
        };
        OpOutcome::Range { revision: self.revision_so_far(), outcome: Unread { op: op.clone(), listing } }
    }

    fn list(&self, op: &RangeOp) -> Listing {
        let count = self.present.index.count(&op.range, Revision::MAX);
        let mut found = Vec::new();
        let versions_max = crate::range::versions_needed(op);
        if versions_max > 0 {
            self.present.index.visit(&op.range, Revision::MAX, |key, meta| {
                found.push(self.found_for(op, key, meta));
                if found.len() < versions_max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
        }
        Listing::Found { found, count }
    }

    fn found_for(&self, op: &RangeOp, key: &[u8], meta: KeyMeta) -> Found {
        if crate::range::wants_values(op) {
            return self.present.found(key, meta);
        }
        Found::key_only(key, meta)
    }

    fn put(&mut self, put: &PutOp) -> OpOutcome<Unread, Found> {
        let key = put.key.as_slice();
        let before = self.present.index.newest(key);
        let needs_before = put.return_previous || put.value == PutValue::Keep;
        let found_before = before.filter(|_| needs_before).map(|meta| self.present.found(key, meta));
        let value = match &put.value {
            PutValue::Set(value) => value.clone(),
            PutValue::Keep => {
                let key_value = found_before.as_ref().and_then(|found| found.key_value.as_ref());
                let value = key_value.and_then(|key_value| value_of(key_value).ok());
                value.expect("the check found the key, and its value at hand")
            }
        };
        let lease = match put.lease {
            PutLease::Set(lease) => lease,
            PutLease::Keep => lease_of(before.as_ref()),
        };
        let meta = KeyMeta {
            create_revision: before.map_or(self.revision, |meta| meta.create_revision),
            mod_revision: self.revision,
            version: before.map_or(1, |meta| meta.version + 1),
            lease,
            // The server bounds requests far below 4 GiB.
            value_len: u32::try_from(value.len()).unwrap_or(u32::MAX),
        };
        let object_key = self.present.space.object_key(key, self.revision);
        let object = self.present.space.encode_put(&object_key, key, &meta, &value);
        self.apply(put.key.clone(), ChangeKind::Put(meta), object_key, Some(object));
        let previous = found_before.filter(|_| put.return_previous);
        OpOutcome::Put { revision: self.revision, previous }
    }

    fn delete(&mut self, delete: &DeleteOp) -> OpOutcome<Unread, Found> {
        let doomed = self.versions_in(&delete.range);
        let mut previous = Vec::new();
        let deleted = doomed.len();
        for (key, meta) in doomed {
            if delete.return_previous {
                previous.push(self.present.found(key.as_slice(), meta));
            }
            self.delete_key(key);
        }
        OpOutcome::Delete { revision: self.revision_so_far(), deleted, previous }
    }

    fn versions_in(&self, range: &KeyRange) -> Vec<(Key, KeyMeta)> {
        let mut versions = Vec::new();
        self.present.index.visit(range, Revision::MAX, |key, meta| {
            if let Ok(key) = Key::new(Bytes::copy_from_slice(key)) {
                versions.push((key, meta));
            }
            ControlFlow::Continue(())
        });
        versions
    }

    fn delete_key(&mut self, key: Key) {
        let object_key = self.present.space.object_key(key.as_slice(), self.revision);
        self.apply(key, ChangeKind::Delete, object_key, None);
    }

    fn apply(&mut self, key: Key, kind: ChangeKind, object_key: Bytes, object: Option<Bytes>) {
        let mut change = Change { revision: self.revision, key, kind, previous: Revision::NONE };
        let Replaced { version, revision: follows } = self.present.index.apply(&change);
        change.previous = version.map_or(Revision::NONE, |meta| meta.mod_revision);
        let lease_before = lease_of(version.as_ref());
        self.pending.push(Pending { change, object_key, object, lease_before, follows });
    }
}

impl Pending {
    /// The lease that the key hangs on afterwards.
    pub(crate) fn lease_after(&self) -> LeaseId {
        match &self.change.kind {
            ChangeKind::Put(meta) => meta.lease,
            ChangeKind::Delete => LeaseId::NONE,
        }
    }

    /// The encoded `KeyValue` that its event shows.
    pub(crate) fn key_value(&self) -> Bytes {
        match &self.object {
            Some(object) => key_value_of(object),
            None => layout::object::encode_deleted(self.change.key.as_slice(), self.change.revision),
        }
    }
}

#[cfg(test)]
mod tests;
