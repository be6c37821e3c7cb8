//! Which partition a call is about.

use bytes::{Buf, Bytes};
use model::{Op, Txn};
use prost::Message;
use proto::etcdserverpb::{DeleteRangeRequest, PutRequest, TxnRequest};

use super::{DELETE_RANGE, Forwarding, PUT};
use crate::convert::from_proto;

/// The only partition that a call touches, by its place. `None` when it touches several, or cannot be read here: the leader
/// carries out the one and answers the other.
pub(super) fn place_of(forwarding: &Forwarding<'_>, path: &str, body: &Bytes) -> Option<usize> {
    let message = message_of(body.clone())?;
    let txn = match path {
        PUT => Txn::only(Op::Put(from_proto::put(PutRequest::decode(message).ok()?).ok()?)),
        DELETE_RANGE => {
            Txn::only(Op::Delete(from_proto::delete(DeleteRangeRequest::decode(message).ok()?).ok()?))
        }
        _ => from_proto::txn(TxnRequest::decode(message).ok()?, forwarding.max_txn_ops).ok()?,
    };
    forwarding.keys.place_of(&txn)
}

/// The one message of a body, by gRPC's framing; `None` when it is compressed, or something else is wrong with it.
fn message_of(mut body: Bytes) -> Option<Bytes> {
    const PREFIX_BYTES: usize = 5;
    if body.len() < PREFIX_BYTES {
        return None;
    }
    let (compressed, length) = (body.get_u8(), body.get_u32());
    (compressed == 0 && u32::try_from(body.len()) == Ok(length)).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_found_in_its_frame() {
        let framed = |bytes: &'static [u8]| message_of(Bytes::from_static(bytes));
        assert_eq!(framed(b"\0\0\0\0\x02ab"), Some(Bytes::from_static(b"ab")));
        assert_eq!(framed(b"\0\0\0\0\0"), Some(Bytes::new()));
        for wrong in [&b"\x01\0\0\0\x02ab"[..], b"\0\0\0\0\x03ab", b"\0\0\0\0\x01ab", b"\0\0", b""] {
            assert_eq!(framed(wrong), None, "{wrong:?}");
        }
    }
}
