use std::io::{self, Write};

use prost::Message;
use proto::mvccpb::KeyValue;
use thiserror::Error;

use crate::block::{Kind, encode};
use crate::read::Left;
use crate::{Head, MAGIC, Totals, VERSION};

/// A block is written when it holds so many bytes: enough to compress well, little to lose when a backup breaks off.
const BLOCK_BYTES: usize = 1 << 20;

/// Why a backup could not be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The file does not take it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The caller gave what cannot be in a backup.
    #[error("{0}")]
    Refused(&'static str),
}

/// Writes a backup from front to back: leases, then keys in their order, then [`Writer::finish`].
pub struct Writer<W> {
    to: W,
    number: u32,
    block: Vec<u8>,
    kind: Kind,
    last_key: Vec<u8>,
    totals: Totals,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    pub fn begin(mut to: W, head: &Head) -> Result<Writer<W>, WriteError> {
        to.write_all(&MAGIC)?;
        to.write_all(&VERSION.to_le_bytes())?;
        let head = serde_json::to_vec(head).map_err(io::Error::from)?;
        to.write_all(&encode(Kind::Head, 0, &head)?)?;
        let (block, totals) = (Vec::new(), Totals::default());
        Ok(Writer { to, number: 1, block, kind: Kind::Leases, last_key: Vec::new(), totals })
    }

    /// Goes on behind what is left of a backup that broke off; `to` must stand where that ends.
    pub fn resume(to: W, left: &Left) -> Writer<W> {
        Writer {
            to,
            number: left.blocks,
            block: Vec::new(),
            kind: Kind::Keys,
            last_key: left.last_key.clone(),
            totals: left.totals,
        }
    }

    /// Adds a lease. All of them come before the first key.
    pub fn lease(&mut self, lease: i64, ttl_secs: i64) -> Result<(), WriteError> {
        if self.kind != Kind::Leases {
            return Err(WriteError::Refused("a lease comes behind a key"));
        }
        self.block.extend_from_slice(&lease.to_le_bytes());
        self.block.extend_from_slice(&ttl_secs.to_le_bytes());
        self.totals.leases += 1;
        self.flush_if_full()
    }

    /// Ends the leases: what follows are keys, and what was written until now is in the file.
    pub fn end_leases(&mut self) -> Result<(), WriteError> {
        self.flush()?;
        self.kind = Kind::Keys;
        Ok(())
    }

    /// Adds a key, above all before it.
    pub fn key(&mut self, key_value: &KeyValue) -> Result<(), WriteError> {
        if self.kind != Kind::Keys || key_value.key.as_ref() <= self.last_key.as_slice() {
            return Err(WriteError::Refused("keys are not in their order"));
        }
        self.last_key = key_value.key.to_vec();
        self.totals.keys += 1;
        self.totals.bytes += (key_value.key.len() + key_value.value.len()) as u64;
        key_value.encode_length_delimited(&mut self.block).map_err(io::Error::other)?;
        self.flush_if_full()
    }

    /// Ends the file. Whoever gets it back has yet to make it durable.
    pub fn finish(mut self) -> Result<(W, Totals), WriteError> {
        self.flush()?;
        let end = serde_json::to_vec(&self.totals).map_err(io::Error::from)?;
        self.to.write_all(&encode(Kind::End, self.number, &end)?)?;
        self.to.flush()?;
        Ok((self.to, self.totals))
    }

    fn flush_if_full(&mut self) -> Result<(), WriteError> {
        if self.block.len() >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = encode(self.kind, self.number, &self.block)?;
        self.block.clear();
        self.number += 1;
        self.to.write_all(&block)?;
        Ok(self.to.flush()?)
    }
}
