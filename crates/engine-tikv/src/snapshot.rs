use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use engine::{ReadError, Scan, ScanPage, Snapshot};
use futures_util::future::try_join_all;
use tikv_client::{KvPair, Timestamp};

use crate::cursor::Cursor;
use crate::limits::READ_WIDTH_MAX;
use crate::read::Failed;
use crate::shared::Shared;

/// The records as they were at a timestamp. Holds nothing on the cluster: after half of the time for which old versions
/// are kept, it fails.
pub(crate) struct TikvSnapshot {
    shared: Arc<Shared>,
    at: Timestamp,
}

impl TikvSnapshot {
    pub(crate) fn new(shared: Arc<Shared>, at: Timestamp) -> TikvSnapshot {
        TikvSnapshot { shared, at }
    }

    /// The records with these keys, in portions, some of them at the same time.
    async fn read_portions(&self, keys: &[Bytes]) -> Result<HashMap<Bytes, Bytes>, ReadError> {
        let mut found = HashMap::with_capacity(keys.len());
        let mut rest = keys;
        while !rest.is_empty() {
            // Asked each time: the records before may have been larger than was expected.
            let portion = self.shared.portion.records(true);
            let (now, later) = rest.split_at(rest.len().min(portion * READ_WIDTH_MAX));
            let reading = now.chunks(portion).map(|keys| self.read_portion(keys));
            for pairs in try_join_all(reading).await? {
                let records = pairs
                    .into_iter()
                    .map(|KvPair(key, value)| (Bytes::from(Vec::from(key)), Bytes::from(value)));
                found.extend(records);
            }
            rest = later;
        }
        Ok(found)
    }

    /// Reads the keys with one request, or with as many as it takes when the answer does not fit.
    async fn read_portion(&self, keys: &[Bytes]) -> Result<Vec<KvPair>, ReadError> {
        let mut pairs = Vec::with_capacity(keys.len());
        let mut waiting = vec![keys];
        while let Some(keys) = waiting.pop() {
            match self.shared.read_keys(&self.at, keys).await {
                Ok(found) => pairs.extend(found),
                Err(Failed::TooLarge(_)) if keys.len() > 1 => {
                    self.shared.portion.was_too_large(keys.len());
                    let (front, back) = keys.split_at(keys.len() / 2);
                    waiting.extend([back, front]);
                }
                Err(Failed::TooLarge(reason)) => return Err(ReadError::Unavailable(reason)),
                Err(Failed::Error(error)) => return Err(error),
            }
        }
        Ok(pairs)
    }
}

#[async_trait]
impl Snapshot for TikvSnapshot {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ReadError> {
        let value = self.shared.read_key(&self.at, key).await?;
        self.shared.check_age(&self.at).await?;
        Ok(value)
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, ReadError> {
        let mut wanted = keys.to_vec();
        wanted.sort();
        wanted.dedup();
        let found = self.read_portions(&wanted).await?;
        self.shared.check_age(&self.at).await?;
        Ok(keys.iter().map(|key| found.get(key).cloned()).collect())
    }

    async fn scan(&self, scan: &Scan) -> Result<ScanPage, ReadError> {
        let mut cursor = Cursor::new(scan);
        self.shared.fill(&self.at, &mut cursor, scan.values).await?;
        self.shared.check_age(&self.at).await?;
        Ok(cursor.finish())
    }
}
