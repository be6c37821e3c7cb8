//! A reader that is broken on purpose: the proof that the fuzzer finds what there is to find. `cargo xtask fuzz` runs it
//! first, and fails if it finds nothing.
//!
//! Its mistake lies behind four bytes, each checked on its own. By chance alone one input in four billion gets there;
//! who is told which branches an input has taken gets there byte by byte.

/// A list of lengths and bytes behind a name; trusts the last length, which it must not.
pub fn check(input: &[u8]) {
    if input.first() != Some(&b'O') || input.get(1) != Some(&b'r') {
        return;
    }
    if input.get(2) != Some(&b'l') || input.get(3) != Some(&0xf5) {
        return;
    }
    let mut rest = &input[4..];
    while let Some((&len, behind)) = rest.split_first() {
        rest = &behind[usize::from(len)..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_broken_where_a_length_is_too_large_and_nowhere_else() {
        for fine in [&b""[..], b"Orl", b"Orm\xf5\x09", b"Orl\xf5", b"Orl\xf5\x02ab\x00"] {
            check(fine);
        }
        assert!(std::panic::catch_unwind(|| check(b"Orl\xf5\x02a")).is_err());
    }
}
