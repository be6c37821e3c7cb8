use std::sync::Arc;

use bytes::Bytes;
use model::{DeleteOp, Key, KeyRange, LeaseId, Op, PutLease, PutOp, Txn};
use tonic::Status;

use super::rules::Rights;
use crate::error::EtcdError;

/// What one client may do. Everything else is refused with `etcdserver: permission denied`, before anything happens.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// Everything: there are no permissions.
    Everything,
    /// As an entry says.
    Rights(Arc<Rights>),
    /// Nothing: there is no entry.
    Nothing,
}

/// Who knows which keys hang on a lease.
pub(crate) trait Attached {
    /// The keys of a lease.
    fn attached(&self, lease: LeaseId) -> Vec<Bytes>;
}

impl Attached for partition::UserKeys {
    fn attached(&self, lease: LeaseId) -> Vec<Bytes> {
        partition::UserKeys::attached(self, lease)
    }
}

impl Access {
    /// Whether it is what another was when it was asked for: no file was read in between.
    pub(crate) fn is_the_same_as(&self, other: &Access) -> bool {
        match (self, other) {
            (Access::Everything, Access::Everything) | (Access::Nothing, Access::Nothing) => true,
            (Access::Rights(one), Access::Rights(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    fn denied() -> Result<(), Status> {
        Err(EtcdError::PermissionDenied.into())
    }

    fn if_so(is_allowed: bool) -> Result<(), Status> {
        if is_allowed { Ok(()) } else { Access::denied() }
    }

    /// A read, a watch, or a condition.
    pub(crate) fn read(&self, range: &KeyRange) -> Result<(), Status> {
        match self {
            Access::Everything => Ok(()),
            Access::Rights(rights) => Access::if_so(rights.read.hold(range)),
            Access::Nothing => Access::denied(),
        }
    }

    fn write(&self, range: &KeyRange) -> Result<(), Status> {
        match self {
            Access::Everything => Ok(()),
            Access::Rights(rights) => Access::if_so(rights.write.hold(range)),
            Access::Nothing => Access::denied(),
        }
    }

    /// Compaction and maintenance.
    pub(crate) fn administer(&self) -> Result<(), Status> {
        match self {
            Access::Everything => Ok(()),
            Access::Rights(rights) => Access::if_so(rights.admin),
            Access::Nothing => Access::denied(),
        }
    }

    /// What any client may do that has an entry: asking for the state of the server.
    pub(crate) fn ask(&self) -> Result<(), Status> {
        Access::if_so(!matches!(self, Access::Nothing))
    }

    /// A new lease: whoever may write something.
    pub(crate) fn grant(&self) -> Result<(), Status> {
        match self {
            Access::Everything => Ok(()),
            Access::Rights(rights) => Access::if_so(rights.admin || !rights.write.are_none()),
            Access::Nothing => Access::denied(),
        }
    }

    /// Revoking or renewing a lease, or hanging a key on it: whoever may write all keys that hang on it already.
    pub(crate) fn write_lease(&self, lease: LeaseId, keys: &dyn Attached) -> Result<(), Status> {
        match self {
            Access::Rights(rights) if !rights.admin => {
                let all = || keys.attached(lease).into_iter().all(|key| rights.write.hold(&single(key)));
                self.grant()?;
                Access::if_so(all())
            }
            other => other.grant(),
        }
    }

    /// Asking about a lease: whoever may read all keys that hang on it.
    pub(crate) fn read_lease(&self, lease: LeaseId, keys: &dyn Attached) -> Result<(), Status> {
        match self {
            Access::Rights(rights) if !rights.admin => {
                Access::if_so(keys.attached(lease).into_iter().all(|key| rights.read.hold(&single(key))))
            }
            other => other.ask(),
        }
    }

    /// A transaction: all its conditions, and all operations of both branches, however deep.
    pub(crate) fn run(&self, txn: &Txn, keys: &dyn Attached) -> Result<(), Status> {
        if let Access::Everything = self {
            return Ok(());
        }
        // One without anything in it still has to be somebody's.
        self.ask()?;
        for compare in &txn.compares {
            self.read(&compare.range)?;
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                Op::Range(range) => self.read(&range.range)?,
                Op::Put(put) => self.put(put, keys)?,
                Op::Delete(delete) => self.delete(delete)?,
                Op::Txn(nested) => self.run(nested, keys)?,
            }
        }
        Ok(())
    }

    fn put(&self, put: &PutOp, keys: &dyn Attached) -> Result<(), Status> {
        let range = KeyRange::single(&put.key);
        self.write(&range)?;
        if put.return_previous {
            self.read(&range)?;
        }
        match put.lease {
            PutLease::Set(lease) if !lease.is_none() => self.write_lease(lease, keys),
            PutLease::Set(_) | PutLease::Keep => Ok(()),
        }
    }

    fn delete(&self, delete: &DeleteOp) -> Result<(), Status> {
        self.write(&delete.range)?;
        if delete.return_previous { self.read(&delete.range) } else { Ok(()) }
    }
}

fn single(key: Bytes) -> KeyRange {
    KeyRange::single(&Key::new(key).expect("a key that is stored is one"))
}
