//! Files with right checksums and any content: what a fuzzer would never find by itself.

use crate::block::{Kind, encode};
use crate::{MAGIC, VERSION};

/// A file of blocks with these contents; a kind that there is not becomes the end.
pub fn file(blocks: &[(u8, &[u8])]) -> Vec<u8> {
    let mut file = [MAGIC.as_slice(), &VERSION.to_le_bytes()].concat();
    for (number, (kind, content)) in (0..).zip(blocks) {
        let kind = match kind {
            1 => Kind::Head,
            2 => Kind::Leases,
            3 => Kind::Keys,
            _ => Kind::End,
        };
        if let Ok(block) = encode(kind, number, content) {
            file.extend_from_slice(&block);
        }
    }
    file
}
