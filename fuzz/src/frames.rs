//! The frames of an HTTP/2 connection, which the guard against pings follows: the same frames however the bytes are
//! cut, and those that RFC 9113 has.

use server::fuzzing::{SeenFrame, frames};

use crate::pieces::{pieces, split};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads the input, cut as it says itself, as what a client sends and as what a server sends.
pub fn check(input: &[u8]) {
    let (lengths, bytes) = split(input);
    for from_client in [true, false] {
        let expected = plainly(bytes, from_client);
        let seen = frames(pieces(bytes, lengths), from_client);
        assert_eq!(seen, expected, "from a client: {from_client}");
        assert_eq!(frames([bytes], from_client), expected);
    }
}

/// The frames in bytes that are all there, and whether the last one is whole.
fn plainly(bytes: &[u8], from_client: bool) -> (Vec<SeenFrame>, bool) {
    let mut rest = bytes;
    if from_client {
        match bytes.strip_prefix(PREFACE) {
            Some(behind) => rest = behind,
            None => return (Vec::new(), false),
        }
    }
    let mut seen = Vec::new();
    while let [high, middle, low, kind, flags, _, _, _, _, behind @ ..] = rest {
        seen.push(match (kind, flags & 1) {
            (6, 0) => SeenFrame::Ping,
            (0 | 1, _) => SeenFrame::Useful,
            _ => SeenFrame::Other,
        });
        let len = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        match behind.get(len..) {
            Some(next) => rest = next,
            None => return (seen, false),
        }
    }
    (seen, rest.is_empty())
}
