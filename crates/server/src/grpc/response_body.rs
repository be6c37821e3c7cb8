use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base::{Clock, Shutdown};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::Span;

use crate::error::EtcdError;
use crate::metrics::Method;
use crate::trace;

/// A call that is counted from its begin to its end, whichever way it ends.
pub(super) struct Counted {
    /// None where the call is counted elsewhere.
    method: Option<Arc<Method>>,
    sent_bytes: Counter,
    clock: Arc<dyn Clock>,
    started_at: Duration,
    /// Of a call that is traced.
    span: Span,
    /// How it ended; a call that was dropped before was cancelled.
    code: Option<Code>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        trace::end(&self.span, self.code.unwrap_or(Code::Cancelled));
        if let Some(method) = &self.method {
            method.end(self.code.unwrap_or(Code::Cancelled), self.started_at, self.clock.now());
        }
    }
}

/// The body of a gRPC response that reads along, and ends the call when the server stops.
pub(super) struct ResponseBody {
    body: Body,
    counted: Counted,
    stopping: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// The server has stopped, and the client has been told.
    stopped: bool,
}

impl Counted {
    /// Counts a call that begins now.
    pub(super) fn begin(method: Arc<Method>, sent_bytes: Counter, clock: Arc<dyn Clock>) -> Counted {
        method.begin();
        let started_at = clock.now();
        Counted { method: Some(method), sent_bytes, clock, started_at, span: Span::none(), code: None }
    }

    /// Goes along with a call of another member, which counts it if it is a client's.
    pub(super) fn elsewhere(clock: Arc<dyn Clock>) -> Counted {
        let started_at = clock.now();
        let sent_bytes = Counter::default();
        Counted { method: None, sent_bytes, clock, started_at, span: Span::none(), code: None }
    }

    /// Ends this span with the call.
    pub(super) fn traced(mut self, span: Span) -> Counted {
        self.span = span;
        self
    }

    /// Goes on with the response's body. `code` is the call's if the headers tell it already; `stopping` ends the
    /// call.
    pub(super) fn around(
        mut self,
        body: Body,
        code: Option<Code>,
        stopping: Option<Shutdown>,
    ) -> ResponseBody {
        self.code = code;
        let stopping = stopping.filter(|_| code.is_none());
        let stopping = stopping.map(|stopping| {
            let begun: Pin<Box<dyn Future<Output = ()> + Send>> =
                Box::pin(async move { stopping.begun().await });
            begun
        });
        ResponseBody { body, counted: self, stopping, stopped: false }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.stopped {
            return Poll::Ready(None);
        }
        // Before the body: a stream that always has more would never end otherwise. Messages are whole in a frame,
        // so that none is cut.
        if let Some(stopping) = &mut self.stopping
            && stopping.as_mut().poll(context).is_ready()
        {
            self.stopped = true;
            self.counted.code = Some(EtcdError::Stopped.code());
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(EtcdError::Stopped.into())))));
        }
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(status)) => {
                self.counted.code = Some(status.code());
                return Poll::Ready(Some(Err(status)));
            }
            None => return Poll::Ready(None),
        };
        if let Some(data) = frame.data_ref() {
            self.counted.sent_bytes.inc_by(data.len() as u64);
        }
        if let Some(status) = frame.trailers_ref().and_then(|trailers| trailers.get("grpc-status")) {
            self.counted.code = Some(Code::from_bytes(status.as_bytes()));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.stopped || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn trailers(status: Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // Its text is a header's value as it stands.
    let _ = status.add_header(&mut trailers);
    trailers
}
