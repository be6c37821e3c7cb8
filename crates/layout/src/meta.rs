//! Facts about the whole store: what format it has, whose it is, how far it is compacted.

use bytes::{BufMut, Bytes, BytesMut};
use model::Revision;

use crate::codec::{Damaged, Reader, put_varint, seal, unseal};
use crate::keyspace::{KeySpace, Kind, Span};
use crate::log::{Epoch, Incarnation, PartitionId, Slot};

/// The format that this version writes. One that is larger was written by a newer version: it must not be opened.
pub const FORMAT: u32 = 1;

/// The format of what an import has not finished: no version opens it.
pub const UNFINISHED: u32 = u32::MAX - 1;

/// The record that is written first and says what the others are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The format of all records.
    pub format: u32,
    /// The cluster that they belong to: random, never zero.
    pub cluster_id: u64,
}

/// How far the reclaiming of a partition's log has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Every change in this slot and those before it has been reclaimed.
    pub changes_through: Slot,
    /// This slot and those before it may be gone. Written before slots go, so that "the slot is absent" can be
    /// told from "the slot was removed".
    pub trimmed_through: Slot,
}

/// Who took the system partition over last, and where it is reached. Written together with the takeover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The epoch of the takeover: the term.
    pub epoch: Epoch,
    /// The process.
    pub incarnation: Incarnation,
    /// What it is called.
    pub name: String,
    /// Where other members reach it; empty where there are none.
    pub peer_url: String,
}

impl KeySpace {
    /// Where the [`Identity`] is.
    pub fn identity_key(&self) -> Bytes {
        self.meta("identity")
    }

    /// Where the compacted revision is.
    pub fn compacted_key(&self) -> Bytes {
        self.meta("compacted")
    }

    /// Where a partition's [`Reclaimed`] is.
    pub fn reclaimed_key(&self, partition: PartitionId) -> Bytes {
        self.meta(&format!("reclaimed/{}", partition.0))
    }

    /// Where the [`Leader`] is.
    pub fn leader_key(&self) -> Bytes {
        self.meta("leader")
    }

    /// Every record about the whole store.
    pub fn meta_span(&self) -> Span {
        self.all(Kind::Meta)
    }

    pub(crate) fn meta(&self, name: &str) -> Bytes {
        let mut key = self.key(Kind::Meta, name.len());
        key.extend_from_slice(name.as_bytes());
        key.freeze()
    }

    /// The value of the identity record.
    pub fn encode_identity(&self, identity: Identity) -> Bytes {
        self.encode_numbers(&self.identity_key(), &[identity.format.into(), identity.cluster_id])
    }

    /// What the identity record says.
    pub fn decode_identity(&self, value: &Bytes) -> Result<Identity, Damaged> {
        let [format, cluster_id] = self.decode_numbers(&self.identity_key(), value)?;
        // A format that does not even fit is newer than ours in any case.
        Ok(Identity { format: u32::try_from(format).unwrap_or(u32::MAX), cluster_id })
    }

    /// The value of the record of the compacted revision.
    pub fn encode_compacted(&self, revision: Revision) -> Bytes {
        self.encode_numbers(&self.compacted_key(), &[revision.get().unsigned_abs()])
    }

    /// What the record of the compacted revision says.
    pub fn decode_compacted(&self, value: &Bytes) -> Result<Revision, Damaged> {
        let key = self.compacted_key();
        let [revision] = self.decode_numbers(&key, value)?;
        i64::try_from(revision).map(Revision::new).map_err(|_| damaged(&key, "a number is too large"))
    }

    /// The value of a partition's reclaiming record.
    pub fn encode_reclaimed(&self, partition: PartitionId, reclaimed: Reclaimed) -> Bytes {
        let numbers = [reclaimed.changes_through.0, reclaimed.trimmed_through.0];
        self.encode_numbers(&self.reclaimed_key(partition), &numbers)
    }

    /// What a partition's reclaiming record says.
    pub fn decode_reclaimed(&self, partition: PartitionId, value: &Bytes) -> Result<Reclaimed, Damaged> {
        let [changes, trimmed] = self.decode_numbers(&self.reclaimed_key(partition), value)?;
        Ok(Reclaimed { changes_through: Slot(changes), trimmed_through: Slot(trimmed) })
    }

    /// The value of the record of the leader.
    pub fn encode_leader(&self, leader: &Leader) -> Bytes {
        let mut value = BytesMut::with_capacity(64 + leader.name.len() + leader.peer_url.len());
        value.put_u8(ENCODING);
        put_varint(&mut value, leader.epoch.0);
        value.put_u128(leader.incarnation.0);
        for text in [&leader.name, &leader.peer_url] {
            put_varint(&mut value, text.len() as u64);
            value.extend_from_slice(text.as_bytes());
        }
        seal(self.sealed_part(&self.leader_key()), value)
    }

    /// What the record of the leader says.
    pub fn decode_leader(&self, value: &Bytes) -> Result<Leader, Damaged> {
        let key = self.leader_key();
        let read = || {
            let mut reader = Reader::new(unseal(self.sealed_part(&key), value)?);
            if reader.u8()? != ENCODING {
                return Err("its encoding is unknown");
            }
            let (epoch, incarnation) = (Epoch(reader.varint()?), Incarnation(reader.u128()?));
            let (name, peer_url) = (text(&mut reader)?, text(&mut reader)?);
            reader.end()?;
            Ok(Leader { epoch, incarnation, name, peer_url })
        };
        read().map_err(|reason| damaged(&key, reason))
    }

    fn encode_numbers(&self, key: &[u8], numbers: &[u64]) -> Bytes {
        let mut value = BytesMut::with_capacity(32);
        value.put_u8(ENCODING);
        for &number in numbers {
            put_varint(&mut value, number);
        }
        seal(self.sealed_part(key), value)
    }

    fn decode_numbers<const N: usize>(&self, key: &Bytes, value: &Bytes) -> Result<[u64; N], Damaged> {
        let read = || {
            let mut reader = Reader::new(unseal(self.sealed_part(key), value)?);
            if reader.u8()? != ENCODING {
                return Err("its encoding is unknown");
            }
            let mut numbers = [0; N];
            for number in &mut numbers {
                *number = reader.varint()?;
            }
            reader.end()?;
            Ok(numbers)
        };
        read().map_err(|reason| damaged(key, reason))
    }
}

const ENCODING: u8 = 1;

fn text(reader: &mut Reader) -> Result<String, &'static str> {
    String::from_utf8(reader.bytes()?.into()).map_err(|_| "a text is not UTF-8")
}

fn damaged(key: &[u8], reason: &'static str) -> Damaged {
    Damaged { kind: "meta", key: key.escape_ascii().to_string(), reason }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(format: u32, cluster_id: u64, revision in 0..i64::MAX, a: u64, b: u64, p: u32) {
            let space = KeySpace::new("blue").unwrap();
            let identity = Identity { format, cluster_id };
            prop_assert_eq!(space.decode_identity(&space.encode_identity(identity)), Ok(identity));
            let revision = Revision::new(revision);
            prop_assert_eq!(space.decode_compacted(&space.encode_compacted(revision)), Ok(revision));
            let reclaimed = Reclaimed { changes_through: Slot(a), trimmed_through: Slot(b) };
            let partition = PartitionId(p);
            prop_assert_eq!(
                space.decode_reclaimed(partition, &space.encode_reclaimed(partition, reclaimed)),
                Ok(reclaimed)
            );
        }
    }

    proptest! {
        #[test]
        fn who_leads_reads_back(epoch: u64, incarnation: u128, name: String, peer_url: String) {
            let space = KeySpace::new("blue").unwrap();
            let leader = Leader { epoch: Epoch(epoch), incarnation: Incarnation(incarnation), name, peer_url };
            prop_assert_eq!(space.decode_leader(&space.encode_leader(&leader)), Ok(leader));
        }
    }

    #[test]
    fn a_record_under_another_records_key_is_damage() {
        let space = KeySpace::new("").unwrap();
        let value = space.encode_reclaimed(PartitionId(1), Reclaimed::default());
        let error = space.decode_reclaimed(PartitionId(2), &value).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the meta record \\x01reclaimed/2 is damaged: its checksum does not match"
        );
    }
}
