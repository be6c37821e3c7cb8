use bytes::Bytes;
use tikv_client::{Error, ProtoKeyError, ProtoRegionError};
use tonic::Code;

/// How much of an error's text goes into ours: those of `tikv-client` hold whole requests.
const TEXT_CHARACTERS_MAX: usize = 300;

/// What an error of a prewrite says for certain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A key that must not exist does. Nothing of the transaction can ever be applied.
    Exists(Bytes),
    /// Somebody wrote to one of the keys meanwhile. Nothing of the transaction can ever be applied.
    Conflict,
    /// Nothing: the commit request may have been sent.
    Unclear,
}

/// Reads what `commit` of a transaction answered. Both certain refusals can only come from a prewrite, and the commit
/// request is sent when every prewrite has succeeded.
pub(crate) fn refusal(error: &Error) -> Refusal {
    let mut found = Refusal::Unclear;
    each_key_error(error, &mut |error| {
        if let Some(exists) = &error.already_exist {
            found = Refusal::Exists(Bytes::copy_from_slice(&exists.key));
        } else if error.conflict.is_some() && found == Refusal::Unclear {
            found = Refusal::Conflict;
        }
    });
    found
}

/// Whether the error says that a lock's transaction is unknown at its primary key: nothing was ever written there. Its
/// owner is about to, or has died.
pub(crate) fn is_txn_not_found(error: &Error) -> bool {
    let mut found = matches!(error, Error::TxnNotFound(_));
    each_key_error(error, &mut |error| found |= error.txn_not_found.is_some());
    found
}

/// Whether locks are in the way, of whatever kind.
pub(crate) fn is_about_locks(error: &Error) -> bool {
    let mut found = matches!(error, Error::ResolveLockError(_)) || is_txn_not_found(error);
    each_key_error(error, &mut |error| found |= error.locked.is_some());
    found
}

/// Whether what was asked for does not fit into a message.
pub(crate) fn is_too_large(error: &Error) -> bool {
    matches!(error, Error::GrpcAPI(status) if matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted))
}

/// Whether TiKV has no space left.
pub(crate) fn is_disk_full(error: &Error) -> bool {
    let mut found = false;
    each(error, &mut |error| {
        if let Error::RegionError(region) = error {
            let region: &ProtoRegionError = region;
            found |= region.disk_full.is_some();
        }
    });
    found
}

/// Whether a record of the batch is larger than TiKV takes.
pub(crate) fn is_entry_too_large(error: &Error) -> bool {
    let mut found = false;
    each(error, &mut |error| {
        if let Error::RegionError(region) = error {
            let region: &ProtoRegionError = region;
            found |= region.raft_entry_too_large.is_some();
        }
    });
    found
}

/// The error in a line.
pub(crate) fn text(error: &Error) -> String {
    let text = error.to_string();
    match text.char_indices().nth(TEXT_CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn each_key_error(error: &Error, visit: &mut impl FnMut(&ProtoKeyError)) {
    each(error, &mut |error| {
        if let Error::KeyError(error) = error {
            visit(error);
        }
    });
}

/// Visits the error and all that it wraps: `tikv-client` wraps the same error in one way here and in another there.
fn each(error: &Error, visit: &mut impl FnMut(&Error)) {
    visit(error);
    match error {
        Error::MultipleKeyErrors(errors) | Error::ExtractedErrors(errors) => {
            errors.iter().for_each(|error| each(error, visit));
        }
        Error::UndeterminedError(error) => each(error, visit),
        Error::PessimisticLockError { inner, .. } => each(inner, visit),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(error: ProtoKeyError) -> Error {
        let inner = Error::MultipleKeyErrors(vec![Error::StringError("x".into()), error.into()]);
        Error::UndeterminedError(Box::new(Error::ExtractedErrors(vec![inner])))
    }

    fn exists() -> ProtoKeyError {
        let mut error = ProtoKeyError { already_exist: Some(Default::default()), ..Default::default() };
        if let Some(exists) = &mut error.already_exist {
            exists.key = b"k".to_vec();
        }
        error
    }

    fn conflict() -> ProtoKeyError {
        ProtoKeyError { conflict: Some(Default::default()), ..Default::default() }
    }

    #[test]
    fn a_refusal_is_found_however_deep_it_is_wrapped() {
        assert_eq!(refusal(&wrapped(exists())), Refusal::Exists("k".into()));
        assert_eq!(refusal(&wrapped(conflict())), Refusal::Conflict);
        let not_found = ProtoKeyError { txn_not_found: Some(Default::default()), ..Default::default() };
        assert!(is_txn_not_found(&wrapped(not_found.clone())) && is_about_locks(&wrapped(not_found)));
    }

    #[test]
    fn a_key_that_exists_says_more_than_a_conflict_beside_it() {
        for errors in [[exists(), conflict()], [conflict(), exists()]] {
            let error = Error::MultipleKeyErrors(errors.into_iter().map(Error::from).collect());
            assert_eq!(refusal(&error), Refusal::Exists("k".into()));
        }
    }

    #[test]
    fn whatever_says_nothing_for_certain_is_unclear() {
        let lost = Error::GrpcAPI(tonic::Status::unavailable("lost"));
        let aborted = ProtoKeyError { abort: "rolled back".into(), ..Default::default() };
        let busy = ProtoRegionError { server_is_busy: Some(Default::default()), ..Default::default() };
        for error in [lost, wrapped(aborted), busy.into(), Error::OnePcFailure] {
            assert_eq!(refusal(&error), Refusal::Unclear, "{error:?}");
        }
    }
}
