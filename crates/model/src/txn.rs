use bytes::Bytes;

use crate::{Key, KeyRange, LeaseId, Revision};

/// A transaction: if every compare holds, the operations of `success` run, otherwise those of `failure`; all of
/// them at one revision, atomically. A single put or delete is a transaction without compares.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Txn {
    /// All must hold for `success`; none at all holds.
    pub compares: Vec<Compare>,
    /// What runs when all compares hold.
    pub success: Vec<Op>,
    /// What runs when one does not.
    pub failure: Vec<Op>,
}

impl Txn {
    /// A transaction that runs `op` in any case.
    pub fn only(op: Op) -> Txn {
        Txn { compares: Vec::new(), success: vec![op], failure: Vec::new() }
    }

    /// Whether some branch of it could change a key.
    pub fn can_mutate(&self) -> bool {
        self.success.iter().chain(&self.failure).any(|op| match op {
            Op::Range(_) => false,
            Op::Put(_) | Op::Delete(_) => true,
            Op::Txn(nested) => nested.can_mutate(),
        })
    }
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Read a range of keys.
    Range(RangeOp),
    /// Create or overwrite a key.
    Put(PutOp),
    /// Delete a range of keys.
    Delete(DeleteOp),
    /// A transaction within the transaction, at the same revision.
    Txn(Txn),
}

/// Which state a read asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadRevision {
    /// The newest one.
    Latest,
    /// The state as of exactly this revision.
    At(Revision),
}

/// A read of a range of keys.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeOp {
    /// The keys.
    pub range: KeyRange,
    /// The state to read.
    pub revision: ReadRevision,
    /// At most this many keys are returned; 0 is no limit. The count is of the whole range in any case.
    pub limit: usize,
    /// The order of the keys returned.
    pub order: SortOrder,
    /// What `order` goes by.
    pub target: SortTarget,
    /// Which keys are returned (they are counted in any case, as etcd does).
    pub filter: RangeFilter,
    /// Leave the values out.
    pub keys_only: bool,
    /// Return the count alone.
    pub count_only: bool,
}

impl RangeOp {
    /// The newest state of `range`, whole, in key order.
    pub fn of(range: KeyRange) -> RangeOp {
        RangeOp {
            range,
            revision: ReadRevision::Latest,
            limit: 0,
            order: SortOrder::None,
            target: SortTarget::Key,
            filter: RangeFilter::default(),
            keys_only: false,
            count_only: false,
        }
    }

    /// Whether the keys come out in key order and unfiltered, so that the read can stop at its limit.
    pub fn is_plain(&self) -> bool {
        self.order == SortOrder::None
            && self.target == SortTarget::Key
            && self.filter == RangeFilter::default()
    }
}

/// The order of a range's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortOrder {
    /// The client asked for no order.
    None,
    /// Lowest first.
    Ascend,
    /// Highest first.
    Descend,
}

/// What a range is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortTarget {
    /// The key's bytes.
    Key,
    /// The number of puts since the creation.
    Version,
    /// The revision of the creation.
    Create,
    /// The revision of the last put.
    Mod,
    /// The value's bytes.
    Value,
}

/// Bounds on the revisions of the keys that a range returns; each inclusive, [`Revision::NONE`] is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeFilter {
    /// The lowest mod revision returned.
    pub mod_revision_min: Revision,
    /// The highest mod revision returned.
    pub mod_revision_max: Revision,
    /// The lowest create revision returned.
    pub create_revision_min: Revision,
    /// The highest create revision returned.
    pub create_revision_max: Revision,
}

impl RangeFilter {
    /// Whether a key with these revisions is returned.
    pub fn admits(&self, create: Revision, modified: Revision) -> bool {
        let below = |bound: Revision, value: Revision| bound.is_none() || value <= bound;
        modified >= self.mod_revision_min
            && below(self.mod_revision_max, modified)
            && create >= self.create_revision_min
            && below(self.create_revision_max, create)
    }
}

/// A put of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct PutOp {
    /// The key.
    pub key: Key,
    /// Its new value.
    pub value: PutValue,
    /// The lease that it hangs on afterwards.
    pub lease: PutLease,
    /// Return the version that was replaced.
    pub return_previous: bool,
}

/// The value that a put leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutValue {
    /// These bytes.
    Set(Bytes),
    /// The value that the key has; the key must exist.
    Keep,
}

/// The lease that a put leaves its key on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutLease {
    /// This one; [`LeaseId::NONE`] detaches.
    Set(LeaseId),
    /// The one that the key has; the key must exist.
    Keep,
}

/// A deletion of a range of keys.
#[derive(Clone, Debug, PartialEq)]
pub struct DeleteOp {
    /// The keys.
    pub range: KeyRange,
    /// Return the versions that were deleted.
    pub return_previous: bool,
}

/// A condition on the keys of a range. It holds when every key of the range satisfies it; a single key that does
/// not exist counts as one with version, revisions and lease 0, and satisfies no condition on its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Compare {
    /// The keys.
    pub range: KeyRange,
    /// How a key's fact must lie to the one given.
    pub operator: CompareOperator,
    /// The fact, and what it is compared with.
    pub target: CompareTarget,
}

/// How a key's fact must lie to the one given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOperator {
    /// Equal.
    Equal,
    /// Greater.
    Greater,
    /// Less.
    Less,
    /// Not equal.
    NotEqual,
}

impl CompareOperator {
    /// Whether the operator accepts a key's fact that lies to the given one as `ordering` says.
    pub fn accepts(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            CompareOperator::Equal => ordering.is_eq(),
            CompareOperator::Greater => ordering.is_gt(),
            CompareOperator::Less => ordering.is_lt(),
            CompareOperator::NotEqual => ordering.is_ne(),
        }
    }
}

/// A fact about a key, and what it is compared with. The numbers are the client's and may be any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// The number of puts since the creation.
    Version(i64),
    /// The revision of the creation.
    CreateRevision(i64),
    /// The revision of the last put.
    ModRevision(i64),
    /// The value.
    Value(Bytes),
    /// The lease's id.
    Lease(i64),
}
