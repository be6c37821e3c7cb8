use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use engine::{Batch, CommitError, Engine, KeySpan, ReadError, Snapshot, Usage, Write};
use thiserror::Error;
use tikv_client::TransactionClient;

use crate::config::{Config, ConfigError};
use crate::error::text;
use crate::gc::{Collected, interval};
use crate::limits::{MESSAGE_BYTES_MAX, READ_TIME_MAX, REQUEST_TIME_MAX};
use crate::pd::Pd;
use crate::shared::{Shared, earlier, numbered};
use crate::snapshot::TikvSnapshot;

/// The engine on a TiKV cluster. Cheap to share; several may use a cluster at the same time, in one process or many.
///
/// Beside the contract of [`Engine`]:
/// - [`CommitError::NoSpace`] is also the answer to a batch of [`engine::BatchClass::Reclaim`]: TiKV has a reserve of
///   its own, which this client cannot ask for;
/// - a value must fit into one entry of TiKV's log (`raftstore.raft-entry-max-size`, 8 MiB unless set), or the batch is
///   never taken;
/// - a commit tries for 10 s and takes some more seconds to find out what became of it; a read tries for 10 s. A request
///   that is then on its way may still be sent again for some seconds by `tikv-client`: what it does is covered by the
///   outcome that was reported;
/// - keys are those of TiKV's transactional API V1, without a keyspace, and of no other user of the cluster: each store
///   keeps to its prefix.
pub struct TikvEngine {
    shared: Arc<Shared>,
}

/// Why there is no connection to a cluster.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Trying again is in vain.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No member of PD answers, or none knows who leads. It may come later.
    #[error("no PD answers at {endpoints}: {reason}")]
    Unreachable {
        /// Where they were looked for.
        endpoints: String,
        /// What the last try ended with.
        reason: String,
    },
}

impl TikvEngine {
    /// Connects to the cluster of PD, or fails within some seconds. No record is read or written.
    pub async fn connect(config: Config) -> Result<TikvEngine, ConnectError> {
        config.check()?;
        let pd = Pd::new(&config)?;
        let endpoints = config.pd_endpoints.join(",");
        let unreachable = |reason| ConnectError::Unreachable { endpoints: endpoints.clone(), reason };
        // Asked first: it gives up quickly, and says why.
        pd.region_of(&[]).await.map_err(|error| unreachable(error.to_string()))?;
        let mut settings = tikv_client::Config::default()
            .with_timeout(REQUEST_TIME_MAX)
            .with_grpc_max_decoding_message_size(MESSAGE_BYTES_MAX);
        if let Some(tls) = &config.tls {
            settings = settings.with_security(&tls.ca_file, &tls.cert_file, &tls.key_file);
        }
        let connecting = TransactionClient::new_with_config(config.pd_endpoints.clone(), settings);
        let client = match tokio::time::timeout(READ_TIME_MAX, connecting).await {
            Ok(connected) => connected.map_err(|error| unreachable(text(&error)))?,
            Err(_) => return Err(unreachable("it did not answer in time".to_owned())),
        };
        let shared = Shared::new(config, client, pd);
        let now = shared.timestamp().await.map_err(unreachable)?;
        shared.hold_versions(&now).await.map_err(unreachable)?;
        Ok(TikvEngine { shared: Arc::new(shared) })
    }

    /// Lets the cluster forget what no snapshot of an allowed age can show: settles every lock below the safe point,
    /// in all keys of the cluster, and then moves it, to `safe_point` at most. It never passes what any service on the
    /// cluster holds on to, nor this store's lifetime of old versions.
    ///
    /// With [`crate::Collecting::Elsewhere`], only says what this store needs.
    pub async fn advance_gc(&self, safe_point: u64) -> Result<Collected, ReadError> {
        self.check_open()?;
        self.shared.collect(&numbered(safe_point)).await
    }

    /// How often [`Engine::reclaim`] should be called, so that versions that are kept this long go about when they may.
    pub fn reclaim_interval(gc_lifetime: Duration) -> Duration {
        interval(gc_lifetime)
    }

    #[cfg(all(test, feature = "cluster-tests"))]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    fn check_open(&self) -> Result<(), ReadError> {
        match self.shared.closed() {
            Some(reason) => Err(ReadError::Closed(reason)),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Engine for TikvEngine {
    async fn snapshot(&self) -> Result<Box<dyn Snapshot>, ReadError> {
        self.check_open()?;
        let at = self.shared.timestamp().await.map_err(ReadError::Unavailable)?;
        Ok(Box::new(TikvSnapshot::new(Arc::clone(&self.shared), at)))
    }

    async fn commit(&self, batch: Batch) -> Result<(), CommitError> {
        if let Some(reason) = self.shared.closed() {
            return Err(CommitError::Closed(reason));
        }
        if batch.writes.is_empty() {
            return Ok(());
        }
        self.shared.commit_batch(&batch).await?;
        let bytes: usize = batch.writes.iter().map(size).sum();
        self.shared.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    async fn split_points(&self, range: KeySpan, pieces: usize) -> Result<Vec<Bytes>, ReadError> {
        self.check_open()?;
        if pieces <= 1 || crate::cursor::is_empty(&range) {
            return Ok(Vec::new());
        }
        let mut tries = self.shared.tries(READ_TIME_MAX);
        loop {
            let reason = match tries.run(self.shared.regions.cut(&self.shared.pd, &range, pieces)).await {
                Ok(Ok(points)) => return Ok(points),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "PD did not say in time where regions end".to_owned(),
            };
            if !tries.again().await {
                return Err(ReadError::Unavailable(reason));
            }
        }
    }

    /// PD's, to the millisecond.
    async fn time(&self) -> Result<Duration, ReadError> {
        self.check_open()?;
        let now = self.shared.timestamp().await.map_err(ReadError::Unavailable)?;
        Ok(Duration::from_millis(u64::try_from(now.physical).unwrap_or(0)))
    }

    async fn settle(&self, spans: &[KeySpan]) -> Result<(), ReadError> {
        self.check_open()?;
        for span in spans.iter().filter(|span| !crate::cursor::is_empty(span)) {
            self.shared.settle_span(span).await?;
        }
        Ok(())
    }

    /// What this process has committed since it connected, in bytes of keys and values: the cluster does not say what a
    /// range of keys occupies. It grows with each write, also one that replaces a record, and never falls.
    fn usage(&self) -> Usage {
        let written = self.shared.written_bytes.load(Ordering::Relaxed);
        Usage { total_bytes: written, live_bytes: written }
    }

    /// Moves the cluster's safe point as far as it may go: see [`TikvEngine::advance_gc`]. TiKV gives the space back by
    /// and by.
    async fn reclaim(&self) -> Result<(), ReadError> {
        self.check_open()?;
        let now = self.shared.timestamp().await.map_err(ReadError::Unavailable)?;
        self.shared.collect(&earlier(&now, self.shared.config.gc_lifetime)).await.map(drop)
    }

    async fn close(&self) {
        self.shared.close();
    }
}

fn size(write: &Write) -> usize {
    match write {
        Write::Put(key, value) | Write::Insert(key, value) => key.len() + value.len(),
        Write::Delete(key) => key.len(),
    }
}
