//! From and to the messages between members.

use std::sync::Arc;

use bytes::Bytes;
use fleet::Member;
use model::{Event, EventBatch, Revision};
use prost::Message;
use proto::peer as wire;

/// A member as it is described to others.
pub(super) fn member_to_wire(member: Member) -> wire::Member {
    let Member { name, incarnation, client_urls, peer_urls, version } = member;
    let (high, low) = ((incarnation >> 64) as u64, incarnation as u64);
    wire::Member { name, incarnation_high: high, incarnation_low: low, client_urls, peer_urls, version }
}

/// A member as another one described it.
pub(super) fn member_from_wire(member: wire::Member) -> Member {
    let wire::Member { name, incarnation_high, incarnation_low, client_urls, peer_urls, version } = member;
    let incarnation = u128::from(incarnation_high) << 64 | u128::from(incarnation_low);
    Member { name, incarnation, client_urls, peer_urls, version }
}

/// A batch, encoded for all who follow.
pub(super) fn batch_to_wire(batch: &EventBatch) -> Bytes {
    let batch = wire::Batch {
        after: batch.after.get(),
        revision: batch.revision.get(),
        events: batch.events.iter().map(|event| event_to_wire(event)).collect(),
    };
    batch.encode_to_vec().into()
}

/// An event, for another member.
pub(super) fn event_to_wire(event: &Event) -> wire::Event {
    wire::Event {
        previous: event.change.previous.get(),
        deletes: event.is_delete(),
        key_value: event.key_value.clone(),
    }
}

/// Events as another member sent them, in the order of their revisions; the text says what is wrong with those that make
/// no sense.
pub(super) fn events_from_wire(events: Vec<wire::Event>) -> Result<Vec<Arc<Event>>, String> {
    let mut read: Vec<Arc<Event>> = Vec::with_capacity(events.len());
    for wire::Event { previous, deletes, key_value } in events {
        let previous = revision_from_wire(previous)?;
        let event = partition::event_of(key_value, previous, deletes).map_err(str::to_owned)?;
        let at = event.change.revision;
        if previous >= at || read.last().is_some_and(|last| at < last.change.revision) {
            return Err(format!("an event at {at} is out of order"));
        }
        read.push(Arc::new(event));
    }
    Ok(read)
}

/// A batch as the leader sent it; the text says what is wrong with one that makes no sense.
pub(super) fn batch_from_wire(batch: wire::Batch) -> Result<EventBatch, String> {
    let wire::Batch { after, revision, events } = batch;
    let (after, revision) = (revision_from_wire(after)?, revision_from_wire(revision)?);
    let read = events_from_wire(events)?;
    let (first, last) = (read.first(), read.last());
    let outside = first.filter(|event| event.change.revision <= after);
    let outside = outside.or(last.filter(|event| event.change.revision > revision));
    if let Some(at) = outside.map(|event| event.change.revision) {
        return Err(format!("an event at {at} is in the batch after {after} through {revision}"));
    }
    if revision <= after {
        return Err(format!("a batch goes from {after} to {revision}"));
    }
    Ok(EventBatch { after, revision, events: read })
}

/// A revision that another member named.
pub(super) fn revision_from_wire(revision: i64) -> Result<Revision, String> {
    match revision {
        0.. => Ok(Revision::new(revision)),
        _ => Err(format!("{revision} is no revision")),
    }
}

#[cfg(test)]
mod tests {
    use layout::object::encode_deleted;
    use model::{Change, ChangeKind, Key, KeyMeta, LeaseId};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proto::mvccpb::KeyValue;

    use super::*;

    fn event(key: &[u8], revision: i64, previous: i64, value: Option<Vec<u8>>) -> Arc<Event> {
        let key = Key::new(Bytes::copy_from_slice(key)).unwrap();
        let (revision, previous) = (Revision::new(revision), Revision::new(previous));
        let (kind, key_value) = match value {
            None => (ChangeKind::Delete, encode_deleted(key.as_slice(), revision)),
            Some(value) => {
                let meta = KeyMeta {
                    create_revision: revision,
                    mod_revision: revision,
                    version: 1,
                    lease: LeaseId(7),
                    value_len: u32::try_from(value.len()).unwrap(),
                };
                let key_value = KeyValue {
                    key: key.bytes().clone(),
                    create_revision: revision.get(),
                    mod_revision: revision.get(),
                    version: 1,
                    value: value.into(),
                    lease: 7,
                };
                (ChangeKind::Put(meta), key_value.encode_to_vec().into())
            }
        };
        Arc::new(Event::new(Change { revision, key, kind, previous }, key_value))
    }

    fn sent(batch: &EventBatch) -> Result<EventBatch, String> {
        batch_from_wire(wire::Batch::decode(batch_to_wire(batch)).unwrap())
    }

    proptest! {
        #[test]
        fn a_batch_arrives_as_it_was_published(
            events in vec((vec(any::<u8>(), 1..9), proptest::option::of(vec(any::<u8>(), 0..30)), any::<bool>()), 1..20),
        ) {
            let mut revision = 5;
            let events = events.into_iter().map(|(key, value, is_new)| {
                revision += i64::from(is_new || revision == 5);
                event(&key, revision, revision - 3, value)
            });
            let events: Vec<_> = events.collect();
            let batch = EventBatch { after: Revision::new(5), revision: Revision::new(revision), events };
            let arrived = sent(&batch).unwrap();
            prop_assert_eq!((arrived.after, arrived.revision), (batch.after, batch.revision));
            prop_assert_eq!(arrived.events.len(), batch.events.len());
            for (arrived, sent) in arrived.events.iter().zip(&batch.events) {
                prop_assert_eq!(&arrived.change, &sent.change);
                prop_assert_eq!(&arrived.key_value, &sent.key_value);
            }
        }

        #[test]
        fn a_member_arrives_as_it_described_itself(name: String, incarnation: u128, urls: Vec<String>) {
            let member = Member {
                name, incarnation, client_urls: urls.clone(), peer_urls: urls, version: "1".to_owned(),
            };
            prop_assert_eq!(member_from_wire(member_to_wire(member.clone())), member);
        }
    }

    #[test]
    fn a_batch_that_makes_no_sense_is_refused() {
        let batch = |after: i64, revision: i64, at: &[i64]| EventBatch {
            after: Revision::new(after),
            revision: Revision::new(revision),
            events: at.iter().map(|&at| event(b"k", at, 0, None)).collect(),
        };
        assert!(sent(&batch(5, 7, &[6, 6, 7])).is_ok());
        for wrong in [batch(5, 5, &[]), batch(5, 7, &[5]), batch(5, 7, &[8]), batch(5, 7, &[7, 6])] {
            assert!(sent(&wrong).is_err(), "{wrong:?}");
        }
    }
}
