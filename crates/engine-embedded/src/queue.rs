//! What waits for the writer: bounded in bytes, taken in groups.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::{Batch, CommitError};
use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// The batches that one fsync makes durable, at most: bounds how long the first of them waits.
pub(crate) const GROUP_BATCHES_MAX: usize = 1024;
/// The bytes that one fsync makes durable, at most (one batch more may exceed it).
pub(crate) const GROUP_BYTES_MAX: usize = 8 << 20;
/// The unit in which the room of the queue is counted.
const ROOM_UNIT: usize = 1024;

/// A record of an old segment that is to be copied.
pub(crate) struct Copy {
    pub(crate) seq: u64,
    pub(crate) key: Bytes,
    pub(crate) kind: CopyKind,
}

/// What is to be copied.
pub(crate) enum CopyKind {
    /// A put and where it was read: copied if it is still the newest of its key.
    Put { value: Bytes, from: (u32, u32) },
    /// A deletion that older versions still need.
    Deletion { covers: (u32, u32) },
}

/// The answer to a request of the upkeep thread.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, CommitError>>;

/// A batch with whom to answer.
pub(crate) struct Commit {
    pub(crate) batch: Batch,
    pub(crate) answer: Answer<()>,
    /// The room that it takes in the queue, given back when it is answered.
    pub(crate) _room: Option<OwnedSemaphorePermit>,
}

/// Something for the writer to do.
pub(crate) enum Request {
    Commit(Commit),
    /// Copy these records of the segment into the log.
    Relocate {
        segment: u32,
        records: Vec<Copy>,
        answer: Answer<()>,
    },
    /// Nothing of the segment is needed any more: say so in the log, durably.
    Retire {
        segment: u32,
        answer: Answer<()>,
    },
    /// Begin a new segment, so that the last one can be rewritten.
    Roll {
        answer: Answer<()>,
    },
    /// Versions are waiting to be forgotten.
    Forget,
    /// End after everything that came before.
    Close,
}

/// What the writer found waiting.
pub(crate) enum Taken {
    Group(Vec<Request>),
    /// Nothing came for the time given.
    Idle,
}

struct Inner {
    waiting: VecDeque<Request>,
    /// Why nothing is accepted any more.
    closed: Option<String>,
}

/// The queue between everyone and the writer.
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    filled: Condvar,
    room: Arc<Semaphore>,
    room_units: u32,
}

impl Queue {
    pub(crate) fn new(bytes_max: u64) -> Queue {
        let room_units = u32::try_from(bytes_max / ROOM_UNIT as u64).unwrap_or(u32::MAX).max(1);
        Queue {
            inner: Mutex::new(Inner { waiting: VecDeque::new(), closed: None }),
            filled: Condvar::new(),
            room: Arc::new(Semaphore::new(room_units as usize)),
            room_units,
        }
    }

    /// Waits until there is room for a batch of `bytes`; a batch larger than the queue waits for all of it.
    /// `None` when the queue was closed.
    pub(crate) async fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(ROOM_UNIT)).unwrap_or(u32::MAX).clamp(1, self.room_units);
        self.room.clone().acquire_many_owned(units).await.ok()
    }

    /// Adds a request, or gives it back with the reason why the queue is closed.
    pub(crate) fn push(&self, request: Request) -> Result<(), (Request, String)> {
        let mut inner = self.inner.lock();
        if let Some(reason) = &inner.closed {
            return Err((request, reason.clone()));
        }
        inner.waiting.push_back(request);
        drop(inner);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes what waits, up to a group's bounds. With `idle`, waits no longer than that.
    pub(crate) fn take(&self, idle: Option<Duration>) -> Taken {
        let mut inner = self.inner.lock();
        while inner.waiting.is_empty() {
            match idle {
                Some(idle) => {
                    if self.filled.wait_for(&mut inner, idle).timed_out() && inner.waiting.is_empty() {
                        return Taken::Idle;
                    }
                }
                None => self.filled.wait(&mut inner),
            }
        }
        let mut group = Vec::new();
        let mut bytes = 0;
        while group.len() < GROUP_BATCHES_MAX && bytes < GROUP_BYTES_MAX {
            let Some(request) = inner.waiting.pop_front() else { break };
            if let Request::Commit(commit) = &request {
                bytes += batch_bytes(&commit.batch);
            }
            group.push(request);
        }
        Taken::Group(group)
    }

    /// Accepts nothing any more; what waits stays to be taken, or is dropped with `discard`.
    pub(crate) fn close(&self, reason: &str) {
        let mut inner = self.inner.lock();
        if inner.closed.is_none() {
            inner.closed = Some(reason.to_owned());
            inner.waiting.push_back(Request::Close);
        }
        drop(inner);
        self.room.close();
        self.filled.notify_one();
    }

    /// Takes everything that waits.
    pub(crate) fn drain(&self) -> Vec<Request> {
        self.inner.lock().waiting.drain(..).collect()
    }

    /// Why the queue is closed.
    pub(crate) fn closed(&self) -> Option<String> {
        self.inner.lock().closed.clone()
    }
}

/// The bytes of a batch's keys and values.
pub(crate) fn batch_bytes(batch: &Batch) -> usize {
    let bytes = |write: &engine::Write| match write {
        engine::Write::Put(key, value) | engine::Write::Insert(key, value) => key.len() + value.len(),
        engine::Write::Delete(key) => key.len(),
    };
    batch.writes.iter().map(bytes).sum()
}
