use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bbolt::{Entries, Reader};
use bytes::{Buf, Bytes};
use model::{Key, KeyMeta, LeaseId, Revision};
use prost::Message;
use proto::mvccpb::KeyValue;
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use thiserror::Error;

use crate::schema::{
    AUTH, AUTH_ENABLED, AUTH_ROLES, AUTH_USERS, FINISHED_COMPACT, KEY, LEASE, Lease, META, SCHEDULED_COMPACT,
    read_revision_key,
};

/// A file's length tells whether a checksum follows: pages are multiples of this, as in etcd.
const SECTOR_BYTES: u64 = 512;
/// So much of a file is read at a time for its checksum.
const READ_BYTES: usize = 1 << 20;

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The operating system says so.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// What the file holds is not what was written.
    #[error("its checksum does not match: it is damaged, or cut off; use another copy")]
    Checksum,
    /// It is no bbolt file, or a damaged one.
    #[error("{0}")]
    File(#[from] bbolt::ReadError),
    /// It is a bbolt file of something else.
    #[error("it is a bbolt file, but has no keys of etcd: it is no snapshot")]
    NotEtcd,
    /// A record of etcd's cannot be understood.
    #[error(transparent)]
    Record(#[from] ReadError),
}

/// Why a record cannot be used.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file is damaged.
    #[error("{0}")]
    File(#[from] bbolt::ReadError),
    /// The record is not as etcd writes it.
    #[error("the record {key} of the bucket {bucket} is damaged: {reason}")]
    Damaged {
        /// The bucket.
        bucket: &'static str,
        /// The key of the record.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// A snapshot.
#[derive(Debug)]
pub struct Snapshot {
    reader: Reader,
    is_checked: bool,
}

/// A version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// All that is known of it but its value.
    pub meta: KeyMeta,
    /// Its value.
    pub value: Bytes,
}

/// What a snapshot has of one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The revision of the change.
    pub revision: Revision,
    /// The key; `None` where the record only marks that the store has come so far, as restoring with a bump does.
    pub key: Option<Key>,
    /// The version that it left behind; `None` where it deleted the key.
    pub version: Option<Version>,
}

impl Snapshot {
    /// Looks at `file`. If a checksum follows, the whole file is read first and has to match it.
    pub fn open(file: File) -> Result<Snapshot, OpenError> {
        let len = file.metadata()?.len();
        let checksum_len = SHA256_OUTPUT_LEN as u64;
        let is_checked = len > checksum_len && len % SECTOR_BYTES == checksum_len;
        let file_len = if is_checked { len - checksum_len } else { len };
        if is_checked {
            check(&file, file_len)?;
        }
        let reader = Reader::open(file, file_len)?;
        if reader.bucket(KEY)?.is_none() || reader.bucket(META)?.is_none() {
            return Err(OpenError::NotEtcd);
        }
        Ok(Snapshot { reader, is_checked })
    }

    /// Whether the file ended with a checksum. A copy of etcd's own file does not.
    pub fn is_checked(&self) -> bool {
        self.is_checked
    }

    /// Whether there are users or roles, or they are asked for.
    pub fn has_auth(&self) -> Result<bool, ReadError> {
        let is_enabled = self.record(AUTH, AUTH_ENABLED)?.is_some_and(|value| value.as_ref() == [1]);
        Ok(is_enabled || self.has_records(AUTH_USERS)? || self.has_records(AUTH_ROLES)?)
    }

    /// The revision through which history was compacted, or was to be.
    pub fn compacted(&self) -> Result<Option<Revision>, ReadError> {
        let mut compacted = None;
        for name in [FINISHED_COMPACT, SCHEDULED_COMPACT] {
            let Some(value) = self.record(META, name)? else { continue };
            let Some((revision, _)) = read_revision_key(&value) else {
                return Err(damaged("meta", name, "it is no revision"));
            };
            compacted = compacted.max(Some(revision));
        }
        Ok(compacted)
    }

    /// Every lease, with the time to live that it was granted, in seconds.
    pub fn leases(&self) -> Result<Vec<(LeaseId, i64)>, ReadError> {
        let mut leases = Vec::new();
        for entry in self.entries(LEASE)? {
            let (key, value) = entry?;
            let lease = Lease::decode(value).map_err(|_| damaged("lease", &key, "it is no lease"))?;
            let id = key.clone().try_get_i64().map_err(|_| damaged("lease", &key, "its key is no id"))?;
            if id != lease.id || id == 0 || lease.ttl <= 0 {
                return Err(damaged("lease", &key, "its id or its time to live cannot be"));
            }
            leases.push((LeaseId(id), lease.ttl));
        }
        Ok(leases)
    }

    /// Every change that is kept, in the order of revisions.
    pub fn records(&self) -> Result<impl Iterator<Item = Result<Record, ReadError>> + '_, ReadError> {
        Ok(self.entries(KEY)?.map(|entry| {
            let (key, value) = entry?;
            record(&key, value)
        }))
    }

    fn entries(&self, bucket: &[u8]) -> Result<impl Iterator<Item = Entry> + '_, ReadError> {
        let entries: Option<Entries<'_>> = self.reader.bucket(bucket)?;
        Ok(entries.into_iter().flatten())
    }

    fn has_records(&self, bucket: &[u8]) -> Result<bool, ReadError> {
        Ok(self.entries(bucket)?.next().transpose()?.is_some())
    }

    fn record(&self, bucket: &[u8], name: &[u8]) -> Result<Option<Bytes>, ReadError> {
        for entry in self.entries(bucket)? {
            let (key, value) = entry?;
            if key == name {
                return Ok(Some(value));
            }
        }
        Ok(None)
    }
}

type Entry = Result<(Bytes, Bytes), bbolt::ReadError>;

fn check(file: &File, file_len: u64) -> Result<(), OpenError> {
    let mut digest = Context::new(&SHA256);
    let mut piece = vec![0; READ_BYTES];
    let mut at = 0;
    while at < file_len {
        let len = usize::try_from(file_len - at).unwrap_or(READ_BYTES).min(READ_BYTES);
        let Some(piece) = piece.get_mut(..len) else { break };
        file.read_exact_at(piece, at)?;
        digest.update(piece);
        at += len as u64;
    }
    let mut checksum = [0; SHA256_OUTPUT_LEN];
    file.read_exact_at(&mut checksum, file_len)?;
    if digest.finish().as_ref() == checksum { Ok(()) } else { Err(OpenError::Checksum) }
}

fn damaged(bucket: &'static str, key: &[u8], reason: &'static str) -> ReadError {
    ReadError::Damaged { bucket, key: key.escape_ascii().to_string(), reason }
}

fn record(record_key: &[u8], value: Bytes) -> Result<Record, ReadError> {
    let wrong = |reason| damaged("key", record_key, reason);
    let (revision, is_deletion) =
        read_revision_key(record_key).ok_or_else(|| wrong("its key is no revision"))?;
    let key_value = KeyValue::decode(value).map_err(|_| wrong("it is no KeyValue"))?;
    // Copied, as the bytes at hand hold a whole page.
    let Ok(key) = Key::new(Bytes::copy_from_slice(&key_value.key)) else {
        // `etcdutl snapshot restore --bump-revision` leaves such a one.
        return Ok(Record { revision, key: None, version: None });
    };
    if is_deletion {
        return Ok(Record { revision, key: Some(key), version: None });
    }
    let (created, modified) = (key_value.create_revision, key_value.mod_revision);
    if modified != revision.get() || created < 1 || created > modified || key_value.version < 1 {
        return Err(wrong("its revisions or its version cannot be"));
    }
    let meta = KeyMeta {
        create_revision: Revision::new(created),
        mod_revision: revision,
        version: key_value.version,
        lease: LeaseId(key_value.lease),
        value_len: u32::try_from(key_value.value.len()).map_err(|_| wrong("its value is too long"))?,
    };
    Ok(Record { revision, key: Some(key), version: Some(Version { meta, value: key_value.value }) })
}
