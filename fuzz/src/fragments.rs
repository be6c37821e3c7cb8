//! Watch responses that are cut into fragments: together they are the response, and none is larger than it must be.

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb::ResponseHeader;
use proto::spliced::WatchResponse;
use server::fuzzing::fragments;

/// The longest event: the length of a length changes below it, and a thousand of them are little.
const EVENT_BYTES_MAX: usize = 20_000;
const EVENTS_MAX: usize = 200;

#[derive(Arbitrary, Debug)]
struct Input {
    header: Option<[i64; 2]>,
    watch_id: i64,
    bytes_max: u16,
    /// The lengths of its events.
    events: Vec<u16>,
}

/// Cuts a response whose events have the lengths that the input says.
pub fn check(input: &[u8]) {
    let Ok(input) = Input::arbitrary(&mut Unstructured::new(input)) else { return };
    let event =
        |(number, &len): (usize, &u16)| Bytes::from(vec![number as u8; usize::from(len) % EVENT_BYTES_MAX]);
    let events: Vec<Bytes> = input.events.iter().take(EVENTS_MAX).enumerate().map(event).collect();
    let header = input.header.map(|[member, revision]| ResponseHeader {
        member_id: member.cast_unsigned(),
        revision,
        ..ResponseHeader::default()
    });
    let whole = WatchResponse { header, watch_id: input.watch_id, events, ..WatchResponse::default() };
    let bytes_max = usize::from(input.bytes_max);
    let cut = fragments(whole.clone(), bytes_max);
    let (last, others) = cut.split_last().expect("there is a response");
    assert!(
        !last.fragment && others.iter().all(|fragment| fragment.fragment),
        "more follows, but behind the last"
    );
    let mut events = Vec::new();
    for fragment in &cut {
        let len = fragment.encoded_len();
        assert!(fragment.events.len() == 1 || cut.len() == 1 || len <= bytes_max, "{len} bytes");
        assert!(!fragment.events.is_empty() || cut.len() == 1, "a fragment of nothing");
        let head = WatchResponse { events: Vec::new(), fragment: false, ..fragment.clone() };
        assert_eq!(head, WatchResponse { events: Vec::new(), ..whole.clone() });
        events.extend(fragment.events.iter().cloned());
    }
    assert_eq!(events, whole.events);
    if whole.encoded_len() < bytes_max {
        assert_eq!(cut.len(), 1, "it is small enough");
    }
}
