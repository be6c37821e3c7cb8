//! How TiKV writes keys of transactions, and with them the borders of regions, so that their order is kept whatever
//! follows: groups of eight bytes, each with a marker that says how many of them are padding.

use bytes::{BufMut, Bytes, BytesMut};

const GROUP: usize = 8;
const MARKER: u8 = 0xff;

/// `key` as TiKV writes it.
pub(super) fn encode_key(key: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity((key.len() / GROUP + 1) * (GROUP + 1));
    let mut groups = key.chunks_exact(GROUP);
    for group in groups.by_ref() {
        encoded.put_slice(group);
        encoded.put_u8(MARKER);
    }
    let rest = groups.remainder();
    let padding = GROUP - rest.len();
    encoded.put_slice(rest);
    encoded.put_bytes(0, padding);
    encoded.put_u8(MARKER - padding as u8);
    encoded
}

/// What lies, in the order of what is written, above every key below `key` and below `key` itself.
pub(super) fn encode_before(key: &[u8]) -> Vec<u8> {
    let mut encoded = encode_key(key);
    // The last byte is a marker, and never zero.
    if let Some(marker) = encoded.last_mut() {
        *marker -= 1;
    }
    encoded.put_bytes(0xff, GROUP + 1);
    encoded
}

/// The key that TiKV has written so. The empty key stands for itself. A border that something else than transactions
/// has made (of a table of TiDB, say) may be cut short: then the key is what lies before the cut.
pub(super) fn decode_key(encoded: &[u8]) -> Option<Bytes> {
    let mut key = BytesMut::with_capacity(encoded.len());
    for group in encoded.chunks(GROUP + 1) {
        let Some((bytes, &[marker])) = group.split_at_checked(GROUP) else {
            key.put_slice(group);
            break;
        };
        let padding = usize::from(MARKER - marker);
        key.put_slice(bytes.get(..GROUP.checked_sub(padding)?)?);
        if padding > 0 {
            break;
        }
    }
    Some(key.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_tikv_writes_them() {
        // The examples of TiKV's own documentation of this encoding.
        for (key, encoded) in [
            (&b""[..], &[0, 0, 0, 0, 0, 0, 0, 0, 247][..]),
            (&[1, 2, 3], &[1, 2, 3, 0, 0, 0, 0, 0, 250]),
            (&[1, 2, 3, 0], &[1, 2, 3, 0, 0, 0, 0, 0, 251]),
            (&[1, 2, 3, 4, 5, 6, 7, 8], &[1, 2, 3, 4, 5, 6, 7, 8, 255, 0, 0, 0, 0, 0, 0, 0, 0, 247]),
        ] {
            assert_eq!(encode_key(key), encoded);
            assert_eq!(decode_key(encoded).as_deref(), Some(key));
        }
    }

    #[test]
    fn the_order_of_keys_is_the_order_of_what_is_written() {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        for byte in [0, 1, 0x7f, 0xff] {
            keys.extend((0..20).map(|length| vec![byte; length]));
        }
        keys.sort();
        keys.dedup();
        assert!(keys.windows(2).all(|two| encode_key(&two[0]) < encode_key(&two[1])));
        assert!(keys.iter().all(|key| decode_key(&encode_key(key)).as_deref() == Some(&key[..])));
    }

    #[test]
    fn just_before_a_key_is_behind_every_lower_key() {
        let below = [&b""[..], b"a", b"abcdefg", b"abcdefgh", b"abcdefgh\0", b"abcdefg\xff", b"b"];
        for (index, key) in below.iter().enumerate() {
            let before = encode_before(key);
            assert!(before < encode_key(key));
            assert!(below[..index].iter().all(|lower| before > encode_key(lower)), "{key:?}");
        }
    }

    #[test]
    fn the_border_of_something_else_is_read_as_far_as_it_goes() {
        assert_eq!(decode_key(b"").as_deref(), Some(&b""[..]));
        assert_eq!(decode_key(b"tabc").as_deref(), Some(&b"tabc"[..]));
        assert_eq!(decode_key(&[1, 2, 3, 4, 5, 6, 7, 8, 1]), None);
    }
}
