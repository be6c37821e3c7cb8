//! Reading at a timestamp, and reading again while that can help.

use std::future::Future;

use bytes::Bytes;
use engine::{Direction, KeySpan, ReadError};
use futures_util::future::try_join_all;
use tikv_client::backoff::OPTIMISTIC_BACKOFF;
use tikv_client::{
    Backoff, CheckLevel, Error, Key, KvPair, RetryOptions, Snapshot, Timestamp, TransactionOptions,
};

use crate::cursor::{Cursor, successor};
use crate::error::{is_about_locks, is_too_large, text};
use crate::limits::{READ_TIME_MAX, READ_WIDTH_MAX};
use crate::locks::span_range;
use crate::shared::{Shared, age};

/// How often `tikv-client` sends a request again by itself; some refusals will not change, and reads are tried again
/// here anyway.
const READ_BACKOFF: Backoff = Backoff::no_jitter_backoff(2, 64, 6);

/// Reads that meet locks look for orphans after so many tries: before that, the owner is most likely just at work.
const TRIES_BEFORE_ORPHANS: usize = 3;

/// One request's worth of records, and whether it was cut off at its limit.
pub(crate) struct Found {
    pub(crate) records: Vec<(Bytes, Bytes)>,
    pub(crate) complete: bool,
}

/// What one request of a scan asks for.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) piece: KeySpan,
    pub(crate) direction: Direction,
    pub(crate) values: bool,
    pub(crate) limit: usize,
}

/// Why a read gave nothing.
pub(crate) enum Failed {
    /// The answer would not fit into a message: ask for less.
    TooLarge(String),
    Error(ReadError),
}

impl Shared {
    /// A view of `tikv-client`. Made anew for each request: it remembers all that was read through it.
    fn view(&self, at: &Timestamp) -> Snapshot {
        let retries = RetryOptions::new(READ_BACKOFF, OPTIMISTIC_BACKOFF);
        let options =
            TransactionOptions::new_optimistic().drop_check(CheckLevel::None).retry_options(retries);
        self.client.snapshot(at.clone(), options)
    }

    /// Fails unless old versions of the time `at` are still kept, now that the answer is here. By PD's clock: the
    /// machine's may have stood still with the machine.
    pub(crate) async fn check_age(&self, at: &Timestamp) -> Result<(), ReadError> {
        let now = self.timestamp().await.map_err(ReadError::Unavailable)?;
        let (age, age_max) = (age(at, &now), self.config.gc_lifetime / 2);
        if age > age_max {
            let reason = format!("the snapshot is {age:?} old, and can be read for {age_max:?}");
            return Err(ReadError::Unavailable(reason));
        }
        Ok(())
    }

    /// The value of one key.
    pub(crate) async fn read_key(&self, at: &Timestamp, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let span = KeySpan { start: Bytes::copy_from_slice(key), end: Some(successor(key)) };
        let read = || {
            let mut view = self.view(at);
            async move { view.get(key.to_vec()).await }
        };
        match self.again_while_it_helps(&span, read).await {
            Ok(value) => Ok(value.map(Bytes::from)),
            Err(Failed::TooLarge(reason)) => Err(ReadError::Unavailable(reason)),
            Err(Failed::Error(error)) => Err(error),
        }
    }

    /// The records with these keys, which are in order, each once.
    pub(crate) async fn read_keys(&self, at: &Timestamp, keys: &[Bytes]) -> Result<Vec<KvPair>, Failed> {
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return Ok(Vec::new()) };
        let span = KeySpan { start: first.clone(), end: Some(successor(last)) };
        let read = || {
            let mut view = self.view(at);
            let wanted: Vec<Key> = keys.iter().map(|key| Key::from(key.to_vec())).collect();
            async move { Ok(view.batch_get(wanted).await?.collect::<Vec<KvPair>>()) }
        };
        let pairs = self.again_while_it_helps(&span, read).await?;
        let bytes: usize = pairs.iter().map(|pair| pair.value().len() + pair.key().len()).sum();
        self.portion.seen(pairs.len(), bytes);
        Ok(pairs)
    }

    /// Reads on for `cursor` until its page is full or the scan complete. Regions that turn out to be empty or nearly so
    /// are read several at a time.
    pub(crate) async fn fill(
        &self,
        at: &Timestamp,
        cursor: &mut Cursor,
        values: bool,
    ) -> Result<(), ReadError> {
        let mut width = 1;
        while let Some(rest) = cursor.wanted().cloned() {
            let limit = self.portion.records(values).min(cursor.room());
            let pieces = self.pieces(&rest, cursor.direction(), width).await?;
            let asks = pieces.iter().map(|piece| {
                let piece = piece.clone();
                self.scan_piece(at, Ask { piece, direction: cursor.direction(), values, limit })
            });
            let found = try_join_all(asks).await?;
            width = (width * 2).min(READ_WIDTH_MAX);
            for (piece, found) in pieces.iter().zip(found) {
                if !cursor.take(piece, found.records, found.complete) {
                    // Where records are dense, one region at a time fills the page; more would be read in vain.
                    width = 1;
                    break;
                }
            }
        }
        Ok(())
    }

    /// The first `width` pieces of the span that lie in one region each.
    pub(crate) async fn pieces(
        &self,
        span: &KeySpan,
        direction: Direction,
        width: usize,
    ) -> Result<Vec<KeySpan>, ReadError> {
        let mut pieces: Vec<KeySpan> = Vec::new();
        let mut rest = Some(span.clone());
        while let Some(span) = rest.take_if(|_| pieces.len() < width) {
            let piece = self.first_piece(&span, direction).await?;
            rest = match direction {
                Direction::Forward => piece.end.clone().map(|start| KeySpan { start, end: span.end.clone() }),
                Direction::Backward => {
                    Some(KeySpan { start: span.start.clone(), end: Some(piece.start.clone()) })
                }
            };
            rest = rest.filter(|rest| !crate::cursor::is_empty(rest));
            pieces.push(piece);
        }
        Ok(pieces)
    }

    async fn first_piece(&self, span: &KeySpan, direction: Direction) -> Result<KeySpan, ReadError> {
        let mut tries = self.tries(READ_TIME_MAX);
        loop {
            let asking = self.regions.first_piece(&self.pd, &*self.config.clock, span, direction);
            let reason = match tries.run(asking).await {
                Ok(Ok(piece)) => return Ok(piece),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "PD did not say in time where regions end".to_owned(),
            };
            if !tries.again().await {
                return Err(ReadError::Unavailable(reason));
            }
        }
    }

    /// Reads the near end of a piece.
    async fn scan_piece(&self, at: &Timestamp, mut ask: Ask) -> Result<Found, ReadError> {
        loop {
            match self.scan_once(at, &ask).await {
                Ok(records) => {
                    let bytes: usize = records.iter().map(|(key, value)| key.len() + value.len()).sum();
                    if ask.values {
                        self.portion.seen(records.len(), bytes);
                    }
                    let complete = records.len() < ask.limit;
                    return Ok(Found { records, complete });
                }
                Err(Failed::TooLarge(_)) if ask.limit > 1 => {
                    self.portion.was_too_large(ask.limit);
                    ask.limit /= 2;
                }
                Err(Failed::TooLarge(reason)) => return Err(ReadError::Unavailable(reason)),
                Err(Failed::Error(error)) => return Err(error),
            }
        }
    }

    async fn scan_once(&self, at: &Timestamp, ask: &Ask) -> Result<Vec<(Bytes, Bytes)>, Failed> {
        let range = || span_range(&ask.piece);
        let limit = u32::try_from(ask.limit).unwrap_or(u32::MAX);
        let read = || {
            let mut view = self.view(at);
            async move {
                let keys = |key: Key| (Bytes::from(Vec::from(key)), Bytes::new());
                let pairs = |KvPair(key, value)| (Bytes::from(Vec::from(key)), Bytes::from(value));
                Ok(match (ask.direction, ask.values) {
                    (Direction::Forward, true) => view.scan(range(), limit).await?.map(pairs).collect(),
                    (Direction::Forward, false) => view.scan_keys(range(), limit).await?.map(keys).collect(),
                    (Direction::Backward, true) => {
                        view.scan_reverse(range(), limit).await?.map(pairs).collect()
                    }
                    (Direction::Backward, false) => {
                        view.scan_keys_reverse(range(), limit).await?.map(keys).collect()
                    }
                })
            }
        };
        self.again_while_it_helps(&ask.piece, read).await
    }

    /// Reads until it works or the time is up. What was read in `span` may be locked by transactions whose owners are
    /// gone: these are cleared on the way.
    async fn again_while_it_helps<T, R>(&self, span: &KeySpan, read: impl Fn() -> R) -> Result<T, Failed>
    where
        R: Future<Output = Result<T, Error>>,
    {
        let mut tries = self.tries(READ_TIME_MAX);
        let mut locked = 0;
        loop {
            if let Some(reason) = self.closed() {
                return Err(Failed::Error(ReadError::Closed(reason)));
            }
            let reason = match tries.run(read()).await {
                Ok(Ok(read)) => return Ok(read),
                Ok(Err(error)) if is_too_large(&error) => return Err(Failed::TooLarge(text(&error))),
                Ok(Err(error)) => {
                    locked += usize::from(is_about_locks(&error));
                    text(&error)
                }
                Err(_) => "TiKV did not answer in time".to_owned(),
            };
            if locked >= TRIES_BEFORE_ORPHANS
                && let Err(reason) = self.clear_orphans(span).await
            {
                tracing::debug!(reason, "orphaned locks could not be cleared");
            }
            if !tries.again().await {
                return Err(Failed::Error(ReadError::Unavailable(reason)));
            }
        }
    }
}
