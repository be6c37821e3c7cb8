//! The state of the system partition: leases and alarms, one record each.

use bytes::{BufMut, Bytes, BytesMut};
use model::LeaseId;

use crate::codec::{Damaged, Reader, put_varint, seal, unseal};
use crate::keyspace::{KeySpace, Kind, Span};

const ENCODING: u8 = 1;
const LEASE: u8 = 1;
const ALARM: u8 = 2;

/// A lease as it is stored: no deadline, because a restart gives every live lease its full time again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRecord {
    /// The time to live granted, in seconds.
    pub ttl_secs: i64,
    /// Whether it is being revoked: its keys are going, and it never becomes live again.
    pub revoking: bool,
}

/// What an alarm is about; the numbers are those of etcd's `AlarmType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Alarm {
    /// The quota is used up: no new data is taken.
    NoSpace = 1,
    /// Stored data was found damaged.
    Corrupt = 2,
}

impl Alarm {
    /// The alarm with this number.
    pub fn from_number(number: u8) -> Option<Alarm> {
        [Alarm::NoSpace, Alarm::Corrupt].into_iter().find(|&alarm| alarm as u8 == number)
    }
}

/// A record of the system partition's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemRecord {
    /// A lease.
    Lease(LeaseId, LeaseRecord),
    /// An alarm that is raised.
    Alarm(Alarm),
}

impl KeySpace {
    /// Where a lease is.
    pub fn lease_key(&self, lease: LeaseId) -> Bytes {
        let mut key = self.key(Kind::System, 9);
        key.put_u8(LEASE);
        key.put_u64(lease.0.cast_unsigned());
        key.freeze()
    }

    /// Where a raised alarm is.
    pub fn alarm_key(&self, alarm: Alarm) -> Bytes {
        let mut key = self.key(Kind::System, 2);
        key.put_u8(ALARM);
        key.put_u8(alarm as u8);
        key.freeze()
    }

    /// Every record of the system partition's state.
    pub fn system_span(&self) -> Span {
        self.all(Kind::System)
    }

    /// The value of a lease's record.
    pub fn encode_lease(&self, record_key: &[u8], lease: LeaseRecord) -> Bytes {
        let mut value = BytesMut::with_capacity(16);
        value.put_u8(ENCODING);
        put_varint(&mut value, lease.ttl_secs.unsigned_abs());
        value.put_u8(lease.revoking.into());
        seal(self.sealed_part(record_key), value)
    }

    /// The value of a raised alarm's record.
    pub fn encode_alarm(&self, record_key: &[u8]) -> Bytes {
        let mut value = BytesMut::with_capacity(8);
        value.put_u8(ENCODING);
        seal(self.sealed_part(record_key), value)
    }

    /// What a record of the system partition's state says.
    pub fn decode_system(&self, record_key: &Bytes, value: &Bytes) -> Result<SystemRecord, Damaged> {
        let read = || {
            let mut reader = Reader::new(unseal(self.sealed_part(record_key), value)?);
            if reader.u8()? != ENCODING {
                return Err("its encoding is unknown");
            }
            let key = self.strip(Kind::System, record_key).ok_or("its key is no system key")?;
            let record = match key.split_first() {
                Some((&LEASE, id)) => {
                    let id = <[u8; 8]>::try_from(id).map_err(|_| "its key has no lease id")?;
                    let ttl_secs = reader.positive()?;
                    let revoking = match reader.u8()? {
                        0 => false,
                        1 => true,
                        _ => return Err("its state is unknown"),
                    };
                    SystemRecord::Lease(LeaseId(i64::from_be_bytes(id)), LeaseRecord { ttl_secs, revoking })
                }
                Some((&ALARM, &[number])) => {
                    SystemRecord::Alarm(Alarm::from_number(number).ok_or("its alarm is unknown")?)
                }
                _ => return Err("its key is neither a lease nor an alarm"),
            };
            reader.end()?;
            Ok(record)
        };
        read().map_err(|reason| Damaged {
            kind: "system",
            key: record_key.escape_ascii().to_string(),
            reason,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(id: i64, ttl_secs in 0..i64::MAX, revoking: bool) {
            let space = KeySpace::new("p").unwrap();
            let (key, record) = (space.lease_key(LeaseId(id)), LeaseRecord { ttl_secs, revoking });
            let value = space.encode_lease(&key, record);
            prop_assert_eq!(space.decode_system(&key, &value), Ok(SystemRecord::Lease(LeaseId(id), record)));
        }
    }

    #[test]
    fn a_state_that_nobody_writes_is_refused() {
        let space = KeySpace::new("p").unwrap();
        let key = space.lease_key(LeaseId(7));
        let value = seal(space.sealed_part(&key), BytesMut::from([ENCODING, 60, 9].as_slice()));
        assert_eq!(space.decode_system(&key, &value).unwrap_err().reason, "its state is unknown");
    }

    #[test]
    fn a_raised_alarm_reads_back() {
        let space = KeySpace::new("").unwrap();
        for alarm in [Alarm::NoSpace, Alarm::Corrupt] {
            let key = space.alarm_key(alarm);
            let value = space.encode_alarm(&key);
            assert_eq!(space.decode_system(&key, &value), Ok(SystemRecord::Alarm(alarm)));
        }
    }
}
