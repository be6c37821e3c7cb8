use bytes::Bytes;
use prost::Message;
use proto::spliced::WatchResponse;

use super::driver::fragments;

fn response(sizes: &[usize]) -> WatchResponse {
    let events = sizes.iter().map(|&size| Bytes::from(vec![7; size])).collect();
    WatchResponse { watch_id: 3, events, ..WatchResponse::default() }
}

fn check(sizes: &[usize], bytes_max: usize, expected: &[(usize, bool)]) {
    let whole = response(sizes);
    let cut = fragments(whole.clone(), bytes_max);
    let shapes: Vec<_> = cut.iter().map(|part| (part.events.len(), part.fragment)).collect();
    assert_eq!(shapes, expected);
    let events: Vec<_> = cut.iter().flat_map(|part| part.events.clone()).collect();
    assert_eq!(events, whole.events, "nothing is lost, doubled or moved");
    for part in cut.iter().filter(|part| part.events.len() > 1) {
        assert!(part.encoded_len() <= bytes_max);
    }
}

#[test]
fn a_large_response_is_cut_and_all_but_the_last_part_say_that_more_follows() {
    check(&[400, 400, 400, 400, 400], 1000, &[(2, true), (2, true), (1, false)]);
}

#[test]
fn what_fits_and_what_cannot_be_cut_stays_whole() {
    check(&[400, 400], 1000, &[(2, false)]);
    check(&[4000], 1000, &[(1, false)]);
    check(&[4000, 10, 4000], 1000, &[(1, true), (1, true), (1, false)]);
}
