//! What is published here, for those who follow.

use std::collections::VecDeque;
use std::sync::Arc;

use layout::log::SystemChange;
use model::{EventBatch, Revision};
use parking_lot::Mutex;
use partition::{Follower, SystemFollower};
use proto::spliced::FollowResponse;
use tokio::sync::Notify;

use super::convert::batch_to_wire;

/// What one follower was not sent yet weighs at most so much: then it is cut off, and reads the log in the engine. A
/// second of writes at full speed.
const FEED_BYTES_MAX: usize = 32 << 20;
/// How many may follow: as many as there can be members.
const FEEDS_MAX: usize = 1024;
/// What an item weighs beside its batch.
const ITEM_BYTES: usize = 64;

/// All who follow this process.
#[derive(Default)]
pub(crate) struct Feeds {
    feeds: Mutex<Vec<Arc<Shared>>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<FollowResponse>,
    bytes: usize,
    /// More came than fits: what is in the queue is thrown away.
    is_cut: bool,
}

/// What one follower is sent; it ends when the feed is dropped.
pub(crate) struct Feed {
    feeds: Arc<Feeds>,
    shared: Arc<Shared>,
}

/// The follower was too slow.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FellBehind;

impl Feeds {
    /// Everything that is published from now on; `None` when there is no room for another follower.
    pub(crate) fn subscribe(self: &Arc<Feeds>) -> Option<Feed> {
        let mut feeds = self.feeds.lock();
        if feeds.len() >= FEEDS_MAX {
            return None;
        }
        let shared = Arc::new(Shared::default());
        feeds.push(shared.clone());
        Some(Feed { feeds: self.clone(), shared })
    }

    /// How many follow.
    pub(crate) fn count(&self) -> usize {
        self.feeds.lock().len()
    }

    /// Hands an item to all; it is made only if there is anybody.
    pub(super) fn hand(&self, item: impl FnOnce() -> FollowResponse) {
        let feeds = self.feeds.lock();
        if feeds.is_empty() {
            return;
        }
        let item = item();
        for feed in feeds.iter() {
            feed.queue.lock().push(item.clone());
            feed.filled.notify_one();
        }
    }
}

impl Queue {
    fn push(&mut self, item: FollowResponse) {
        if self.is_cut {
            return;
        }
        self.bytes += weight(&item);
        self.items.push_back(item);
        // One alone is sent, however large it is.
        if self.bytes > FEED_BYTES_MAX && self.items.len() > 1 {
            *self = Queue { is_cut: true, ..Queue::default() };
        }
    }
}

fn weight(item: &FollowResponse) -> usize {
    ITEM_BYTES + item.batch.as_ref().map_or(0, bytes::Bytes::len)
}

impl Feed {
    /// The next item. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<FollowResponse, FellBehind> {
        loop {
            {
                let mut queue = self.shared.queue.lock();
                if queue.is_cut {
                    return Err(FellBehind);
                }
                if let Some(item) = queue.items.pop_front() {
                    queue.bytes -= weight(&item);
                    return Ok(item);
                }
            }
            self.shared.filled.notified().await;
        }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.feeds.feeds.lock().retain(|feed| !Arc::ptr_eq(feed, &self.shared));
    }
}

impl Follower for Feeds {
    fn published(&self, batch: &Arc<EventBatch>) {
        self.hand(|| FollowResponse { batch: Some(batch_to_wire(batch)), ..FollowResponse::default() });
    }
}

impl SystemFollower for Feeds {
    fn applied(&self, changes: &[SystemChange]) {
        for change in changes {
            if let SystemChange::Compacted(revision) = change {
                let compacted = Some(Revision::get(*revision));
                self.hand(|| FollowResponse { compacted, ..FollowResponse::default() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use model::{Change, ChangeKind, Event, Key};

    fn batch(revision: i64, bytes: usize) -> Arc<EventBatch> {
        let revision = Revision::new(revision);
        let key = Key::new("k").unwrap();
        let change = Change { revision, key, kind: ChangeKind::Delete, previous: Revision::NONE };
        let event = Arc::new(Event::new(change, Bytes::from(vec![0; bytes])));
        Arc::new(EventBatch { after: revision.previous(), revision, events: vec![event] })
    }

    #[tokio::test]
    async fn all_get_the_same_bytes_in_order_from_when_they_came() {
        let feeds = Arc::new(Feeds::default());
        feeds.published(&batch(2, 10));
        let mut first = feeds.subscribe().unwrap();
        feeds.published(&batch(3, 10));
        let mut second = feeds.subscribe().unwrap();
        feeds.applied(&[SystemChange::Compacted(Revision::new(2))]);
        feeds.published(&batch(4, 10));
        let third = first.next().await.unwrap();
        assert_eq!(third.batch, Some(batch_to_wire(&batch(3, 10))));
        for feed in [&mut first, &mut second] {
            assert_eq!(feed.next().await.unwrap().compacted, Some(2));
        }
        let (one, other) = (first.next().await.unwrap(), second.next().await.unwrap());
        assert_eq!(one.batch.as_ref().unwrap().as_ptr(), other.batch.as_ref().unwrap().as_ptr());
        drop((first, second));
        assert!(feeds.feeds.lock().is_empty());
    }

    #[tokio::test]
    async fn one_that_falls_behind_is_cut_off_alone() {
        let feeds = Arc::new(Feeds::default());
        let (mut slow, mut quick) = (feeds.subscribe().unwrap(), feeds.subscribe().unwrap());
        for revision in 2..40 {
            feeds.published(&batch(revision, 1 << 20));
            quick.next().await.unwrap();
        }
        assert_eq!(slow.next().await, Err(FellBehind));
        assert!(slow.shared.queue.lock().items.is_empty(), "nothing is kept for it");
        feeds.published(&batch(40, 1));
        assert!(quick.next().await.is_ok());
        assert_eq!(slow.next().await, Err(FellBehind), "what would leave a gap is not sent");
    }

    #[tokio::test]
    async fn a_batch_beyond_the_bound_is_sent_alone() {
        let feeds = Arc::new(Feeds::default());
        let mut feed = feeds.subscribe().unwrap();
        feeds.published(&batch(2, FEED_BYTES_MAX + 1));
        assert!(feed.next().await.is_ok());
    }

    #[test]
    fn their_number_is_bounded() {
        let feeds = Arc::new(Feeds::default());
        let all: Vec<_> = (0..FEEDS_MAX).map(|_| feeds.subscribe().unwrap()).collect();
        assert!(feeds.subscribe().is_none());
        drop(all);
        assert!(feeds.subscribe().is_some());
    }
}
