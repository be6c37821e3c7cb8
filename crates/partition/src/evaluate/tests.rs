//! The evaluator against a plain reading of etcd's rules: a map of keys, and each rule written out as
//! `etcdserver/txn` has it.

mod model;

use std::collections::BTreeMap;
use std::sync::Arc;

use ::model::{Change, CompareOperator, RangeFilter, SortOrder, SortTarget};
use engine::MemoryEngine;
use proptest::prelude::*;

use self::model::{Etcd, KeyValue, ModelOp, ModelRange, Refusal};
use super::*;
use crate::outcome::RangeOutcome;
use crate::range::finish;
use crate::values::Values;

/// Keys that begin one another and lie at the borders of the alphabet.
const KEYS: [&[u8]; 7] = [b"\0", b"a", b"a\0", b"ab", b"b", b"c", b"\xff\xff"];
const VALUES: [&[u8]; 4] = [b"", b"x", b"y", b"yy"];
const LIVE: LeaseId = LeaseId(1);
const ALSO_LIVE: LeaseId = LeaseId(-5);
const GONE: LeaseId = LeaseId(7);
const COMPACTED: Revision = Revision::new(4);

struct TwoLeases;

impl Leases for TwoLeases {
    fn is_attachable(&self, lease: LeaseId) -> bool {
        lease == LIVE || lease == ALSO_LIVE
    }
}

/// One step of a batch.
#[derive(Clone, Debug)]
enum Step {
    Txn(Txn),
    DeleteAttached(LeaseId, usize),
    /// The batch ends, durable or failed.
    End {
        durable: bool,
    },
}

fn any_key() -> impl Strategy<Value = Key> {
    proptest::sample::select(KEYS.to_vec()).prop_map(|bytes| Key::new(bytes.to_vec()).unwrap())
}

fn any_value() -> impl Strategy<Value = Bytes> {
    proptest::sample::select(VALUES.to_vec()).prop_map(Bytes::from_static)
}

fn any_range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        4 => any_key().prop_map(|key| KeyRange::single(&key)),
        3 => (any_key(), any_key()).prop_map(|(start, end)| KeyRange::between(&start, end.bytes().clone())),
        1 => any_key().prop_map(|key| KeyRange::from(&key)),
        1 => Just(KeyRange::all()),
    ]
}

fn any_compare() -> impl Strategy<Value = Compare> {
    let number = 0..9i64;
    let target = prop_oneof![
        number.clone().prop_map(CompareTarget::Version),
        number.clone().prop_map(CompareTarget::CreateRevision),
        number.clone().prop_map(CompareTarget::ModRevision),
        any_value().prop_map(CompareTarget::Value),
        prop_oneof![Just(0), Just(LIVE.0), Just(ALSO_LIVE.0)].prop_map(CompareTarget::Lease),
    ];
    let operator = prop_oneof![
        Just(CompareOperator::Equal),
        Just(CompareOperator::Greater),
        Just(CompareOperator::Less),
        Just(CompareOperator::NotEqual),
    ];
    (any_range(), operator, target).prop_map(|(range, operator, target)| Compare { range, operator, target })
}

fn any_range_op() -> impl Strategy<Value = Op> {
    let revision = prop_oneof![
        8 => Just(ReadRevision::Latest),
        1 => (0..40i64).prop_map(|revision| ReadRevision::At(Revision::new(revision))),
    ];
    let order = prop_oneof![Just(SortOrder::None), Just(SortOrder::Ascend), Just(SortOrder::Descend)];
    let target = prop_oneof![
        4 => Just(SortTarget::Key),
        1 => Just(SortTarget::Version),
        1 => Just(SortTarget::Create),
        1 => Just(SortTarget::Mod),
        1 => Just(SortTarget::Value),
    ];
    let bound = || prop_oneof![6 => Just(0i64), 1 => 0..12i64].prop_map(Revision::new);
    let filter = (bound(), bound(), bound(), bound()).prop_map(|(a, b, c, d)| RangeFilter {
        mod_revision_min: a,
        mod_revision_max: b,
        create_revision_min: c,
        create_revision_max: d,
    });
    (any_range(), revision, 0..4usize, order, target, filter, any::<bool>(), 0..8u8).prop_map(
        |(range, revision, limit, order, target, filter, keys_only, count_only)| {
            let count_only = count_only == 0;
            Op::Range(RangeOp { range, revision, limit, order, target, filter, keys_only, count_only })
        },
    )
}

fn any_put() -> impl Strategy<Value = Op> {
    let value = prop_oneof![5 => any_value().prop_map(PutValue::Set), 1 => Just(PutValue::Keep)];
    let lease = prop_oneof![
        5 => Just(PutLease::Set(LeaseId::NONE)),
        3 => Just(PutLease::Set(LIVE)),
        2 => Just(PutLease::Set(ALSO_LIVE)),
        2 => Just(PutLease::Keep),
        1 => Just(PutLease::Set(GONE)),
    ];
    (any_key(), value, lease, any::<bool>()).prop_map(|(key, value, lease, return_previous)| {
        Op::Put(PutOp { key, value, lease, return_previous })
    })
}

fn any_op() -> impl Strategy<Value = Op> {
    let delete = (any_range(), any::<bool>())
        .prop_map(|(range, return_previous)| Op::Delete(DeleteOp { range, return_previous }));
    let leaf = prop_oneof![3 => any_range_op(), 5 => any_put(), 2 => delete];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let ops = || proptest::collection::vec(inner.clone(), 0..3);
        let compares = proptest::collection::vec(any_compare(), 0..2);
        (compares, ops(), ops())
            .prop_map(|(compares, success, failure)| Op::Txn(Txn { compares, success, failure }))
    })
}

fn any_txn() -> impl Strategy<Value = Txn> {
    let ops = || proptest::collection::vec(any_op(), 0..4);
    (proptest::collection::vec(any_compare(), 0..3), ops(), ops()).prop_map(|(compares, success, failure)| {
        let mut txn = Txn { compares, success, failure };
        prune(&mut txn, &mut Touched::default());
        txn
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => any_txn().prop_map(Step::Txn),
        1 => (prop_oneof![Just(LIVE), Just(ALSO_LIVE)], 0..4usize).prop_map(|(l, n)| Step::DeleteAttached(l, n)),
        5 => proptest::bool::weighted(0.7).prop_map(|durable| Step::End { durable }),
    ]
}

/// What a way through a transaction has changed so far, at most.
#[derive(Clone, Default)]
struct Touched {
    puts: Vec<Key>,
    deletes: Vec<KeyRange>,
}

/// Takes the operations out that could change a key twice: no client can ask for them.
fn prune(txn: &mut Txn, touched: &mut Touched) {
    let mut in_success = touched.clone();
    prune_branch(&mut txn.success, &mut in_success);
    prune_branch(&mut txn.failure, touched);
    touched.puts.extend(in_success.puts);
    touched.deletes.extend(in_success.deletes);
}

fn prune_branch(ops: &mut Vec<Op>, touched: &mut Touched) {
    ops.retain_mut(|op| match op {
        Op::Range(_) => true,
        Op::Put(put) => {
            let free = !touched.puts.contains(&put.key)
                && !touched.deletes.iter().any(|range| range.contains(put.key.as_slice()));
            touched.puts.push(put.key.clone());
            free
        }
        Op::Delete(delete) => {
            let free = !touched.puts.iter().any(|key| delete.range.contains(key.as_slice()));
            if free {
                touched.deletes.push(delete.range.clone());
            }
            free
        }
        Op::Txn(nested) => {
            prune(nested, touched);
            true
        }
    });
}

/// The evaluator with what the sequencer keeps around it.
struct Subject {
    space: KeySpace,
    index: Index,
    attachments: Attachments,
    published: Revision,
    newest: Revision,
    pending: Vec<Pending>,
    /// Every value ever put, by the key of its object.
    values: HashMap<Bytes, Bytes>,
    /// Those that the evaluator asked for.
    at_hand: HashMap<Bytes, Bytes>,
    nothing_stored: Values,
}

impl Subject {
    fn new() -> Subject {
        let space = KeySpace::new("p").unwrap();
        Subject {
            nothing_stored: Values::new(Arc::new(MemoryEngine::new()), space.clone(), 0),
            space,
            index: Index::default(),
            attachments: Attachments::default(),
            published: Revision::FIRST,
            newest: Revision::FIRST,
            pending: Vec::new(),
            values: HashMap::new(),
            at_hand: HashMap::new(),
        }
    }

    fn present(&mut self) -> Present<'_> {
        Present {
            space: &self.space,
            index: &mut self.index,
            leases: &TwoLeases,
            values: &self.at_hand,
            revision: self.newest,
            compacted: (self.newest >= COMPACTED).then_some(COMPACTED),
        }
    }

    fn txn(&mut self, txn: &Txn) -> Result<BranchOutcome<Unread, Found>, TxnFailure> {
        for _ in 0..10 {
            match evaluate(txn, self.present()) {
                Ok(Evaluation { pending, branch }) => {
                    self.keep(pending);
                    return Ok(branch);
                }
                Err(NotEvaluated::Failed(failure)) => return Err(failure),
                Err(NotEvaluated::Needs(found)) => {
                    let asked_again = found.iter().any(|found| self.at_hand.contains_key(&found.object_key));
                    assert!(!asked_again, "what is at hand is not asked for");
                    for Found { object_key, .. } in found {
                        let value = self.values.get(&object_key).expect("a version that was put").clone();
                        self.at_hand.insert(object_key, value);
                    }
                }
            }
        }
        panic!("it keeps asking for values");
    }

    fn delete_attached(&mut self, lease: LeaseId, count: usize) -> (usize, usize) {
        let (attachments, earlier) =
            (std::mem::take(&mut self.attachments), std::mem::take(&mut self.pending));
        let (pending, left) =
            delete_attached((lease, &KeyRange::all(), count), self.present(), &attachments, &earlier);
        (self.attachments, self.pending) = (attachments, earlier);
        let deleted = pending.len();
        self.keep(pending);
        (deleted, left)
    }

    fn keep(&mut self, pending: Vec<Pending>) {
        if pending.is_empty() {
            return;
        }
        self.newest = self.newest.next();
        for pending in &pending {
            assert_eq!(pending.change.revision, self.newest);
            self.values.insert(pending.object_key.clone(), pending.key_value());
        }
        self.pending.extend(pending);
    }

    fn end(&mut self, durable: bool) {
        if !durable {
            take_back(&self.pending, &mut self.index);
            self.newest = self.published;
            self.at_hand.retain(|object_key, _| {
                self.space.decode_object_key(object_key).unwrap().1 <= self.published
            });
        }
        for pending in std::mem::take(&mut self.pending) {
            if durable {
                self.attachments.moved(&pending.change.key, pending.lease_before, pending.lease_after());
            }
        }
        self.published = self.newest;
    }

    /// Every state that the index tells.
    fn states(&self) -> Vec<Vec<(Bytes, KeyMeta)>> {
        let state = |revision| {
            let mut state = Vec::new();
            self.index.visit(&KeyRange::all(), revision, |key, meta| {
                state.push((Bytes::copy_from_slice(key), meta));
                ControlFlow::Continue(())
            });
            assert_eq!(state.len(), self.index.count(&KeyRange::all(), revision));
            state
        };
        (0..=self.newest.get() + 1).map(Revision::new).chain([Revision::MAX]).map(state).collect()
    }

    fn resolve(&self, found: Found) -> Found {
        let key_value = found.key_value.or_else(|| self.values.get(&found.object_key).cloned());
        Found { key_value, ..found }
    }

    fn read(&self, found: Found) -> KeyValue {
        decode(&self.resolve(found).key_value.expect("a version that was put"))
    }
}

fn decode(key_value: &Bytes) -> KeyValue {
    let meta = layout::object::meta_of(key_value).unwrap();
    KeyValue {
        key: layout::object::key_of(key_value).unwrap(),
        create: meta.create_revision,
        modified: meta.mod_revision,
        version: meta.version,
        value: value_of(key_value).unwrap(),
        lease: meta.lease,
    }
}

/// Puts the values in that ranges and previous versions name, as the answer to a client has them.
fn answered(subject: &Subject, branch: BranchOutcome<Unread, Found>) -> (bool, Vec<ModelOp>) {
    let ops = branch.ops.into_iter().map(|op| match op {
        OpOutcome::Range { revision, outcome: Unread { op, listing } } => {
            ModelOp::Range(revision, ranged(subject, op, listing))
        }
        OpOutcome::Put { revision, previous } => ModelOp::Put(revision, previous.map(|it| subject.read(it))),
        OpOutcome::Delete { revision, deleted, previous } => {
            ModelOp::Delete(revision, deleted, previous.into_iter().map(|it| subject.read(it)).collect())
        }
        OpOutcome::Txn(nested) => {
            let (succeeded, ops) = answered(subject, nested);
            ModelOp::Txn(succeeded, ops)
        }
    });
    (branch.succeeded, ops.collect())
}

fn ranged(subject: &Subject, op: RangeOp, listing: Listing) -> ModelRange {
    let Listing::Found { found, count } = listing else { return ModelRange::Older };
    let found = found.into_iter().map(|found| subject.resolve(found)).collect();
    let answer = finish(&op, found, count, (&subject.nothing_stored, subject.newest));
    let RangeOutcome { versions, more, count } = futures_ready(answer).unwrap();
    ModelRange::Found(versions.iter().map(decode).collect(), more, count)
}

/// The output of a future that has nothing to wait for.
fn futures_ready<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

fn refusal(failure: TxnFailure) -> Refusal {
    match failure {
        TxnFailure::KeyNotFound => Refusal::KeyNotFound,
        TxnFailure::LeaseNotFound => Refusal::LeaseNotFound,
        TxnFailure::Read(ReadFailure::Compacted(_)) => Refusal::Compacted,
        TxnFailure::Read(ReadFailure::FutureRevision) => Refusal::FutureRevision,
        other => panic!("{other}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn transactions_do_what_etcd_does(steps in proptest::collection::vec(any_step(), 1..40)) {
        let (mut subject, mut etcd, mut durable) = (Subject::new(), Etcd::default(), Etcd::default());
        for step in steps {
            let before = subject.states();
            match step {
                Step::Txn(txn) => match (subject.txn(&txn), etcd.txn(&txn)) {
                    (Ok(branch), Ok(expected)) => prop_assert_eq!(answered(&subject, branch), expected),
                    (Err(failure), Err(expected)) => {
                        prop_assert_eq!(refusal(failure), expected);
                        prop_assert_eq!(subject.states(), before, "a failure changes nothing");
                    }
                    (got, expected) => prop_assert!(false, "{got:?} instead of {expected:?}"),
                },
                Step::DeleteAttached(lease, count) => {
                    let hanging = etcd.attached(lease).len();
                    let (deleted, left) = subject.delete_attached(lease, count);
                    prop_assert_eq!((deleted, left), (hanging.min(count), hanging - hanging.min(count)));
                    etcd.follow(subject.pending.iter().rev().take(deleted).map(|pending| &pending.change.key));
                    prop_assert_eq!(etcd.attached(lease).len(), left);
                }
                Step::End { durable: true } => {
                    subject.end(true);
                    durable = etcd.clone();
                }
                Step::End { durable: false } => {
                    subject.end(false);
                    etcd = durable.clone();
                }
            }
            let newest: BTreeMap<_, _> = subject.states().pop().unwrap().into_iter().collect();
            prop_assert_eq!(newest, etcd.metas());
            prop_assert_eq!(subject.newest, etcd.revision);
        }
    }

    /// Whatever a batch did: taken back, every state is as before it.
    #[test]
    fn what_is_taken_back_leaves_no_trace(
        first in proptest::collection::vec(any_txn(), 0..12),
        failed in proptest::collection::vec(any_step(), 1..12),
    ) {
        let mut subject = Subject::new();
        for txn in &first {
            let _ = subject.txn(txn);
        }
        subject.end(true);
        let before = subject.states();
        for step in failed {
            match step {
                Step::Txn(txn) => drop(subject.txn(&txn)),
                Step::DeleteAttached(lease, count) => drop(subject.delete_attached(lease, count)),
                Step::End { .. } => {}
            }
        }
        subject.end(false);
        prop_assert_eq!(subject.states(), before);
    }
}

#[test]
fn a_negative_revision_in_a_transaction_is_compacted_always() {
    let mut subject = Subject::new();
    let read = RangeOp { revision: ReadRevision::At(Revision::NONE), ..RangeOp::of(KeyRange::all()) };
    let failure = subject.txn(&Txn::only(Op::Range(read))).unwrap_err();
    assert!(matches!(failure, TxnFailure::Read(ReadFailure::Compacted(_))), "{failure}");
}

#[test]
fn the_change_of_a_key_names_the_version_that_it_replaced() {
    let mut subject = Subject::new();
    let key = Key::new("k").unwrap();
    let put = Op::Put(PutOp {
        key: key.clone(),
        value: PutValue::Set(Bytes::new()),
        lease: PutLease::Set(LeaseId::NONE),
        return_previous: false,
    });
    let delete = Op::Delete(DeleteOp { range: KeyRange::single(&key), return_previous: false });
    for op in [put.clone(), put.clone(), delete.clone(), delete, put] {
        subject.txn(&Txn::only(op)).unwrap();
    }
    let previous = |pending: &Pending| {
        let Change { revision, previous, .. } = pending.change;
        (revision.get(), previous.get(), pending.follows.get())
    };
    let changes: Vec<_> = subject.pending.iter().map(previous).collect();
    assert_eq!(changes, [(2, 0, 0), (3, 2, 2), (4, 3, 3), (5, 0, 4)]);
}
