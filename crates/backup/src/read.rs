use std::io::{self, Read};

use bytes::{Buf, Bytes};
use model::{Key, KeyMeta, LeaseId, Revision};
use prost::Message;
use proto::mvccpb::KeyValue;
use thiserror::Error;

use crate::block::{Block, Kind, NoBlock, decode};
use crate::{Head, MAGIC, Record, Totals, VERSION};

/// Why a file cannot be used, or not any further.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The operating system says so.
    #[error("it cannot be read: {0}")]
    Io(io::Error),
    /// It is something else.
    #[error("it is no backup of orlop{0}")]
    Stranger(&'static str),
    /// It was written by a newer version.
    #[error("it is a backup of version {0}, and this orlop reads up to version {VERSION}: use a newer orlop")]
    Newer(u32),
    /// It ends before its end.
    #[error(
        "it is cut off at offset {offset}: the backup broke off, or the copy of it did; use another copy"
    )]
    CutOff {
        /// Where the block begins that is not whole.
        offset: u64,
    },
    /// What it holds is not what was written.
    #[error("it is damaged at offset {offset}: {reason}; use another copy")]
    Damaged {
        /// Where the damaged block begins.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// What is left of a backup that broke off: whole blocks, up to where it can be gone on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The bytes of these blocks, from the beginning of the file.
    pub len: u64,
    /// Their number.
    pub blocks: u32,
    /// The last key in them; empty before the first.
    pub last_key: Vec<u8>,
    /// What they hold.
    pub totals: Totals,
}

/// Reads a backup from front to back.
pub struct Reader<R> {
    from: R,
    head: Head,
    left: Left,
    block: Bytes,
    kind: Kind,
    is_done: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the beginning of a file.
    pub fn open(mut from: R) -> Result<Reader<R>, ReadError> {
        let mut begin = [0; MAGIC.len() + 4];
        from.read_exact(&mut begin).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ReadError::Stranger(": it is too short"),
            _ => ReadError::Io(error),
        })?;
        let (magic, version) = begin.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(ReadError::Stranger(
                "; a snapshot of etcdctl is restored with `orlop import --from-snapshot`",
            ));
        }
        match u32::from_le_bytes(version.try_into().unwrap_or_default()) {
            VERSION => {}
            newer if newer > VERSION => return Err(ReadError::Newer(newer)),
            _ => return Err(ReadError::Stranger(": there is no such version of the format")),
        }
        let len = begin.len() as u64;
        let Block { kind, content, len: more } = decode(&mut from, 0).map_err(|no| at(len, no))?;
        let damaged = |reason| ReadError::Damaged { offset: len, reason };
        if kind != Kind::Head {
            return Err(damaged("it does not begin with its head"));
        }
        let head: Head = serde_json::from_slice(&content).map_err(|_| damaged("its head cannot be read"))?;
        if head.revision < 1 {
            return Err(damaged("it has no revision"));
        }
        let left = Left { len: len + more, blocks: 1, last_key: Vec::new(), totals: Totals::default() };
        Ok(Reader { from, head, left, block: Bytes::new(), kind: Kind::Leases, is_done: false })
    }

    /// What the backup is of.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What was read: after the last record, or an error, all whole blocks.
    pub fn left(&self) -> &Left {
        &self.left
    }

    /// The next record; none at the end of a whole backup.
    pub fn next_record(&mut self) -> Result<Option<Record>, ReadError> {
        while self.block.is_empty() {
            if self.is_done || !self.next_block()? {
                return Ok(None);
            }
        }
        let record = match self.kind {
            Kind::Leases => take_lease(&mut self.block),
            _ => take_key(&mut self.block),
        };
        let offset = self.left.len;
        record.map(Some).map_err(|reason| ReadError::Damaged { offset, reason })
    }

    /// Reads the next block and checks every record of it, so that [`Reader::left`] has whole blocks alone.
    fn next_block(&mut self) -> Result<bool, ReadError> {
        let offset = self.left.len;
        let Block { kind, content, len } =
            decode(&mut self.from, self.left.blocks).map_err(|no| at(offset, no))?;
        let damaged = |reason| ReadError::Damaged { offset, reason };
        match (self.kind, kind) {
            (_, Kind::End) => {
                let totals: Totals =
                    serde_json::from_slice(&content).map_err(|_| damaged("its end cannot be read"))?;
                if totals != self.left.totals {
                    return Err(damaged("it holds another number of records than its end says"));
                }
                self.is_done = true;
                return self.nothing_behind().map(|()| false);
            }
            (Kind::Leases, Kind::Leases) | (_, Kind::Keys) => {}
            _ => return Err(damaged("a block is not where its kind belongs")),
        }
        if content.is_empty() {
            return Err(damaged("a block holds nothing"));
        }
        let content = Bytes::from(content);
        let mut left = self.left.clone();
        check_records(kind, content.clone(), &mut left).map_err(damaged)?;
        left.len += len;
        left.blocks = left.blocks.checked_add(1).ok_or(damaged("it has too many blocks"))?;
        (self.left, self.block, self.kind) = (left, content, kind);
        Ok(true)
    }

    fn nothing_behind(&mut self) -> Result<(), ReadError> {
        let mut byte = [0];
        match self.from.read(&mut byte) {
            Ok(0) => Ok(()),
            Ok(_) => {
                Err(ReadError::Damaged { offset: self.left.len, reason: "there is something behind its end" })
            }
            Err(error) => Err(ReadError::Io(error)),
        }
    }
}

fn at(offset: u64, no: NoBlock) -> ReadError {
    match no {
        NoBlock::CutOff => ReadError::CutOff { offset },
        NoBlock::Damaged(reason) => ReadError::Damaged { offset, reason },
        NoBlock::Io(error) => ReadError::Io(error),
    }
}

fn check_records(kind: Kind, mut content: Bytes, left: &mut Left) -> Result<(), &'static str> {
    while !content.is_empty() {
        let record = if kind == Kind::Leases { take_lease(&mut content)? } else { take_key(&mut content)? };
        match record {
            Record::Lease(..) => left.totals.leases += 1,
            Record::Key(key, _, value) => {
                if key.as_slice() <= left.last_key.as_slice() {
                    return Err("its keys are not in their order");
                }
                left.totals.keys += 1;
                left.totals.bytes += (key.as_slice().len() + value.len()) as u64;
                left.last_key = key.as_slice().to_vec();
            }
        }
    }
    Ok(())
}

fn take_lease(from: &mut Bytes) -> Result<Record, &'static str> {
    if from.len() < 16 {
        return Err("a lease is cut off");
    }
    let (lease, ttl_secs) = (from.get_i64_le(), from.get_i64_le());
    if lease == 0 || ttl_secs < 1 {
        return Err("a lease has no id or no time to live");
    }
    Ok(Record::Lease(LeaseId(lease), ttl_secs))
}

fn take_key(from: &mut Bytes) -> Result<Record, &'static str> {
    let key_value = KeyValue::decode_length_delimited(from).map_err(|_| "a key cannot be read")?;
    let KeyValue { key, create_revision, mod_revision, version, value, lease } = key_value;
    let key = Key::new(key).map_err(|_| "a key is empty")?;
    if create_revision < 1 || mod_revision < create_revision || version < 1 {
        return Err("a key has revisions that no key has");
    }
    let meta = KeyMeta {
        create_revision: Revision::new(create_revision),
        mod_revision: Revision::new(mod_revision),
        version,
        lease: LeaseId(lease),
        value_len: u32::try_from(value.len()).map_err(|_| "a value is too long")?,
    };
    Ok(Record::Key(key, meta, value))
}
