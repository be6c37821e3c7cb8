//! What the targets of `fuzz` reach of this crate: the parsers of what clients send, each as the server itself calls
//! it. Built with the feature `fuzzing` only; no part of the product.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use prometheus_client::metrics::counter::Counter;
use proto::spliced::WatchResponse;
use tonic::Status;

pub use crate::convert::from_proto::{
    TXN_DEPTH_MAX, TXN_OPS_MAX_DEFAULT, compaction, delete, put, range, range_stream, txn,
};
pub use crate::error::EtcdError;
use crate::grpc::RequestBody;
use crate::keepalive::frames::{Direction, Frame, Frames};
use crate::server::Server;
use crate::watch::driver;
pub use tonic::Code;

/// A frame of HTTP/2 as the guard against pings tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenFrame {
    /// A ping that wants an answer.
    Ping,
    /// Headers or data.
    Useful,
    /// Any other.
    Other,
}

/// The frames of a connection's bytes, which come in these pieces, and whether the last one has passed whole.
pub fn frames<'b>(pieces: impl IntoIterator<Item = &'b [u8]>, from_client: bool) -> (Vec<SeenFrame>, bool) {
    let mut frames = Frames::new(if from_client { Direction::FromClient } else { Direction::FromServer });
    let mut seen = Vec::new();
    for piece in pieces {
        frames.pass(piece, |frame| {
            seen.push(match frame {
                Frame::Ping => SeenFrame::Ping,
                Frame::Useful => SeenFrame::Useful,
                Frame::Other => SeenFrame::Other,
            });
        });
    }
    (seen, frames.is_between_frames())
}

/// Passes the body of a request on, which comes in these pieces. Returns the bytes that came through, how they ended,
/// and the number of bytes in messages that was counted.
pub async fn request_body(pieces: Vec<Bytes>, message_bytes_max: usize) -> (Bytes, Result<(), Status>, u64) {
    let frames = pieces.into_iter().map(|piece| Ok::<_, Status>(http_body::Frame::data(piece)));
    let received = Counter::default();
    let stream = StreamBody::new(futures_util::stream::iter(frames));
    let mut body = RequestBody::new(stream, message_bytes_max, received.clone(), None);
    let mut through = Vec::new();
    let ended = loop {
        match body.frame().await {
            None => break Ok(()),
            Some(Err(status)) => break Err(status),
            Some(Ok(frame)) => through.extend_from_slice(frame.data_ref().map_or(&[], |data| data.as_ref())),
        }
    };
    (through.into(), ended, received.get())
}

/// Cuts a watch response into several of about `bytes_max` each.
pub fn fragments(response: WatchResponse, bytes_max: usize) -> Vec<WatchResponse> {
    driver::fragments(response, bytes_max)
}

/// Answers a gRPC call whose body is these bytes, without a connection, and gives the call's code when it ends. A
/// watch need not end: drop the future then.
pub async fn call(server: &Server, path: &str, body: Bytes) -> Code {
    let request = http::Request::builder()
        .method(http::Method::POST)
        .uri(path)
        .version(http::Version::HTTP_2)
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .header("te", "trailers")
        .body(Full::new(body));
    let Ok(request) = request else { return Code::InvalidArgument };
    let response = server.shared.grpc.call(request).await;
    let code = |headers: &http::HeaderMap| {
        headers.get("grpc-status").map(|status| Code::from_bytes(status.as_bytes()))
    };
    let early = code(response.headers());
    let mut body = response.into_body();
    let mut late = None;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => late = frame.trailers_ref().and_then(code).or(late),
            Err(status) => return status.code(),
        }
    }
    late.or(early).unwrap_or(Code::Unknown)
}

/// Answers a plain HTTP request for this target (a path and perhaps a query), and gives the status; `None` for one that
/// the HTTP library does not let through.
pub async fn get(server: &Server, target: &[u8]) -> Option<u16> {
    let uri = http::Uri::try_from(target).ok()?;
    let request = http::Request::builder().uri(uri).body(()).ok()?;
    let response = server.shared.http.answer(&request).await;
    let status = response.status().as_u16();
    response.into_body().collect().await.ok().map(|_| status)
}
