//! Turns away clients that ask too often whether the connection lives.
//!
//! The HTTP/2 library answers every PING and has no limit for them. etcd has one, through Go's gRPC: pings that come
//! within 5 seconds of the last are strikes, unless the server has sent something of use in between; with the third
//! strike the client is told to calm down, in the words that its library knows, and the connection is closed. The
//! same is done here, beside the library, by looking at the frames that pass.
//!
//! Different from etcd: a client without calls under way may ping every 5 seconds too (etcd: every 2 hours).

pub(crate) mod frames;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base::Clock;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use frames::{Direction, Frame, Frames};

/// etcd's `--grpc-keepalive-min-time` by default.
const PING_INTERVAL_MIN: Duration = Duration::from_secs(5);
/// What Go's gRPC forgives.
const STRIKES_MAX: u32 = 2;

/// A GOAWAY frame: 22 bytes, on no stream; every stream may have been worked on; ENHANCE_YOUR_CALM; and the words by
/// which Go's gRPC clients know to ping less often from then on.
const CALM_DOWN: &[u8] =
    b"\x00\x00\x16\x07\x00\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x0btoo_many_pings";

/// A connection whose client may ping only so often.
pub(crate) struct PingGuard<S> {
    stream: S,
    clock: Arc<dyn Clock>,
    /// Set when the client has sent anything.
    spoke: Arc<AtomicBool>,
    inbound: Frames,
    outbound: Frames,
    last_ping: Option<Duration>,
    /// Something of use was sent since the last ping.
    useful: bool,
    strikes: u32,
    strikes_max: u32,
    /// How much of [`CALM_DOWN`] has been sent.
    said: usize,
}

impl<S> PingGuard<S> {
    pub(crate) fn new(stream: S, clock: Arc<dyn Clock>, spoke: Arc<AtomicBool>) -> PingGuard<S> {
        PingGuard {
            stream,
            clock,
            spoke,
            inbound: Frames::new(Direction::FromClient),
            outbound: Frames::new(Direction::FromServer),
            last_ping: None,
            useful: false,
            strikes: 0,
            strikes_max: STRIKES_MAX,
            said: 0,
        }
    }

    /// A connection whose other end may ping as often as it likes.
    pub(crate) fn off(stream: S, clock: Arc<dyn Clock>, spoke: Arc<AtomicBool>) -> PingGuard<S> {
        PingGuard { strikes_max: u32::MAX, ..PingGuard::new(stream, clock, spoke) }
    }

    fn received(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() && !self.spoke.load(Ordering::Relaxed) {
            self.spoke.store(true, Ordering::Relaxed);
        }
        let mut pings = 0;
        self.inbound.pass(bytes, |frame| pings += u32::from(frame == Frame::Ping));
        for _ in 0..pings {
            let now = self.clock.now();
            let soon = self.last_ping.is_some_and(|last| now < last + PING_INTERVAL_MIN);
            if std::mem::take(&mut self.useful) {
                self.strikes = 0;
            } else if soon {
                self.strikes = self.strikes.saturating_add(1);
            }
            self.last_ping = Some(now);
        }
    }

    fn sent(&mut self, bytes: &[u8]) {
        let useful = &mut self.useful;
        self.outbound.pass(bytes, |frame| *useful |= frame == Frame::Useful);
    }
}

impl<S: AsyncWrite + Unpin> PingGuard<S> {
    /// Ends the connection of a client that has struck out, as soon as no frame is half sent. Ready when there is no
    /// reason to.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.strikes <= self.strikes_max || !self.outbound.is_between_frames() {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest) = CALM_DOWN.get(self.said..).filter(|rest| !rest.is_empty()) {
            self.said += ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
        }
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the client pings too often")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PingGuard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut guard.stream).poll_read(context, buffer))?;
        guard.received(buffer.filled().get(before..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PingGuard<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        ready!(guard.poll_patience(context))?;
        let written = ready!(Pin::new(&mut guard.stream).poll_write(context, bytes))?;
        guard.sent(bytes.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        ready!(guard.poll_patience(context))?;
        let written = ready!(Pin::new(&mut guard.stream).poll_write_vectored(context, slices))?;
        let mut left = written;
        for slice in slices {
            let part = slice.get(..left.min(slice.len())).unwrap_or_default();
            guard.sent(part);
            left -= part.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        ready!(guard.poll_patience(context))?;
        Pin::new(&mut guard.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
