//! Varints, sealed values and checked reading.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

/// A stored record does not read back as anything that was ever written.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the {kind} record {key} is damaged: {reason}")]
pub struct Damaged {
    /// The kind of record.
    pub kind: &'static str,
    /// Its key, readable.
    pub key: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// The bytes that the checksum at the end of a value takes.
pub(crate) const CHECKSUM_LEN: usize = 4;

/// Appends the checksum over `key` and the value so far, and freezes the value.
pub(crate) fn seal(key: &[u8], mut value: BytesMut) -> Bytes {
    let sum = checksum(key, &value);
    value.put_u32_le(sum);
    value.freeze()
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(value);
    hasher.update(key);
    hasher.finalize()
}

/// The value without its checksum, which was right.
pub(crate) fn unseal(key: &[u8], sealed: &Bytes) -> Result<Bytes, &'static str> {
    let Some(length) = sealed.len().checked_sub(CHECKSUM_LEN) else {
        return Err("it is shorter than its checksum");
    };
    let (value, sum) = sealed.split_at(length);
    if sum != checksum(key, value).to_le_bytes() {
        return Err("its checksum does not match");
    }
    Ok(sealed.slice(..length))
}

pub(crate) fn put_varint(to: &mut impl BufMut, mut number: u64) {
    while number >= 0x80 {
        to.put_u8((number as u8) | 0x80);
        number >>= 7;
    }
    to.put_u8(number as u8);
}

/// Reads a value from front to back; every method fails rather than reads past the end.
pub(crate) struct Reader {
    rest: Bytes,
}

impl Reader {
    pub(crate) fn new(value: Bytes) -> Reader {
        Reader { rest: value }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, &'static str> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn u128(&mut self) -> Result<u128, &'static str> {
        let bytes = self.take(16)?;
        Ok(u128::from_be_bytes(bytes.as_ref().try_into().map_err(|_| "it ends early")?))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, &'static str> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err("a number is too large");
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                // One number has one encoding: what is read is what was written, byte by byte.
                return if byte == 0 && shift > 0 {
                    Err("a number is not as short as it can be")
                } else {
                    Ok(number)
                };
            }
        }
        Err("a number is too long")
    }

    /// A number that a client sees as `int64` and that is never negative.
    pub(crate) fn positive(&mut self) -> Result<i64, &'static str> {
        i64::try_from(self.varint()?).map_err(|_| "a number is too large")
    }

    pub(crate) fn u32(&mut self) -> Result<u32, &'static str> {
        u32::try_from(self.varint()?).map_err(|_| "a number is too large")
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, &'static str> {
        let length = usize::try_from(self.varint()?).map_err(|_| "a length is too large")?;
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Result<Bytes, &'static str> {
        if length > self.rest.len() {
            return Err("it ends early");
        }
        Ok(self.rest.split_to(length))
    }

    pub(crate) fn end(self) -> Result<(), &'static str> {
        if self.rest.is_empty() { Ok(()) } else { Err("something follows its end") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_varint_reads_back(number: u64) {
            let mut bytes = BytesMut::new();
            put_varint(&mut bytes, number);
            let mut reader = Reader::new(bytes.freeze());
            prop_assert_eq!(reader.varint(), Ok(number));
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn a_varint_that_is_longer_than_needed_is_refused(number in 0..1u64 << 56) {
            let mut bytes = BytesMut::new();
            put_varint(&mut bytes, number);
            let last = bytes.len() - 1;
            bytes[last] |= 0x80;
            bytes.put_u8(0);
            prop_assert!(Reader::new(bytes.freeze()).varint().is_err());
        }

        #[test]
        fn a_flipped_bit_anywhere_is_noticed(value: Vec<u8>, bit: usize) {
            let sealed = seal(b"key", BytesMut::from(value.as_slice()));
            prop_assert_eq!(unseal(b"key", &sealed), Ok(Bytes::from(value)));
            let mut damaged = sealed.to_vec();
            let bit = bit % (damaged.len() * 8);
            damaged[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(unseal(b"key", &damaged.into()).is_err());
            prop_assert!(unseal(b"kez", &sealed).is_err());
        }
    }
}
