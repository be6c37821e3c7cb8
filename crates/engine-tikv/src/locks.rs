//! Locks that transactions have left behind.

use std::time::Duration;

use bytes::Bytes;
use engine::{Direction, KeySpan, ReadError};
use futures_util::future::try_join_all;
use tikv_client::transaction::ResolveLocksOptions;
use tikv_client::{Backoff, BoundRange, Key, ProtoLockInfo, Timestamp, TimestampExt};
use tracing::debug;

use crate::cursor::{is_empty, successor};
use crate::error::{is_txn_not_found, text};
use crate::limits::{CLEAR_TIME_MAX, CLEAR_WIDTH_MAX, LOCKS_PER_SCAN, SETTLE_TIME_MAX};
use crate::shared::{Shared, age, numbered};

/// What is known for ever about a transaction, after its primary key was settled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Primary {
    /// Nothing was ever written at the primary key: the commit request was not sent.
    Untouched,
    /// It is committed or rolled back, and will stay so.
    Final,
}

impl Shared {
    /// Ends every transaction that holds a lock in `span` and began before now: it is committed if its primary key is,
    /// else rolled back, though its owner may still be alive.
    pub(crate) async fn settle_span(&self, span: &KeySpan) -> Result<(), ReadError> {
        let now = self.timestamp().await.map_err(ReadError::Unavailable)?;
        self.clear_locks(span, &now).await
    }

    /// Clears all locks in `span` of transactions that began at or before `until`: region by region, so that one in
    /// trouble does not undo the work on the others.
    pub(crate) async fn clear_locks(&self, span: &KeySpan, until: &Timestamp) -> Result<(), ReadError> {
        let mut rest = Some(span.clone());
        while let Some(span) = rest {
            let pieces = self.pieces(&span, Direction::Forward, CLEAR_WIDTH_MAX).await?;
            let clearing = pieces.iter().map(|piece| self.clear_piece(span_range(piece), until));
            try_join_all(clearing).await.map_err(ReadError::Unavailable)?;
            let reached = pieces.last().and_then(|piece| piece.end.clone());
            rest = reached.map(|start| KeySpan { start, end: span.end }).filter(|rest| !is_empty(rest));
        }
        Ok(())
    }

    async fn clear_piece(&self, range: BoundRange, until: &Timestamp) -> Result<(), String> {
        let mut tries = self.tries(CLEAR_TIME_MAX);
        loop {
            let options = ResolveLocksOptions { async_commit_only: false, batch_size: LOCKS_PER_SCAN };
            let clearing = self.client.cleanup_locks(range.clone(), until, options);
            let reason = match tries.run(clearing).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => text(&error),
                Err(_) => "clearing locks took too long".to_owned(),
            };
            if !tries.again().await {
                return Err(reason);
            }
        }
    }

    /// Clears locks in `span` whose time to live is over: nobody renews them any more. `tikv-client` does not get past
    /// one whose primary key was never written.
    pub(crate) async fn clear_orphans(&self, span: &KeySpan) -> Result<(), String> {
        let now = self.timestamp().await?;
        let tries = self.tries(SETTLE_TIME_MAX);
        let scanning = self.client.scan_locks(&now, span_range(span), LOCKS_PER_SCAN);
        let locks = match tries.run(scanning).await {
            Ok(found) => found.map_err(|error| text(&error))?,
            Err(_) => return Err("looking for locks took too long".to_owned()),
        };
        let mut cleared: Vec<u64> = Vec::new();
        for lock in locks.iter().filter(|lock| is_over(lock, &now)) {
            // Clearing one lock clears those of its transaction in the same region, and often there is one only.
            if cleared.last() == Some(&lock.lock_version) {
                continue;
            }
            debug!(transaction = lock.lock_version, "clearing a lock that its owner has left behind");
            let key = Bytes::copy_from_slice(&lock.key);
            let alone = KeySpan { end: Some(successor(&key)), start: key };
            self.clear_piece(span_range(&alone), &numbered(lock.lock_version)).await?;
            cleared.push(lock.lock_version);
        }
        Ok(())
    }

    /// Decides for ever what becomes of the transaction that began at `start`: if it is not committed at its primary
    /// key by now, it never will be. To be called when no request of it will be sent any more, except one to commit that
    /// is on its way already.
    pub(crate) async fn settle_primary(&self, primary: &[u8], start: &Timestamp) -> Result<Primary, String> {
        let mut tries = self.tries(SETTLE_TIME_MAX);
        loop {
            // A time to live of zero has `tikv-client` settle the lock at once, whether it is alive or not.
            let lock = ProtoLockInfo {
                key: primary.to_vec(),
                primary_lock: primary.to_vec(),
                lock_version: start.version(),
                lock_ttl: 0,
                ..ProtoLockInfo::default()
            };
            let settling = self.client.resolve_locks(vec![lock], start.clone(), Backoff::no_backoff());
            let reason = match tries.run(settling).await {
                Ok(Ok(alive)) if alive.is_empty() => return Ok(Primary::Final),
                Ok(Ok(_)) => "its lock is still alive".to_owned(),
                // A commit request is only sent when the primary key is locked, and that leaves a trace.
                Ok(Err(error)) if is_txn_not_found(&error) => return Ok(Primary::Untouched),
                Ok(Err(error)) => text(&error),
                Err(_) => "looking at the primary key took too long".to_owned(),
            };
            if !tries.again().await {
                return Err(reason);
            }
        }
    }
}

/// Whether the lock's time to live has passed.
fn is_over(lock: &ProtoLockInfo, now: &Timestamp) -> bool {
    age(&numbered(lock.lock_version), now) > Duration::from_millis(lock.lock_ttl)
}

/// The span as `tikv-client` takes it.
pub(crate) fn span_range(span: &KeySpan) -> BoundRange {
    let start = Key::from(span.start.to_vec());
    let end = span.end.as_ref().map(|end| Key::from(end.to_vec()));
    BoundRange::from((start, end))
}
