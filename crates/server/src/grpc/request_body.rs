use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use prometheus_client::metrics::counter::Counter;
use tonic::Status;

use crate::clients::Call;

/// A message's flag and length, before each message.
const PREFIX_BYTES: usize = 5;

/// The body of a gRPC request that reads along: it counts messages and refuses one that is too large at its first
/// bytes, with the code and the text of Go's gRPC.
pub(crate) struct RequestBody<B> {
    body: B,
    message_bytes_max: usize,
    received: Counter,
    /// Whose memory the messages take; nobody's in a call that no connection makes.
    call: Option<Arc<Call>>,
    /// The bytes of a prefix so far; complete at [`PREFIX_BYTES`].
    prefix: [u8; PREFIX_BYTES],
    prefix_len: usize,
    /// What is still to come of the message behind the prefix.
    message_left: usize,
}

impl<B> RequestBody<B> {
    pub(crate) fn new(
        body: B,
        message_bytes_max: usize,
        received: Counter,
        call: Option<Arc<Call>>,
    ) -> RequestBody<B> {
        RequestBody {
            body,
            message_bytes_max,
            received,
            call,
            prefix: [0; PREFIX_BYTES],
            prefix_len: 0,
            message_left: 0,
        }
    }

    fn read_along(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while !data.is_empty() {
            let skipped = self.message_left.min(data.len());
            data.advance(skipped);
            self.message_left -= skipped;
            while let Some((&byte, rest)) = data.split_first()
                && self.message_left == 0
            {
                data = rest;
                if let Some(place) = self.prefix.get_mut(self.prefix_len) {
                    *place = byte;
                }
                self.prefix_len += 1;
                if self.prefix_len == PREFIX_BYTES {
                    self.begin_message()?;
                }
            }
        }
        Ok(())
    }

    fn begin_message(&mut self) -> Result<(), Status> {
        let [_, length @ ..] = self.prefix;
        let length = u32::from_be_bytes(length) as usize;
        if length > self.message_bytes_max {
            let max = self.message_bytes_max;
            let text = format!("grpc: received message larger than max ({length} vs. {max})");
            return Err(Status::resource_exhausted(text));
        }
        if let Some(call) = &self.call {
            call.receive(length)?;
        }
        self.received.inc_by(length as u64);
        self.prefix_len = 0;
        self.message_left = length;
        Ok(())
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(Status::from_error(error.into())))),
            None => return Poll::Ready(None),
        };
        let read = frame.data_ref().map_or(Ok(()), |data| self.read_along(data));
        Poll::Ready(Some(read.map(|()| frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};

    /// What becomes of `wire`, cut into frames of `frame_len` bytes.
    async fn read(wire: &[u8], frame_len: usize) -> (Result<usize, Status>, u64) {
        let frames: Vec<Result<_, std::convert::Infallible>> =
            wire.chunks(frame_len).map(|part| Ok(Frame::data(Bytes::copy_from_slice(part)))).collect();
        let received = Counter::default();
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let read = RequestBody::new(body, 300, received.clone(), None).collect().await;
        (read.map(|body| body.to_bytes().len()), received.get())
    }

    fn message(len: usize) -> Vec<u8> {
        let mut wire = vec![0];
        wire.extend_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
        wire.extend(vec![7; len]);
        wire
    }

    #[tokio::test]
    async fn messages_pass_however_they_are_cut() {
        let wire = [message(3), message(0), message(300), message(1)].concat();
        for frame_len in [1, 2, 5, 6, 7, 64, 1000] {
            let (read, received) = read(&wire, frame_len).await;
            assert_eq!((read.unwrap(), received), (wire.len(), 304), "frames of {frame_len} bytes");
        }
    }

    #[tokio::test]
    async fn a_message_over_the_limit_is_refused_in_the_words_of_go() {
        let wire = [message(3), message(301)].concat();
        for frame_len in [1, 4, 9, 1000] {
            let (read, _) = read(&wire, frame_len).await;
            let status = read.unwrap_err();
            assert_eq!(status.code(), tonic::Code::ResourceExhausted);
            assert_eq!(status.message(), "grpc: received message larger than max (301 vs. 300)");
        }
    }
}
