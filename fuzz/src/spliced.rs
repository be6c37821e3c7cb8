//! Responses with parts that are encoded already: the same bytes as those of the generated messages.

use prost::Message;
use proto::{etcdserverpb as plain, mvccpb, spliced};

/// Reads the input behind its first byte as the response that this byte names.
pub fn check(input: &[u8]) {
    let Some((&kind, bytes)) = input.split_first() else { return };
    match kind % 8 {
        0 => twins::<plain::RangeResponse, spliced::RangeResponse>(bytes),
        1 => twins::<plain::RangeStreamResponse, spliced::RangeStreamResponse>(bytes),
        2 => twins::<plain::PutResponse, spliced::PutResponse>(bytes),
        3 => twins::<plain::DeleteRangeResponse, spliced::DeleteRangeResponse>(bytes),
        4 => twins::<plain::ResponseOp, spliced::ResponseOp>(bytes),
        5 => twins::<plain::TxnResponse, spliced::TxnResponse>(bytes),
        6 => twins::<plain::WatchResponse, spliced::WatchResponse>(bytes),
        _ => twins::<mvccpb::Event, spliced::Event>(bytes),
    }
}

/// What is written of a plain message reads as its spliced twin, which is written the same.
fn twins<P, S>(bytes: &[u8])
where
    P: Message + Default + PartialEq,
    S: Message + Default + PartialEq,
{
    let Ok(message) = P::decode(bytes) else { return };
    let written = message.encode_to_vec();
    let twin = S::decode(written.as_slice()).expect("what the plain one writes the spliced one reads");
    assert_eq!(twin.encode_to_vec(), written);
    assert_eq!(twin.encoded_len(), written.len());
    assert!(P::decode(twin.encode_to_vec().as_slice()) == Ok(message));
    assert!(S::decode(twin.encode_to_vec().as_slice()) == Ok(twin));
}
