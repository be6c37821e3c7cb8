//! The body of a gRPC request: it passes as it is, however it is cut, up to the first message that is too large.

use bytes::Bytes;
use server::fuzzing::{Code, request_body};

use crate::pieces::{pieces, split};

const MESSAGE_BYTES_MAX: usize = 300;

/// Passes the input on, cut as it says itself.
pub fn check(input: &[u8]) {
    let (lengths, bytes) = split(input);
    let cut: Vec<Bytes> = pieces(bytes, lengths).into_iter().map(Bytes::copy_from_slice).collect();
    let (too_large_at, counted) = plainly(bytes);
    let (through, ended, received) = now(request_body(cut, MESSAGE_BYTES_MAX));
    assert_eq!(received, counted);
    match too_large_at {
        None => {
            assert!(ended.is_ok(), "{ended:?}");
            assert_eq!(through, bytes);
        }
        Some(at) => {
            let status = ended.expect_err("a message is too large");
            assert_eq!(status.code(), Code::ResourceExhausted);
            // The piece in which the length ends does not pass.
            assert!(through.len() < at && bytes.starts_with(&through), "{} of {at}", through.len());
        }
    }
}

/// Where the prefix of the first message that is too large ends, and the bytes of the messages before it.
fn plainly(mut bytes: &[u8]) -> (Option<usize>, u64) {
    let (mut at, mut counted) = (0, 0);
    while let [_, a, b, c, d, behind @ ..] = bytes {
        let len = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        at += 5;
        if len > MESSAGE_BYTES_MAX {
            return (Some(at), counted);
        }
        counted += len as u64;
        at += len;
        bytes = behind.get(len..).unwrap_or_default();
    }
    (None, counted)
}

/// The output of a future that has nothing to wait for.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => unreachable!("every piece is there"),
    }
}
