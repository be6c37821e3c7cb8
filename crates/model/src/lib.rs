//! The pure types of the store: revisions, keys, key ranges, leases, transactions and what they answer.
//!
//! This crate must never depend on an async runtime, an engine or protobuf: every other crate speaks these
//! types, and only the server translates them from and to the wire.
//!
//! What each type promises is proved when a value is made (an empty key or a negative revision cannot be
//! expressed), so code further in does not check again.

mod event;
mod key;
mod lease;
mod object;
mod revision;
mod txn;

pub use event::{Event, EventBatch};
pub use key::{EmptyKey, Key, KeyRange, RangeEnd};
pub use lease::{LeaseId, LeaseTtl};
pub use object::{Change, ChangeKind, KeyMeta};
pub use revision::Revision;
pub use txn::{
    Compare, CompareOperator, CompareTarget, DeleteOp, Op, PutLease, PutOp, PutValue, RangeFilter, RangeOp,
    ReadRevision, SortOrder, SortTarget, Txn,
};
