//! What a transaction does to a state and answers, done the plain way: the second opinion on Orlop's evaluation.

use std::cmp::Ordering;

use bytes::Bytes;
use model::{Compare, CompareTarget, KeyRange, LeaseId, Op, PutLease, PutOp, PutValue, RangeOp, Txn};
use partition::{BranchOutcome, OpOutcome, RangeOutcome};

use crate::history::{Happened, KeyValue, State};

/// What a transaction answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) succeeded: bool,
    pub(crate) ops: Vec<OpAnswer>,
}

/// What one operation answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OpAnswer {
    Range { versions: Vec<KeyValue>, more: bool, count: usize },
    Put { previous: Option<KeyValue> },
    Delete { deleted: usize, previous: Vec<KeyValue> },
}

/// What `txn` answers on `state` and what it does to it at `revision`. Knows no nested transactions, no reads of older
/// revisions, no sorting and no filters: the simulation's clients ask for none.
pub(crate) fn evaluate(state: &State, revision: i64, txn: &Txn) -> (Answer, Vec<Happened>) {
    let succeeded = txn.compares.iter().all(|compare| holds(state, compare));
    let mut now = state.clone();
    let mut events = Vec::new();
    let branch = if succeeded { &txn.success } else { &txn.failure };
    let ops = branch.iter().filter_map(|op| match op {
        Op::Range(range) => Some(read(&now, range)),
        Op::Put(put) => {
            let (event, previous) = put_on(&mut now, revision, put);
            events.push(event);
            Some(OpAnswer::Put { previous: previous.filter(|_| put.return_previous) })
        }
        Op::Delete(delete) => {
            let doomed = in_range(&now, &delete.range);
            for version in &doomed {
                now.remove(&version.key);
                events.push(Happened {
                    key: version.key.clone(),
                    revision,
                    after: None,
                    before: Some(version.clone()),
                });
            }
            let deleted = doomed.len();
            let previous = if delete.return_previous { doomed } else { Vec::new() };
            Some(OpAnswer::Delete { deleted, previous })
        }
        Op::Txn(_) => None,
    });
    let ops = ops.collect();
    (Answer { succeeded, ops }, events)
}

/// The versions that a range holds in a state, in the order of their keys.
pub(crate) fn in_range(state: &State, range: &KeyRange) -> Vec<KeyValue> {
    state.values().filter(|version| range.contains(&version.key)).cloned().collect()
}

/// What reading `range` in `state` answers.
pub(crate) fn read(state: &State, range: &RangeOp) -> OpAnswer {
    let mut versions = in_range(state, &range.range);
    let count = versions.len();
    let more = range.limit > 0 && count > range.limit;
    if more {
        versions.truncate(range.limit);
    }
    OpAnswer::Range { versions, more, count }
}

fn put_on(state: &mut State, revision: i64, put: &PutOp) -> (Happened, Option<KeyValue>) {
    let key = put.key.bytes().clone();
    let before = state.get(&key).cloned();
    let kept = before.as_ref();
    let version = KeyValue {
        key: key.clone(),
        create: kept.map_or(revision, |version| version.create),
        modified: revision,
        version: kept.map_or(0, |version| version.version) + 1,
        value: match &put.value {
            PutValue::Set(value) => value.clone(),
            PutValue::Keep => kept.map_or_else(Bytes::new, |version| version.value.clone()),
        },
        lease: match put.lease {
            PutLease::Set(lease) => lease,
            PutLease::Keep => kept.map_or(LeaseId::NONE, |version| version.lease),
        },
    };
    state.insert(key.clone(), version.clone());
    (Happened { key, revision, after: Some(version), before: before.clone() }, before)
}

fn holds(state: &State, compare: &Compare) -> bool {
    let of = |version: Option<&KeyValue>| {
        let number = |fact: fn(&KeyValue) -> i64, given: &i64| Some(version.map_or(0, fact).cmp(given));
        let ordering: Option<Ordering> = match &compare.target {
            CompareTarget::Version(given) => number(|version| version.version, given),
            CompareTarget::CreateRevision(given) => number(|version| version.create, given),
            CompareTarget::ModRevision(given) => number(|version| version.modified, given),
            CompareTarget::Lease(given) => number(|version| version.lease.0, given),
            CompareTarget::Value(given) => version.map(|version| version.value.cmp(given)),
        };
        ordering.is_some_and(|ordering| compare.operator.accepts(ordering))
    };
    if compare.range.is_single() {
        return of(state.get(compare.range.start()));
    }
    in_range(state, &compare.range).iter().all(|version| of(Some(version)))
}

/// The same answer as Orlop gave it.
pub(crate) fn answer_of(branch: &BranchOutcome) -> Result<Answer, String> {
    let decode = |versions: &[Bytes]| versions.iter().map(KeyValue::decode).collect::<Result<Vec<_>, _>>();
    let mut ops = Vec::with_capacity(branch.ops.len());
    for op in &branch.ops {
        ops.push(match op {
            OpOutcome::Range { outcome, .. } => range_of(outcome)?,
            OpOutcome::Put { previous, .. } => {
                OpAnswer::Put { previous: previous.as_ref().map(KeyValue::decode).transpose()? }
            }
            OpOutcome::Delete { deleted, previous, .. } => {
                OpAnswer::Delete { deleted: *deleted, previous: decode(previous)? }
            }
            OpOutcome::Txn(_) => return Err("a nested transaction that nobody asked for".to_owned()),
        });
    }
    Ok(Answer { succeeded: branch.succeeded, ops })
}

/// The same answer to a range as Orlop gave it.
pub(crate) fn range_of(outcome: &RangeOutcome) -> Result<OpAnswer, String> {
    let versions = outcome.versions.iter().map(KeyValue::decode).collect::<Result<Vec<_>, _>>()?;
    Ok(OpAnswer::Range { versions, more: outcome.more, count: outcome.count })
}
