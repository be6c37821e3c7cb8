use bbolt::{EntryError, Planner};
use bytes::Bytes;
use model::{LeaseId, Revision};
use prost::Message;
use proto::mvccpb::KeyValue;
use ring::digest::{Context, SHA256};
use thiserror::Error;

use crate::catalogue::{Catalogue, Listed};
use crate::schema::{
    ALARM, AUTH, AUTH_REVISION, AUTH_ROLES, AUTH_USERS, CLUSTER, CLUSTER_VERSION, CONF_STATE,
    CONSISTENT_INDEX, FINISHED_COMPACT, KEY, LEASE, Lease, MEMBERS, MEMBERS_REMOVED, META, SCHEDULED_COMPACT,
    STORAGE_VERSION, STORAGE_VERSION_KEY, TERM, revision_key,
};

/// What a snapshot says beside its keys.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The revision of the store. History below it is marked as compacted.
    pub revision: Revision,
    /// Leases with their times to live in seconds, as they were granted.
    pub leases: Vec<(LeaseId, i64)>,
    /// The member that makes the snapshot.
    pub member: Member,
    /// The term in which it is made, at least 1.
    pub term: u64,
}

/// A member of a cluster. Whoever restores a snapshot names new ones.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its id, not 0.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
}

/// Why a snapshot cannot be written. What was taken of it is of no use.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WriteError {
    /// The file cannot take it, or it is not what the file was laid out for.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The store gave another version of a key than it had said.
    #[error("the version of the key {0} at revision {1} is not as long as the index says")]
    Length(String, Revision),
}

type Records = Vec<(Bytes, Bytes)>;

/// Writes a snapshot: told at once what it will hold, then given the versions in their order.
pub struct Writer {
    catalogue: Catalogue,
    after: [(&'static [u8], Records); 4],
    file: bbolt::Writer,
    file_len: u64,
    next: usize,
    /// The revision of the version before the next one, and its place.
    before: Option<(Revision, u64)>,
    is_finished: bool,
    digest: Context,
}

impl Writer {
    /// A writer of a snapshot of the versions in `catalogue`.
    pub fn new(facts: &Facts, mut catalogue: Catalogue) -> Result<Writer, WriteError> {
        catalogue.sort();
        let (before, after) = (buckets_before(), buckets_after(facts)?);
        let mut planner = Planner::new();
        let plan = |planner: &mut Planner, (name, records): &(&[u8], Records)| {
            planner.bucket(name)?;
            records.iter().try_for_each(|(key, value)| planner.entry(key, value.len()))
        };
        before.iter().try_for_each(|bucket| plan(&mut planner, bucket))?;
        planner.bucket(KEY)?;
        let (mut at, mut last) = (0, None);
        while let Some(listed) = catalogue.get(at, last) {
            let value_len = listed.value_len.map_or_else(|| deleted(listed.key).len(), |len| len as usize);
            planner.entry(&key_of(&listed), value_len)?;
            (at, last) = (at + 1, Some((listed.revision, listed.place)));
        }
        after.iter().try_for_each(|bucket| plan(&mut planner, bucket))?;
        let layout = planner.finish()?;

        let mut file = bbolt::Writer::new(layout);
        before.into_iter().try_for_each(|(name, records)| put(&mut file, name, records))?;
        file.bucket(KEY)?;
        let (next, before, is_finished) = (0, None, false);
        let (file_len, digest) = (layout.file_len(), Context::new(&SHA256));
        Ok(Writer { catalogue, after, file, file_len, next, before, is_finished, digest })
    }

    /// The length of the file, without the checksum behind it.
    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// The next versions that are wanted: at most `count_max`, and no further one when they have `bytes_max`. None when
    /// there are no more.
    pub fn wanted(&self, count_max: usize, bytes_max: usize) -> Vec<(Bytes, Revision)> {
        let (mut wanted, mut bytes) = (Vec::new(), 0);
        let mut at = self.next;
        while let Some(listed) = self.catalogue.get(at, None) {
            if wanted.len() == count_max || bytes >= bytes_max {
                break;
            }
            if let Some(len) = listed.value_len {
                wanted.push((listed.owned_key(), listed.revision));
                bytes += len as usize;
            }
            at += 1;
        }
        wanted
    }

    /// Takes the encoded `KeyValue`s of what was wanted, in its order.
    pub fn give(&mut self, key_values: impl IntoIterator<Item = Bytes>) -> Result<(), WriteError> {
        for key_value in key_values {
            self.put_deleted()?;
            let Some(listed) = self.catalogue.get(self.next, self.before) else { return Ok(()) };
            if listed.value_len.map(|len| len as usize) != Some(key_value.len()) {
                let key = listed.key.escape_ascii().to_string();
                return Err(WriteError::Length(key, listed.revision));
            }
            self.file.entry(&key_of(&listed), key_value)?;
            self.before = Some((listed.revision, listed.place));
            self.next += 1;
        }
        Ok(())
    }

    /// Writes the deletions that come next.
    fn put_deleted(&mut self) -> Result<(), WriteError> {
        while let Some(listed) =
            self.catalogue.get(self.next, self.before).filter(|it| it.value_len.is_none())
        {
            self.file.entry(&key_of(&listed), deleted(listed.key))?;
            self.before = Some((listed.revision, listed.place));
            self.next += 1;
        }
        Ok(())
    }

    /// Ends the file: everything that was wanted has been given.
    pub fn finish(&mut self) -> Result<(), WriteError> {
        self.put_deleted()?;
        let after = std::mem::take(&mut self.after);
        after.into_iter().try_for_each(|(name, records)| put(&mut self.file, name, records))?;
        self.file.finish()?;
        self.is_finished = true;
        Ok(())
    }

    /// The next `len` bytes of the file, or, when it is finished, what is left of it; `None` when more has to be given
    /// first, or there is no more.
    pub fn take(&mut self, len: usize) -> Option<Bytes> {
        let ready = self.file.ready_len();
        if ready == 0 || (ready < len && !self.is_finished) {
            return None;
        }
        let piece = self.file.take(len);
        self.digest.update(&piece);
        Some(piece)
    }

    /// The SHA-256 of what was taken: what comes behind the file.
    pub fn checksum(&self) -> Bytes {
        Bytes::copy_from_slice(self.digest.clone().finish().as_ref())
    }
}

fn key_of(listed: &Listed<'_>) -> Bytes {
    revision_key(listed.revision, listed.place, listed.value_len.is_none())
}

/// What etcd keeps of a deletion.
fn deleted(key: &[u8]) -> Bytes {
    KeyValue { key: Bytes::copy_from_slice(key), ..KeyValue::default() }.encode_to_vec().into()
}

fn put(file: &mut bbolt::Writer, name: &[u8], records: Records) -> Result<(), EntryError> {
    file.bucket(name)?;
    records.into_iter().try_for_each(|(key, value)| file.entry(&key, value))
}

fn record(key: &'static [u8], value: impl AsRef<[u8]>) -> (Bytes, Bytes) {
    (Bytes::from_static(key), Bytes::copy_from_slice(value.as_ref()))
}

/// The buckets whose names come before that of the keys. Alarms are a member's own, and go with it.
fn buckets_before() -> [(&'static [u8], Records); 5] {
    [
        (ALARM, Vec::new()),
        (AUTH, vec![record(AUTH_REVISION, 1_u64.to_be_bytes())]),
        (AUTH_ROLES, Vec::new()),
        (AUTH_USERS, Vec::new()),
        (CLUSTER, vec![record(CLUSTER_VERSION, STORAGE_VERSION)]),
    ]
}

/// The buckets whose names come after it.
fn buckets_after(facts: &Facts) -> Result<[(&'static [u8], Records); 4], WriteError> {
    let mut leases = facts.leases.clone();
    leases.sort_unstable_by_key(|(lease, _)| lease.0.cast_unsigned());
    let leases = leases.into_iter().map(|(lease, ttl)| {
        let value = Lease { id: lease.0, ttl, remaining_ttl: 0 }.encode_to_vec();
        (Bytes::copy_from_slice(&lease.0.to_be_bytes()), value.into())
    });
    let Member { id, name, client_urls } = &facts.member;
    let member = serde_json::json!({ "id": id, "peerURLs": [], "name": name, "clientURLs": client_urls });
    let members = vec![(Bytes::from(format!("{id:x}")), member.to_string().into())];
    Ok([(LEASE, leases.collect()), (MEMBERS, members), (MEMBERS_REMOVED, Vec::new()), (META, meta(facts))])
}

fn meta(facts: &Facts) -> Records {
    let revision = facts.revision;
    let conf_state = serde_json::json!({ "voters": [facts.member.id] }).to_string();
    let mut meta = vec![
        record(CONF_STATE, conf_state),
        // There is no Raft log: the revision says how far the store has come.
        record(CONSISTENT_INDEX, revision.get().to_be_bytes()),
    ];
    // In an empty store there is nothing to be given up.
    let compacted = (revision > Revision::FIRST).then(|| revision_key(revision, 0, false));
    meta.extend(compacted.iter().map(|key| record(FINISHED_COMPACT, key)));
    meta.extend(compacted.iter().map(|key| record(SCHEDULED_COMPACT, key)));
    meta.push(record(STORAGE_VERSION_KEY, STORAGE_VERSION));
    meta.push(record(TERM, facts.term.to_be_bytes()));
    meta
}
