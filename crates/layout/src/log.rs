//! A partition's log: dense slots, each written once by whoever owned the partition then.

use bytes::{BufMut, Bytes, BytesMut};
use model::{Change, ChangeKind, Key, LeaseId, Revision};

use crate::codec::{Damaged, Reader, put_varint, seal, unseal};
use crate::index::{put_meta, take_meta};
use crate::keyspace::{KeySpace, Kind, Span};
use crate::system::Alarm;

/// The number of a partition. 0 is the system partition: its log holds leases, alarms and the compacted revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u32);

impl PartitionId {
    /// The system partition.
    pub const SYSTEM: PartitionId = PartitionId(0);

    /// The partition of the lowest user keys: of all of them, as long as they are not split.
    pub const FIRST: PartitionId = PartitionId(1);
}

/// A position in a partition's log. The first is 1; there are no holes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u64);

impl Slot {
    /// The slot after this one.
    pub const fn next(self) -> Slot {
        Slot(self.0 + 1)
    }
}

/// How often a partition has changed hands. Never decreases along a log; one epoch has one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// In the epoch of a partition of user keys, the term is above this many bits, and how often the partition has changed
/// hands in that term below.
const HANDS_BITS: u32 = 20;

impl Epoch {
    /// The epoch at which a partition of user keys has its owner: the leader's `term`, which is an epoch of the system
    /// partition, and how often the leader has given the partition into other hands since. Whatever a later leader does
    /// is above all that an earlier one has done, however late.
    ///
    /// `None` when a partition has changed hands more often than there is room for.
    pub fn in_term(term: Epoch, hands: u32) -> Option<Epoch> {
        (hands < 1 << HANDS_BITS).then(|| Epoch(term.0 << HANDS_BITS | u64::from(hands)))
    }
}

/// One life of one process: drawn at start, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation(pub u128);

/// What one slot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// The owner's epoch.
    pub epoch: Epoch,
    /// The owner.
    pub owner: Incarnation,
    /// The owner's name for this record, by which it knows its own after an unclear outcome.
    pub batch: u64,
    /// The partition's revision when this slot is applied: that of the last change in this slot or before it.
    pub revision: Revision,
    /// What happened.
    pub body: Body,
}

/// What happened in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// The owner took the partition over.
    Takeover,
    /// The owner has given the partition up: whoever sees this as the newest slot may take over at once.
    Released,
    /// Nothing: the slot was filled so that a batch whose outcome was unclear can never take it.
    Filler,
    /// User transactions changed keys; in the order of their revisions.
    Changes(Vec<Change>),
    /// The system partition's state changed.
    System(Vec<SystemChange>),
}

/// A change of the system partition's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemChange {
    /// A lease was granted with this time to live in seconds.
    LeaseGranted(LeaseId, i64),
    /// A lease's revocation has begun: its keys go, and nothing can be attached to it any more.
    LeaseRevoking(LeaseId),
    /// A lease's keys are gone, and so is the lease.
    LeaseRevoked(LeaseId),
    /// History below this revision is given up.
    Compacted(Revision),
    /// An alarm was raised.
    AlarmRaised(Alarm),
    /// An alarm was cleared.
    AlarmCleared(Alarm),
}

const ENCODING: u8 = 1;
const TAKEOVER: u8 = 1;
const FILLER: u8 = 2;
const CHANGES: u8 = 3;
const SYSTEM: u8 = 4;
const RELEASED: u8 = 5;
const PUT: u8 = 1;
const DELETE: u8 = 2;
const LEASE_GRANTED: u8 = 1;
const LEASE_REVOKING: u8 = 2;
const LEASE_REVOKED: u8 = 3;
const COMPACTED: u8 = 4;
const ALARM_RAISED: u8 = 5;
const ALARM_CLEARED: u8 = 6;

impl KeySpace {
    /// Where a slot is.
    pub fn log_key(&self, partition: PartitionId, slot: Slot) -> Bytes {
        let mut key = self.key(Kind::Log, 12);
        key.put_u32(partition.0);
        key.put_u64(slot.0);
        key.freeze()
    }

    /// The slots of a partition from `first` on.
    pub fn log_span(&self, partition: PartitionId, first: Slot) -> Span {
        let mut end = self.key(Kind::Log, 12);
        end.put_u32(partition.0);
        end.put_bytes(0xff, 8);
        end.put_u8(0);
        Span { start: self.log_key(partition, first), end: end.freeze() }
    }

    /// The slot that a log record's key names.
    pub fn decode_log_key(&self, record_key: &Bytes) -> Result<(PartitionId, Slot), Damaged> {
        let read = || {
            let rest = self.strip(Kind::Log, record_key)?;
            let (partition, slot) = rest.split_at_checked(4)?;
            let partition = u32::from_be_bytes(partition.try_into().ok()?);
            let slot = u64::from_be_bytes(slot.try_into().ok()?);
            Some((PartitionId(partition), Slot(slot)))
        };
        read().ok_or_else(|| damaged(record_key, "its key is no log key"))
    }

    /// The value of a slot.
    pub fn encode_log(&self, record_key: &[u8], record: &LogRecord) -> Bytes {
        let mut value = BytesMut::with_capacity(64 + record.body.len_hint());
        value.put_u8(ENCODING);
        put_varint(&mut value, record.epoch.0);
        value.put_u128(record.owner.0);
        put_varint(&mut value, record.batch);
        put_varint(&mut value, record.revision.get().unsigned_abs());
        match &record.body {
            Body::Takeover => value.put_u8(TAKEOVER),
            Body::Filler => value.put_u8(FILLER),
            Body::Released => value.put_u8(RELEASED),
            Body::Changes(changes) => put_changes(&mut value, changes),
            Body::System(changes) => put_system(&mut value, changes),
        }
        seal(self.sealed_part(record_key), value)
    }

    /// What a slot holds.
    pub fn decode_log(&self, record_key: &Bytes, value: &Bytes) -> Result<LogRecord, Damaged> {
        let read = || {
            let mut reader = Reader::new(unseal(self.sealed_part(record_key), value)?);
            if reader.u8()? != ENCODING {
                return Err("its encoding is unknown");
            }
            let record = LogRecord {
                epoch: Epoch(reader.varint()?),
                owner: Incarnation(reader.u128()?),
                batch: reader.varint()?,
                revision: Revision::new(reader.positive()?),
                body: match reader.u8()? {
                    TAKEOVER => Body::Takeover,
                    FILLER => Body::Filler,
                    RELEASED => Body::Released,
                    CHANGES => Body::Changes(take_changes(&mut reader)?),
                    SYSTEM => Body::System(take_system(&mut reader)?),
                    _ => return Err("it holds something unknown"),
                },
            };
            reader.end()?;
            Ok(record)
        };
        read().map_err(|reason| damaged(record_key, reason))
    }
}

fn damaged(record_key: &[u8], reason: &'static str) -> Damaged {
    Damaged { kind: "log", key: record_key.escape_ascii().to_string(), reason }
}

impl Body {
    fn len_hint(&self) -> usize {
        match self {
            Body::Takeover | Body::Released | Body::Filler => 1,
            Body::Changes(changes) => changes.iter().map(|change| change.key.as_slice().len() + 32).sum(),
            Body::System(changes) => changes.len() * 20,
        }
    }
}

fn put_changes(value: &mut BytesMut, changes: &[Change]) {
    value.put_u8(CHANGES);
    put_varint(value, changes.len() as u64);
    for change in changes {
        put_varint(value, change.revision.get().unsigned_abs());
        put_varint(value, change.previous.get().unsigned_abs());
        put_varint(value, change.key.as_slice().len() as u64);
        value.extend_from_slice(change.key.as_slice());
        match &change.kind {
            ChangeKind::Put(meta) => {
                value.put_u8(PUT);
                put_meta(value, meta);
            }
            ChangeKind::Delete => value.put_u8(DELETE),
        }
    }
}

fn take_changes(reader: &mut Reader) -> Result<Vec<Change>, &'static str> {
    // The count is not trusted with an allocation: each change is read before there is room for the next.
    let count = reader.varint()?;
    let mut changes = Vec::new();
    for _ in 0..count {
        let revision = Revision::new(reader.positive()?);
        let previous = Revision::new(reader.positive()?);
        let key = Key::new(reader.bytes()?).map_err(|_| "a key is empty")?;
        let kind = match reader.u8()? {
            PUT => ChangeKind::Put(take_meta(reader)?),
            DELETE => ChangeKind::Delete,
            _ => return Err("a change is of an unknown kind"),
        };
        changes.push(Change { revision, key, kind, previous });
    }
    Ok(changes)
}

fn put_system(value: &mut BytesMut, changes: &[SystemChange]) {
    value.put_u8(SYSTEM);
    put_varint(value, changes.len() as u64);
    for change in changes {
        let (kind, number) = match *change {
            SystemChange::LeaseGranted(lease, _) => (LEASE_GRANTED, lease.0.cast_unsigned()),
            SystemChange::LeaseRevoking(lease) => (LEASE_REVOKING, lease.0.cast_unsigned()),
            SystemChange::LeaseRevoked(lease) => (LEASE_REVOKED, lease.0.cast_unsigned()),
            SystemChange::Compacted(revision) => (COMPACTED, revision.get().unsigned_abs()),
            SystemChange::AlarmRaised(alarm) => (ALARM_RAISED, alarm as u64),
            SystemChange::AlarmCleared(alarm) => (ALARM_CLEARED, alarm as u64),
        };
        value.put_u8(kind);
        put_varint(value, number);
        if let SystemChange::LeaseGranted(_, ttl_secs) = *change {
            put_varint(value, ttl_secs.unsigned_abs());
        }
    }
}

fn take_system(reader: &mut Reader) -> Result<Vec<SystemChange>, &'static str> {
    let count = reader.varint()?;
    let mut changes = Vec::new();
    for _ in 0..count {
        let kind = reader.u8()?;
        let number = reader.varint()?;
        let lease = LeaseId(number.cast_signed());
        let alarm = || u8::try_from(number).ok().and_then(Alarm::from_number).ok_or("an alarm is unknown");
        changes.push(match kind {
            LEASE_GRANTED => SystemChange::LeaseGranted(lease, reader.positive()?),
            LEASE_REVOKING => SystemChange::LeaseRevoking(lease),
            LEASE_REVOKED => SystemChange::LeaseRevoked(lease),
            COMPACTED => {
                let revision = i64::try_from(number).map_err(|_| "a number is too large")?;
                SystemChange::Compacted(Revision::new(revision))
            }
            ALARM_RAISED => SystemChange::AlarmRaised(alarm()?),
            ALARM_CLEARED => SystemChange::AlarmCleared(alarm()?),
            _ => return Err("a change is of an unknown kind"),
        });
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::tests::{any_key, any_meta};

    fn any_revision() -> impl Strategy<Value = Revision> {
        (0..i64::MAX).prop_map(Revision::new)
    }

    fn any_change() -> impl Strategy<Value = Change> {
        let kind = prop_oneof![any_meta().prop_map(ChangeKind::Put), Just(ChangeKind::Delete)];
        (any_revision(), any_key(), kind, any_revision()).prop_map(|(revision, key, kind, previous)| Change {
            revision,
            key,
            kind,
            previous,
        })
    }

    fn any_system_change() -> impl Strategy<Value = SystemChange> {
        prop_oneof![
            (any::<i64>(), 0..i64::MAX).prop_map(|(id, ttl)| SystemChange::LeaseGranted(LeaseId(id), ttl)),
            any::<i64>().prop_map(|id| SystemChange::LeaseRevoking(LeaseId(id))),
            any::<i64>().prop_map(|id| SystemChange::LeaseRevoked(LeaseId(id))),
            any_revision().prop_map(SystemChange::Compacted),
            Just(SystemChange::AlarmRaised(Alarm::NoSpace)),
            Just(SystemChange::AlarmCleared(Alarm::Corrupt)),
        ]
    }

    fn any_record() -> impl Strategy<Value = LogRecord> {
        let body = prop_oneof![
            Just(Body::Takeover),
            Just(Body::Filler),
            Just(Body::Released),
            proptest::collection::vec(any_change(), 0..5).prop_map(Body::Changes),
            proptest::collection::vec(any_system_change(), 0..5).prop_map(Body::System),
        ];
        (any::<u64>(), any::<u128>(), any::<u64>(), any_revision(), body).prop_map(
            |(epoch, owner, batch, revision, body)| LogRecord {
                epoch: Epoch(epoch),
                owner: Incarnation(owner),
                batch,
                revision,
                body,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(partition: u32, slot: u64, record in any_record()) {
            let space = KeySpace::new("p").unwrap();
            let key = space.log_key(PartitionId(partition), Slot(slot));
            let value = space.encode_log(&key, &record);
            prop_assert_eq!(space.decode_log(&key, &value), Ok(record));
            prop_assert_eq!(space.decode_log_key(&key), Ok((PartitionId(partition), Slot(slot))));
        }

        #[test]
        fn slots_lie_in_their_order_and_apart_from_other_partitions(a: (u32, u64), b: (u32, u64)) {
            let space = KeySpace::new("p").unwrap();
            let at = |(partition, slot)| space.log_key(PartitionId(partition), Slot(slot));
            prop_assert_eq!(at(a).cmp(&at(b)), a.cmp(&b));
            let span = space.log_span(PartitionId(a.0), Slot(a.1));
            prop_assert_eq!(span.start <= at(b) && at(b) < span.end, a.0 == b.0 && a.1 <= b.1);
        }

        #[test]
        fn bytes_that_nobody_wrote_are_refused_without_harm(value: Vec<u8>) {
            let space = KeySpace::new("").unwrap();
            let key = space.log_key(PartitionId(1), Slot(1));
            // With a right checksum too: damage must not be able to make the reader allocate or loop.
            let sealed = seal(space.sealed_part(&key), BytesMut::from(value.as_slice()));
            let _: Result<_, Damaged> = space.decode_log(&key, &sealed);
            prop_assert!(space.decode_log(&key, &value.into()).is_err());
        }
    }
}
