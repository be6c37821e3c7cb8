use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tonic::Status;

use super::Client;
use crate::error::EtcdError;

/// One call under way, and the bytes that are in memory for it, until it is dropped.
pub(crate) struct Call {
    client: Arc<Client>,
    /// Of the message that the client sent last.
    request_bytes: AtomicUsize,
    /// Of answers that it has not taken.
    answer_bytes: AtomicUsize,
}

/// How many bytes an answer has that is ready: an extension of the response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnswerBytes(pub(crate) usize);

impl Client {
    /// Begins a call; refused when the client has too many, or too much in memory.
    pub(crate) fn begin_call(self: &Arc<Client>) -> Result<Arc<Call>, Status> {
        let calls = self.calls.fetch_add(1, Ordering::Relaxed);
        let call = Arc::new(Call {
            client: self.clone(),
            request_bytes: AtomicUsize::new(0),
            answer_bytes: AtomicUsize::new(0),
        });
        if calls >= self.limits.calls_per_client_max || !self.has_room(0) {
            return Err(EtcdError::RequestTooManyRequests.into());
        }
        Ok(call)
    }

    /// Whether so many bytes more are within the limit.
    fn has_room(&self, bytes: usize) -> bool {
        self.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= self.limits.bytes_per_client_max
    }
}

impl Call {
    /// A message of so many bytes is about to be received; the one before it has been dealt with. Refused when it is
    /// too much.
    pub(crate) fn receive(&self, bytes: usize) -> Result<(), Status> {
        let before = self.request_bytes.swap(0, Ordering::Relaxed);
        self.client.bytes.fetch_sub(before, Ordering::Relaxed);
        if !self.client.has_room(bytes) {
            return Err(EtcdError::RequestTooManyRequests.into());
        }
        self.client.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.request_bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// An answer of so many bytes is there. It counts, and is never refused: what it answers has happened.
    pub(crate) fn answer(&self, bytes: usize) {
        self.client.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.answer_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The client has taken so many bytes, or what is left if it is less.
    pub(crate) fn taken(&self, bytes: usize) {
        let left = self.answer_bytes.load(Ordering::Relaxed);
        let taken = bytes.min(left);
        self.answer_bytes.store(left - taken, Ordering::Relaxed);
        self.client.bytes.fetch_sub(taken, Ordering::Relaxed);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let bytes = *self.request_bytes.get_mut() + *self.answer_bytes.get_mut();
        self.client.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.client.calls.fetch_sub(1, Ordering::Relaxed);
    }
}
