use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tonic::Status;
use tracing::warn;

use crate::error::EtcdError;

/// The body of a leader's answer on its way to the client. Where it breaks off the client hears that, as gRPC says it.
pub(super) struct Passed {
    body: Incoming,
    broken: EtcdError,
    is_over: bool,
}

impl Passed {
    pub(super) fn new(body: Incoming, broken: EtcdError) -> Passed {
        Passed { body, broken, is_over: false }
    }
}

impl Body for Passed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(error)) => {
                warn!(%error, "a leader's answer broke off");
                self.is_over = true;
                let mut trailers = HeaderMap::new();
                // Its text is a header's value as it stands.
                let _ = Status::from(self.broken).add_header(&mut trailers);
                Some(Ok(Frame::trailers(trailers)))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // It may end earlier.
        SizeHint::default()
    }
}
