use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use model::{Event, KeyRange, Revision};
use thiserror::Error;

/// The past, as far as it was not compacted.
#[async_trait]
pub trait History: Send + Sync + 'static {
    /// The next step's worth of what happened in `range` from `from` on.
    async fn events(&self, from: Revision, range: &KeyRange) -> Result<HistoryPage, HistoryError>;

    /// The revision below which the past was given up: no watcher may start there.
    fn compacted(&self) -> Option<Revision>;

    /// The encoded version that `event` replaced; `None` where there was none.
    async fn previous(&self, event: &Event) -> Result<Option<Bytes>, HistoryError>;
}

/// A part of the past.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    /// The events in the order of their revisions; those of one revision are never split over two pages.
    pub events: Vec<Arc<Event>>,
    /// Every event of the range from the revision asked for through this one is in `events`; below the revision
    /// asked for when nothing has happened from there on.
    pub through: Revision,
}

/// Why a part of the past cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HistoryError {
    /// It was compacted; the compacted revision.
    #[error("compacted through {0}")]
    Compacted(Revision),
    /// It cannot be read at the moment; the client may resume where it was.
    #[error("{0}")]
    Unavailable(String),
    /// It was found damaged.
    #[error("{0}")]
    Corrupt(String),
}
