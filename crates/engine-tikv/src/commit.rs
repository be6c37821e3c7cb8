//! One batch as one transaction, tried until its outcome is certain or the time is up.

use bytes::Bytes;
use engine::{Batch, CommitError, KeySpan, Write};
use tikv_client::transaction::HeartbeatOption;
use tikv_client::{CheckLevel, Error, TimestampExt, Transaction, TransactionOptions};
use tracing::{debug, warn};

use crate::cursor::successor;
use crate::error::{Refusal, is_about_locks, is_disk_full, is_entry_too_large, refusal, text};
use crate::limits::{COMMIT_TIME_MAX, SETTLE_TIME_MAX};
use crate::locks::Primary;
use crate::shared::Shared;

/// What became of one transaction.
#[derive(Debug)]
enum Outcome {
    Committed,
    /// Nothing was applied: this key, which the batch inserts, exists.
    Taken(Bytes),
    /// Nothing was applied, and never will be.
    NotApplied(Cause),
    /// Perhaps.
    Unknown(String),
}

/// Why a transaction was certainly not applied.
#[derive(Debug)]
enum Cause {
    /// Locks of others are in the way.
    Locks(String),
    NoSpace(String),
    /// A record is larger than TiKV takes.
    TooLarge(String),
    Other(String),
}

impl Shared {
    /// Applies `batch` with one transaction. One that was certainly not applied is followed by another, until the time
    /// is up.
    pub(crate) async fn commit_batch(&self, batch: &Batch) -> Result<(), CommitError> {
        let mut tries = self.tries(COMMIT_TIME_MAX);
        loop {
            if let Some(reason) = self.closed() {
                return Err(CommitError::Closed(reason));
            }
            let reason = match self.commit_once(batch, &tries).await {
                Outcome::Committed => return Ok(()),
                Outcome::Taken(key) => return Err(CommitError::Conflict { key }),
                Outcome::Unknown(reason) => return Err(CommitError::Undetermined(reason)),
                Outcome::NotApplied(Cause::NoSpace(reason)) => return Err(CommitError::NoSpace(reason)),
                Outcome::NotApplied(Cause::TooLarge(reason)) => return Err(CommitError::Unavailable(reason)),
                Outcome::NotApplied(Cause::Other(reason)) => reason,
                Outcome::NotApplied(Cause::Locks(reason)) => {
                    self.clear_the_way(batch).await;
                    reason
                }
            };
            debug!(reason, "a transaction was not applied");
            if !tries.again().await {
                return Err(CommitError::Unavailable(reason));
            }
        }
    }

    async fn commit_once(&self, batch: &Batch, tries: &crate::retry::Tries<'_>) -> Outcome {
        let mut txn = match tries.run(self.filled(batch)).await {
            Ok(Ok(txn)) => txn,
            Ok(Err(error)) => return Outcome::NotApplied(Cause::Other(text(&error))),
            Err(_) => return Outcome::NotApplied(Cause::Other("PD gave no timestamp in time".to_owned())),
        };
        match tries.run(txn.commit()).await {
            Ok(Ok(_)) => Outcome::Committed,
            Ok(Err(error)) => match refusal(&error) {
                Refusal::Exists(key) if inserts(batch).any(|inserted| *inserted == key) => {
                    self.roll_back(&mut txn).await;
                    Outcome::Taken(key)
                }
                Refusal::Exists(_) | Refusal::Conflict => {
                    self.roll_back(&mut txn).await;
                    self.taken(batch).await.unwrap_or_else(|| Outcome::NotApplied(Cause::Other(text(&error))))
                }
                Refusal::Unclear => self.settle(batch, &mut txn, cause(&error)).await,
            },
            Err(_) => {
                let reason = Cause::Other(format!("the commit took longer than {COMMIT_TIME_MAX:?}"));
                self.settle(batch, &mut txn, reason).await
            }
        }
    }

    /// A transaction at the present with the writes of `batch`, one of them its primary key.
    async fn filled(&self, batch: &Batch) -> Result<Transaction, Error> {
        // Neither async nor one-phase commit: `tikv-client` 0.4 is unsafe with the one, and leaves locks behind with
        // the other when the cluster declines it.
        // No heartbeat: it begins when a commit here has given up, and until then its task would stay behind every commit.
        let options = TransactionOptions::new_optimistic()
            .drop_check(CheckLevel::None)
            .heartbeat_option(HeartbeatOption::NoHeartbeat);
        let mut txn = self.client.begin_with_options(options).await?;
        let primary = primary(batch);
        // The first one to be added becomes the primary key.
        let others = batch.writes.iter().filter(|write| !primary.is_some_and(|it| std::ptr::eq(it, *write)));
        for write in primary.into_iter().chain(others) {
            match write {
                Write::Put(key, value) => txn.put(key.to_vec(), value.to_vec()).await?,
                Write::Insert(key, value) => txn.insert(key.to_vec(), value.to_vec()).await?,
                Write::Delete(key) => txn.delete(key.to_vec()).await?,
            }
        }
        Ok(txn)
    }

    /// Finds out what became of a transaction that gave no clear answer. Its commit request, if it was sent, may be on
    /// its way: so nothing is rolled back before the primary key says that it is not committed.
    async fn settle(&self, batch: &Batch, txn: &mut Transaction, cause: Cause) -> Outcome {
        let Some(primary) = primary(batch) else { return Outcome::Committed };
        let start = txn.start_timestamp();
        let settled = self.settle_primary(primary.key(), &start).await;
        match (settled, primary) {
            (Ok(Primary::Untouched), _) => {
                self.roll_back(txn).await;
                Outcome::NotApplied(cause)
            }
            // What is there now is there for good, by the contract of `Batch`: so it tells.
            (Ok(Primary::Final), Write::Insert(key, ours)) => match self.present(key).await {
                Some(None) => {
                    self.roll_back(txn).await;
                    Outcome::NotApplied(cause)
                }
                Some(Some(value)) if value != *ours => {
                    self.roll_back(txn).await;
                    Outcome::Taken(key.clone())
                }
                // Ours, or one that looks the same.
                Some(Some(_)) => Outcome::Unknown(cause.into_text()),
                None => Outcome::Unknown(format!("{}; its primary key cannot be read", cause.into_text())),
            },
            // Without an insert, the record at the primary key says nothing about this batch.
            (Ok(Primary::Final), Write::Put(..) | Write::Delete(_)) => Outcome::Unknown(cause.into_text()),
            (Err(reason), _) => {
                Outcome::Unknown(format!("{}; looking at its primary key: {reason}", cause.into_text()))
            }
        }
    }

    /// Takes back what a transaction has left, after a certain failure. What cannot be taken back now holds others up
    /// for as long as its locks live.
    async fn roll_back(&self, txn: &mut Transaction) {
        let tries = self.tries(SETTLE_TIME_MAX);
        let reason = match tries.run(txn.rollback()).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => text(&error),
            Err(_) => "it took too long".to_owned(),
        };
        warn!(transaction = txn.start_timestamp().version(), reason, "a transaction was not rolled back");
    }

    /// Whether one of the keys that the batch inserts exists; `None` when none does, or nobody can tell.
    async fn taken(&self, batch: &Batch) -> Option<Outcome> {
        for key in inserts(batch) {
            if matches!(self.present(key).await, Some(Some(_))) {
                return Some(Outcome::Taken(key.clone()));
            }
        }
        None
    }

    /// What the key holds now; the outer `None`: it cannot be read.
    async fn present(&self, key: &[u8]) -> Option<Option<Bytes>> {
        let now = self.timestamp().await.ok()?;
        self.read_key(&now, key).await.ok()
    }

    /// Clears orphaned locks from the keys of the batch, and those between them.
    async fn clear_the_way(&self, batch: &Batch) {
        let keys = || batch.writes.iter().map(Write::key);
        let (Some(first), Some(last)) = (keys().min(), keys().max()) else { return };
        let span = KeySpan { start: first.clone(), end: Some(successor(last)) };
        if let Err(reason) = self.clear_orphans(&span).await {
            debug!(reason, "orphaned locks could not be cleared");
        }
    }
}

impl Cause {
    fn into_text(self) -> String {
        match self {
            Cause::Locks(reason)
            | Cause::NoSpace(reason)
            | Cause::TooLarge(reason)
            | Cause::Other(reason) => reason,
        }
    }
}

fn cause(error: &Error) -> Cause {
    if is_disk_full(error) {
        Cause::NoSpace(text(error))
    } else if is_entry_too_large(error) {
        Cause::TooLarge(format!(
            "a record is larger than TiKV takes (raftstore.raft-entry-max-size): {}",
            text(error)
        ))
    } else if is_about_locks(error) {
        Cause::Locks(text(error))
    } else {
        Cause::Other(text(error))
    }
}

/// The write whose key decides: the first insert, because what its key holds later tells what became of the batch.
fn primary(batch: &Batch) -> Option<&Write> {
    let insert = batch.writes.iter().find(|write| matches!(write, Write::Insert(..)));
    insert.or_else(|| batch.writes.first())
}

fn inserts(batch: &Batch) -> impl Iterator<Item = &Bytes> {
    batch.writes.iter().filter_map(|write| match write {
        Write::Insert(key, _) => Some(key),
        Write::Put(..) | Write::Delete(_) => None,
    })
}
