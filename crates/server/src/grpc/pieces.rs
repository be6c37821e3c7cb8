use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base::Clock;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use crate::clients::{Answer, Call};

/// An answer is offered in pieces of at most this size: whether the client takes something is seen at each, and a
/// piece goes out in a moment on any line.
const PIECE_BYTES_MAX: usize = 256 << 10;

/// What a call holds while its answer waits for the client.
pub(super) struct Offered {
    call: Arc<Call>,
    answer: Answer,
    clock: Arc<dyn Clock>,
    /// The piece that was handed on last; asking for the next says that it was taken.
    piece: usize,
    /// Whether the answer was counted before it was made into bytes.
    is_counted: bool,
}

/// A body whose data comes in small pieces, each counted against its client until it is taken.
pub(super) struct Pieces<B> {
    body: B,
    rest: Bytes,
    offered: Option<Offered>,
}

impl Offered {
    /// `is_counted`: the answer's bytes were counted already.
    pub(super) fn new(call: Arc<Call>, answer: Answer, clock: Arc<dyn Clock>, is_counted: bool) -> Offered {
        Offered { call, answer, clock, piece: 0, is_counted }
    }

    fn is_asked(&mut self) {
        self.call.taken(std::mem::take(&mut self.piece));
    }

    fn has_made(&self, bytes: usize) {
        if !self.is_counted {
            self.call.answer(bytes);
        }
    }

    fn hands_on(&mut self, piece: usize) {
        self.piece = piece;
        self.answer.offered(self.clock.now());
    }
}

impl<B> Pieces<B> {
    pub(super) fn new(body: B, offered: Option<Offered>) -> Pieces<B> {
        Pieces { body, rest: Bytes::new(), offered }
    }

    fn next_piece(&mut self) -> Bytes {
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES_MAX));
        if let Some(offered) = &mut self.offered {
            offered.hands_on(piece.len());
        }
        piece
    }
}

impl<B> Body for Pieces<B>
where
    B: Body<Data = Bytes, Error = Status> + Unpin,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if let Some(offered) = &mut this.offered {
            offered.is_asked();
        }
        if !this.rest.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(this.next_piece()))));
        }
        let frame = match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(ended) => {
                this.offered = None;
                return Poll::Ready(ended);
            }
            Poll::Pending => {
                // Nothing waits for the client: it waits for us.
                if let Some(offered) = &this.offered {
                    offered.answer.taken();
                }
                return Poll::Pending;
            }
        };
        match frame.into_data() {
            Ok(data) => {
                if let Some(offered) = &this.offered {
                    offered.has_made(data.len());
                }
                this.rest = data;
                Poll::Ready(Some(Ok(Frame::data(this.next_piece()))))
            }
            Err(trailers) => {
                this.offered = None;
                Poll::Ready(Some(Ok(trailers)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
