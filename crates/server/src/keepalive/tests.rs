use base::ManualClock;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PING: &[u8] = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00pingping";
const PING_ACK: &[u8] = b"\x00\x00\x08\x06\x01\x00\x00\x00\x00pingping";
const HEADERS: &[u8] = b"\x00\x00\x02\x01\x04\x00\x00\x00\x01hh";

/// A client's end, the guarded server's end, and the clock.
fn connection() -> (DuplexStream, PingGuard<DuplexStream>, ManualClock) {
    let (client, server) = tokio::io::duplex(1 << 16);
    let clock = ManualClock::default();
    let guard = PingGuard::new(server, Arc::new(clock.clone()), Arc::default());
    (client, guard, clock)
}

/// The client sends `bytes`, and the server reads them all.
async fn send(client: &mut DuplexStream, guard: &mut PingGuard<DuplexStream>, bytes: &[u8]) {
    client.write_all(bytes).await.unwrap();
    let mut read = vec![0; bytes.len()];
    guard.read_exact(&mut read).await.unwrap();
    assert_eq!(read, bytes, "nothing is changed on the way");
}

async fn answer(guard: &mut PingGuard<DuplexStream>) -> io::Result<()> {
    guard.write_all(PING_ACK).await
}

#[tokio::test]
async fn a_client_that_pings_all_the_time_is_told_to_calm_down_and_cut_off() {
    let (mut client, mut guard, _clock) = connection();
    send(&mut client, &mut guard, PREFACE).await;
    for _ in 0..3 {
        send(&mut client, &mut guard, PING).await;
        answer(&mut guard).await.unwrap();
    }
    send(&mut client, &mut guard, PING).await;
    let error = answer(&mut guard).await.unwrap_err();
    assert_eq!(error.to_string(), "the client pings too often");
    drop(guard);
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, [PING_ACK, PING_ACK, PING_ACK, CALM_DOWN].concat());
}

#[tokio::test]
async fn pings_at_the_interval_or_behind_useful_frames_are_no_strikes() {
    let (mut client, mut guard, clock) = connection();
    send(&mut client, &mut guard, PREFACE).await;
    for round in 0..20 {
        send(&mut client, &mut guard, PING).await;
        answer(&mut guard).await.unwrap();
        match round % 2 {
            0 => clock.advance(PING_INTERVAL_MIN),
            _ => guard.write_all(HEADERS).await.unwrap(),
        }
    }
}

#[tokio::test]
async fn the_farewell_does_not_tear_a_frame_that_is_on_its_way() {
    let (mut client, mut guard, _clock) = connection();
    send(&mut client, &mut guard, PREFACE).await;
    for _ in 0..4 {
        send(&mut client, &mut guard, PING).await;
    }
    // Only the first half of a frame was written before the strikes were counted.
    guard.strikes = 0;
    guard.write_all(&HEADERS[..5]).await.unwrap();
    guard.strikes = STRIKES_MAX + 1;
    guard.write_all(&HEADERS[5..]).await.unwrap();
    assert!(guard.flush().await.is_err());
    drop(guard);
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, [HEADERS, CALM_DOWN].concat());
}

#[tokio::test]
async fn what_is_no_http2_passes_untouched() {
    let (mut client, mut guard, _clock) = connection();
    send(&mut client, &mut guard, b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    for _ in 0..10 {
        send(&mut client, &mut guard, PING).await;
        answer(&mut guard).await.unwrap();
    }
}

proptest! {
    #[test]
    fn frames_are_found_whatever_pieces_they_come_in(
        frames in proptest::collection::vec((0..10u8, 0..2u8, 0..300usize), 0..20),
        cuts in proptest::collection::vec(1..40usize, 1..40),
    ) {
        let mut bytes = PREFACE.to_vec();
        let mut expected = Vec::new();
        for (kind, flags, length) in frames {
            bytes.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
            bytes.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
            bytes.extend(std::iter::repeat_n(6, length));
            expected.push(match (kind, flags) {
                (6, 0) => Frame::Ping,
                (0 | 1, _) => Frame::Useful,
                _ => Frame::Other,
            });
        }
        let (mut reader, mut found) = (Frames::new(Direction::FromClient), Vec::new());
        let (mut rest, mut cuts) = (bytes.as_slice(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            reader.pass(piece, |frame| found.push(frame));
            rest = behind;
        }
        prop_assert_eq!(found, expected);
        prop_assert!(reader.is_between_frames());
    }
}
