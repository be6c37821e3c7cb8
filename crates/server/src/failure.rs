//! What a client is told when the store fails it: one row for each failure.
//!
//! Mistakes of a client are answered and not logged. What concerns the operator is logged here, once, with the
//! details that etcd's texts have no room for.

use partition::{ReadFailure, SystemFailure, TxnFailure};
use tonic::Status;
use tracing::{error, warn};

use crate::error::EtcdError;

/// A read gave no answer.
pub(crate) fn read(failure: ReadFailure) -> Status {
    match failure {
        ReadFailure::Compacted(_) => EtcdError::Compacted.into(),
        ReadFailure::FutureRevision => EtcdError::FutureRev.into(),
        ReadFailure::Unavailable(reason) => unavailable(&reason),
        ReadFailure::Corrupt(reason) => corrupt(&reason),
        ReadFailure::Closed(reason) => {
            warn!(error = reason, "the store is closed");
            EtcdError::Stopped.into()
        }
    }
}

/// A transaction did not report success.
pub(crate) fn txn(failure: TxnFailure) -> Status {
    match failure {
        TxnFailure::KeyNotFound => EtcdError::KeyNotFound.into(),
        TxnFailure::LeaseNotFound => EtcdError::LeaseNotFound.into(),
        TxnFailure::Read(failure) => read(failure),
        TxnFailure::NoSpace(reason) => no_space(&reason),
        TxnFailure::Elsewhere => crate::peer::elsewhere(),
        TxnFailure::Unavailable(reason) => unavailable(&reason),
        TxnFailure::Undetermined(reason) => undetermined(&reason),
    }
}

/// A change of the system partition did not report success.
pub(crate) fn system(failure: SystemFailure) -> Status {
    match failure {
        SystemFailure::LeaseExists => EtcdError::LeaseExist.into(),
        SystemFailure::LeaseNotFound => EtcdError::LeaseNotFound.into(),
        SystemFailure::Compacted(_) => EtcdError::Compacted.into(),
        SystemFailure::FutureRevision => EtcdError::FutureRev.into(),
        SystemFailure::NoSpace(reason) => no_space(&reason),
        SystemFailure::Unavailable(reason) => unavailable(&reason),
        SystemFailure::Undetermined(reason) => undetermined(&reason),
    }
}

/// The engine did not answer, or certainly did not take the change: a client may try again. Not "timed out", which
/// leaves open whether a write happened.
fn unavailable(reason: &str) -> Status {
    warn!(error = reason, "the engine is unavailable");
    EtcdError::Unhealthy.into()
}

/// The change may have happened, or may still happen. etcd's clients know this text as exactly that, and never send
/// a transaction again for it.
fn undetermined(reason: &str) -> Status {
    error!(error = reason, "the outcome of a write is unknown");
    EtcdError::Timeout.into()
}

fn no_space(reason: &str) -> Status {
    warn!(error = reason, "no space for new data");
    EtcdError::NoSpace.into()
}

/// Stored data is damaged. etcd's text, and behind it the record: no client knows this error by its text, and
/// whoever reads it needs to know which key is concerned.
fn corrupt(reason: &str) -> Status {
    error!(error = reason, "stored data is damaged");
    Status::new(EtcdError::Corrupt.code(), format!("{}: {reason}", EtcdError::Corrupt))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Revision;
    use tonic::Code;

    fn check(status: &Status, code: Code, text: &str) {
        assert_eq!((status.code(), status.message()), (code, text));
    }

    #[test]
    fn each_failure_of_a_read_has_its_row() {
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        check(&read(ReadFailure::Compacted(Revision::new(7))), Code::OutOfRange, compacted);
        let future = "etcdserver: mvcc: required revision is a future revision";
        check(&read(ReadFailure::FutureRevision), Code::OutOfRange, future);
        let why = || "why".to_owned();
        check(&read(ReadFailure::Unavailable(why())), Code::Unavailable, "etcdserver: unhealthy cluster");
        check(&read(ReadFailure::Corrupt(why())), Code::DataLoss, "etcdserver: corrupt cluster: why");
        check(&read(ReadFailure::Closed(why())), Code::Unavailable, "etcdserver: server stopped");
    }

    #[test]
    fn a_write_that_may_have_happened_is_told_apart_from_one_that_has_not() {
        let why = || "why".to_owned();
        check(&txn(TxnFailure::Undetermined(why())), Code::Unavailable, "etcdserver: request timed out");
        check(&txn(TxnFailure::Unavailable(why())), Code::Unavailable, "etcdserver: unhealthy cluster");
        check(
            &system(SystemFailure::Undetermined(why())),
            Code::Unavailable,
            "etcdserver: request timed out",
        );
        check(&system(SystemFailure::Unavailable(why())), Code::Unavailable, "etcdserver: unhealthy cluster");
    }

    #[test]
    fn each_other_failure_of_a_change_has_its_row() {
        let no_space = "etcdserver: mvcc: database space exceeded";
        check(&txn(TxnFailure::NoSpace(String::new())), Code::ResourceExhausted, no_space);
        check(&system(SystemFailure::NoSpace(String::new())), Code::ResourceExhausted, no_space);
        check(&txn(TxnFailure::KeyNotFound), Code::InvalidArgument, "etcdserver: key not found");
        let unknown = "etcdserver: requested lease not found";
        check(&txn(TxnFailure::LeaseNotFound), Code::NotFound, unknown);
        check(&system(SystemFailure::LeaseNotFound), Code::NotFound, unknown);
        let exists = "etcdserver: lease already exists";
        check(&system(SystemFailure::LeaseExists), Code::FailedPrecondition, exists);
        let compacted = "etcdserver: mvcc: required revision has been compacted";
        check(&system(SystemFailure::Compacted(Revision::new(7))), Code::OutOfRange, compacted);
    }
}
