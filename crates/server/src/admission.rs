//! Who may still change something: the size of requests, the quota and the alarms.
//!
//! What frees space is always let in: deletions, compactions, the end of leases.

use layout::system::Alarm;
use model::{Op, PutOp, PutValue, Txn};
use prost::Message;
use tonic::Status;
use tracing::warn;

use crate::backend::Backend;
use crate::error::EtcdError;
use crate::failure;

/// etcd measures the proposal in which it wraps a request: so many bytes more than the request itself has.
const ENVELOPE_BYTES: usize = 18;
/// What etcd charges for a key beside its own bytes and its value's.
const KEY_OVERHEAD_BYTES: u64 = 256;
/// What etcd charges for a lease.
pub(crate) const LEASE_COST_BYTES: u64 = 64;

impl Backend {
    /// Refuses a request to change something that is larger than the server takes.
    pub(crate) fn check_size(&self, request: &impl Message) -> Result<(), EtcdError> {
        match request.encoded_len() + ENVELOPE_BYTES > self.config.max_request_bytes {
            true => Err(EtcdError::RequestTooLarge),
            false => Ok(()),
        }
    }

    /// Lets in what adds `cost_bytes` to the store, or nothing. The first that does not fit raises the alarm, which
    /// stays until somebody clears it, over any restart, as in etcd.
    pub(crate) async fn admit(&self, cost_bytes: u64) -> Result<(), Status> {
        let system = &self.store.system;
        if system.is_raised(Alarm::Corrupt) {
            return Err(EtcdError::Corrupt.into());
        }
        if cost_bytes == 0 {
            return Ok(());
        }
        if system.is_raised(Alarm::NoSpace) {
            return Err(EtcdError::NoSpace.into());
        }
        let quota_bytes = self.config.quota_backend_bytes;
        if quota_bytes == 0 || self.engine.usage().total_bytes.saturating_add(cost_bytes) < quota_bytes {
            return Ok(());
        }
        warn!(quota_bytes, "the quota is used up: raising the alarm NOSPACE");
        system.raise(Alarm::NoSpace).await.map_err(failure::system)?;
        Err(EtcdError::NoSpace.into())
    }
}

/// What a transaction can add to the store, as etcd charges for it: the dearer of its branches.
pub(crate) fn cost_bytes(txn: &Txn) -> u64 {
    let of_branch = |branch: &[Op]| branch.iter().map(cost_of).sum::<u64>();
    of_branch(&txn.success).max(of_branch(&txn.failure))
}

fn cost_of(op: &Op) -> u64 {
    match op {
        Op::Put(PutOp { key, value, .. }) => {
            let value_len = match value {
                PutValue::Set(value) => value.len(),
                PutValue::Keep => 0,
            };
            KEY_OVERHEAD_BYTES + (key.as_slice().len() + value_len) as u64
        }
        Op::Txn(nested) => cost_bytes(nested),
        Op::Range(_) | Op::Delete(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{DeleteOp, Key, KeyRange, LeaseId, PutLease};

    fn put(value_len: usize) -> Op {
        Op::Put(PutOp {
            key: Key::new("0123456789").unwrap(),
            value: PutValue::Set(vec![0; value_len].into()),
            lease: PutLease::Set(LeaseId::NONE),
            return_previous: false,
        })
    }

    #[test]
    fn a_transaction_costs_what_its_dearer_branch_puts() {
        let delete = Op::Delete(DeleteOp { range: KeyRange::all(), return_previous: false });
        let nested = Op::Txn(Txn::only(put(100)));
        let txn =
            Txn { success: vec![delete.clone(), put(0), nested], failure: vec![put(50)], ..Txn::default() };
        assert_eq!(cost_bytes(&txn), 2 * (256 + 10) + 100);
        assert_eq!(cost_bytes(&Txn::only(delete)), 0);
    }
}
