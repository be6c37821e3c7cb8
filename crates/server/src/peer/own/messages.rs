//! From and to the messages between a leader and its owners.

use layout::log::{Epoch, PartitionId, Slot};
use model::{LeaseId, Revision};
use partition::{Detached, FromOwner, Grant, Settled, Tenure, ToOwner};
use proto::peer as wire;
use proto::peer::own_request::Said as FromOwnerSaid;
use proto::peer::own_response::Said as ToOwnerSaid;

use crate::peer::convert::{event_to_wire, events_from_wire, revision_from_wire};

/// What an owner says, for the leader.
pub(in crate::peer) fn from_owner_to_wire(message: FromOwner) -> wire::OwnRequest {
    let (tenure, said) = match message {
        FromOwner::Owns(tenure) => (tenure, FromOwnerSaid::Owns(wire::Owns {})),
        FromOwner::Released(tenure) => (tenure, FromOwnerSaid::Released(wire::Released {})),
        FromOwner::Take(tenure, request, count, leases) => {
            let leases = leases.into_iter().map(|LeaseId(lease)| lease).collect();
            (tenure, FromOwnerSaid::Take(wire::Take { request, count: count as u64, leases }))
        }
        FromOwner::Settle(tenure, request, Settled { taker, slot: Slot(slot), events }) => {
            let events = events.iter().map(|event| event_to_wire(event)).collect();
            (tenure, FromOwnerSaid::Settle(wire::Settle { request, taker, slot, events }))
        }
        FromOwner::Detached(tenure, request, detached) => {
            let said = match detached {
                Ok(Detached { deleted, left }) => {
                    wire::Detached { request, deleted: deleted as u64, left: left as u64, failure: None }
                }
                Err(failure) => {
                    wire::Detached { request, failure: Some(failure), ..wire::Detached::default() }
                }
            };
            (tenure, FromOwnerSaid::Detached(said))
        }
    };
    wire::OwnRequest { hello: None, tenure: Some(tenure_to_wire(tenure)), said: Some(said) }
}

/// What an owner has said; the text says what is wrong with it.
pub(in crate::peer) fn from_owner(message: wire::OwnRequest) -> Result<FromOwner, String> {
    let tenure = tenure_from_wire(message.tenure)?;
    Ok(match message.said.ok_or("it says nothing")? {
        FromOwnerSaid::Owns(_) => FromOwner::Owns(tenure),
        FromOwnerSaid::Released(_) => FromOwner::Released(tenure),
        FromOwnerSaid::Take(wire::Take { request, count, leases }) => {
            let leases = leases.into_iter().map(LeaseId).collect();
            FromOwner::Take(tenure, request, size(count)?, leases)
        }
        FromOwnerSaid::Settle(wire::Settle { request, taker, slot, events }) => {
            let events = events_from_wire(events)?;
            FromOwner::Settle(tenure, request, Settled { taker, slot: Slot(slot), events })
        }
        FromOwnerSaid::Detached(wire::Detached { request, deleted, left, failure }) => {
            let detached = match failure {
                Some(failure) => Err(failure),
                None => Ok(Detached { deleted: size(deleted)?, left: size(left)? }),
            };
            FromOwner::Detached(tenure, request, detached)
        }
    })
}

/// What the leader says, for an owner.
pub(in crate::peer) fn to_owner_to_wire(message: ToOwner) -> wire::OwnResponse {
    let (tenure, said) = match message {
        ToOwner::Assign(tenure, Slot(slot), revision) => {
            (tenure, ToOwnerSaid::Assign(wire::Assign { slot, revision: revision.get() }))
        }
        ToOwner::Recall(tenure) => (tenure, ToOwnerSaid::Recall(wire::Recall {})),
        ToOwner::Granted(tenure, request, granted) => {
            (tenure, ToOwnerSaid::Granted(granted_to_wire(request, granted)))
        }
        ToOwner::Settled(tenure, request) => (tenure, ToOwnerSaid::Settled(request)),
        ToOwner::DeleteAttached(tenure, request, LeaseId(lease), count) => {
            let said = wire::DeleteAttached { request, lease, count: count as u64 };
            (tenure, ToOwnerSaid::DeleteAttached(said))
        }
    };
    wire::OwnResponse { tenure: Some(tenure_to_wire(tenure)), said: Some(said) }
}

/// What the leader has said; the text says what is wrong with it.
pub(in crate::peer) fn to_owner(message: wire::OwnResponse) -> Result<ToOwner, String> {
    let tenure = tenure_from_wire(message.tenure)?;
    Ok(match message.said.ok_or("it says nothing")? {
        ToOwnerSaid::Assign(wire::Assign { slot, revision }) => {
            ToOwner::Assign(tenure, Slot(slot), revision_from_wire(revision)?)
        }
        ToOwnerSaid::Recall(_) => ToOwner::Recall(tenure),
        ToOwnerSaid::Granted(granted) => {
            let request = granted.request;
            ToOwner::Granted(tenure, request, granted_from_wire(granted)?)
        }
        ToOwnerSaid::Settled(request) => ToOwner::Settled(tenure, request),
        ToOwnerSaid::DeleteAttached(wire::DeleteAttached { request, lease, count }) => {
            ToOwner::DeleteAttached(tenure, request, LeaseId(lease), size(count)?)
        }
    })
}

fn granted_to_wire(request: u64, granted: Result<Grant, String>) -> wire::Granted {
    match granted {
        Ok(Grant { taker, first, newest, compacted, attachable }) => wire::Granted {
            request,
            taker,
            first: first.get(),
            newest: newest.get(),
            compacted: compacted.map(Revision::get),
            attachable: attachable.into_iter().map(|LeaseId(lease)| lease).collect(),
            failure: None,
        },
        Err(failure) => wire::Granted { request, failure: Some(failure), ..wire::Granted::default() },
    }
}

fn granted_from_wire(granted: wire::Granted) -> Result<Result<Grant, String>, String> {
    let wire::Granted { taker, first, newest, compacted, attachable, failure, .. } = granted;
    if let Some(failure) = failure {
        return Ok(Err(failure));
    }
    Ok(Ok(Grant {
        taker,
        first: revision_from_wire(first)?,
        newest: revision_from_wire(newest)?,
        compacted: compacted.map(revision_from_wire).transpose()?,
        attachable: attachable.into_iter().map(LeaseId).collect(),
    }))
}

fn tenure_to_wire(Tenure { partition: PartitionId(partition), epoch: Epoch(epoch) }: Tenure) -> wire::Tenure {
    wire::Tenure { partition, epoch }
}

fn tenure_from_wire(tenure: Option<wire::Tenure>) -> Result<Tenure, String> {
    let wire::Tenure { partition, epoch } = tenure.ok_or("it names no tenure")?;
    Ok(Tenure { partition: PartitionId(partition), epoch: Epoch(epoch) })
}

fn size(size: u64) -> Result<usize, String> {
    usize::try_from(size).map_err(|_| format!("{size} is too large"))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    const TENURE: Tenure = Tenure { partition: PartitionId(3), epoch: Epoch(7 << 20 | 5) };

    #[test]
    fn what_the_leader_says_arrives_as_it_was_said() {
        let revision = Revision::new;
        let grant = Grant {
            taker: 9,
            first: revision(5),
            newest: revision(4),
            compacted: Some(revision(0)),
            attachable: vec![LeaseId(1), LeaseId(-2)],
        };
        for message in [
            ToOwner::Assign(TENURE, Slot(u64::MAX), revision(8)),
            ToOwner::Recall(TENURE),
            ToOwner::Granted(TENURE, 1, Ok(grant.clone())),
            ToOwner::Granted(TENURE, 1, Ok(Grant { compacted: None, attachable: Vec::new(), ..grant })),
            ToOwner::Granted(TENURE, 2, Err("why".to_owned())),
            ToOwner::Settled(TENURE, 0),
            ToOwner::DeleteAttached(TENURE, 3, LeaseId(5), 100),
        ] {
            let sent = to_owner_to_wire(message.clone()).encode_to_vec();
            assert_eq!(to_owner(wire::OwnResponse::decode(sent.as_slice()).unwrap()), Ok(message));
        }
    }

    #[test]
    fn what_an_owner_says_arrives_as_it_was_said() {
        for message in [
            FromOwner::Owns(TENURE),
            FromOwner::Released(TENURE),
            FromOwner::Take(TENURE, 1, 4096, vec![LeaseId(3)]),
            FromOwner::Settle(TENURE, 0, Settled { taker: 2, slot: Slot(6), events: Vec::new() }),
            FromOwner::Detached(TENURE, 4, Ok(Detached { deleted: 2, left: 1 })),
            FromOwner::Detached(TENURE, 4, Err("why".to_owned())),
        ] {
            let sent = from_owner_to_wire(message.clone()).encode_to_vec();
            let arrived = from_owner(wire::OwnRequest::decode(sent.as_slice()).unwrap()).unwrap();
            assert_eq!(format!("{arrived:?}"), format!("{message:?}"));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(to_owner(wire::OwnResponse::default()).is_err());
        assert!(from_owner(wire::OwnRequest::default()).is_err());
        let tenure = Some(tenure_to_wire(TENURE));
        let assign = wire::Assign { slot: 1, revision: -1 };
        let said = Some(ToOwnerSaid::Assign(assign));
        assert!(to_owner(wire::OwnResponse { tenure, said }).is_err());
    }
}
