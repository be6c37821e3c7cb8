//! What a backup asks a server for.

use std::collections::HashMap;
use std::time::Duration;

use backup::Head;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::{
    LeaseLeasesRequest, LeaseTimeToLiveRequest, RangeRequest, RangeResponse, RangeStreamResponse,
};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::failure::BackupFailure;
use super::file::{Begun, Target};
use crate::commands::bar::Bar;

/// A server that sends nothing for so long has gone.
const SILENCE_TIME_MAX: Duration = Duration::from_secs(60);
/// The largest piece of a list that is taken: above the largest value that a server has.
const PIECE_BYTES_MAX: usize = 128 << 20;
/// So many leases are asked for at the same time.
const LEASES_AT_ONCE_MAX: usize = 32;

/// Every key.
const ALL: &[u8] = &[0];

pub(super) struct Source {
    kv: KvClient<Channel>,
    leases: LeaseClient<Channel>,
}

impl Source {
    pub(super) fn new(channel: Channel) -> Source {
        Source {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(PIECE_BYTES_MAX),
            leases: LeaseClient::new(channel).max_decoding_message_size(PIECE_BYTES_MAX),
        }
    }

    /// The store's newest revision, which is linearizable, and how many keys it has.
    pub(super) async fn head(&mut self) -> Result<Head, BackupFailure> {
        let count = RangeRequest {
            key: ALL.into(),
            range_end: ALL.into(),
            count_only: true,
            ..RangeRequest::default()
        };
        let answer = in_time(self.kv.range(count)).await?.into_inner();
        let header = answer.header.ok_or(BackupFailure::Early)?;
        let keys = answer.count.unsigned_abs();
        Ok(Head { cluster_id: header.cluster_id, revision: header.revision, keys })
    }

    /// Whether this is the store that a backup was begun from.
    pub(super) async fn is_of(&mut self, cluster_id: u64) -> Result<(), BackupFailure> {
        match self.head().await?.cluster_id {
            found if found == cluster_id => Ok(()),
            found => Err(BackupFailure::OtherCluster { begun: cluster_id, found }),
        }
    }

    /// All leases that live, with the time that they were granted.
    pub(super) async fn leases(&mut self) -> Result<HashMap<i64, i64>, BackupFailure> {
        let listed = in_time(self.leases.lease_leases(LeaseLeasesRequest {})).await?.into_inner();
        let mut found = HashMap::with_capacity(listed.leases.len());
        for some in listed.leases.chunks(LEASES_AT_ONCE_MAX) {
            let mut asked = tokio::task::JoinSet::new();
            for lease in some {
                let (mut client, id) = (self.leases.clone(), lease.id);
                let request = LeaseTimeToLiveRequest { id, ..LeaseTimeToLiveRequest::default() };
                asked.spawn(async move { client.lease_time_to_live(request).await });
            }
            while let Some(answer) = in_time(async { Ok(asked.join_next().await) }).await? {
                let answer = answer.map_err(|error| BackupFailure::SetUp(error.to_string()))?;
                let answer = answer?.into_inner();
                // One that has gone meanwhile has no time.
                if answer.ttl > 0 || answer.granted_ttl > 0 {
                    found.insert(answer.id, answer.granted_ttl);
                }
            }
        }
        Ok(found)
    }

    /// Copies the keys behind the last one that is there, as they were at the backup's revision.
    pub(super) async fn keys(
        &mut self,
        begun: &mut Begun,
        target: &Target,
        bar: &Bar,
    ) -> Result<(), BackupFailure> {
        let Begun { head, leases, writer, last_key, .. } = begun;
        // The first key behind it; and with none, every key.
        let from = [last_key.as_slice(), &[0]].concat();
        let request = RangeRequest {
            key: from.into(),
            range_end: ALL.into(),
            revision: head.revision,
            ..RangeRequest::default()
        };
        let mut pieces = in_time(self.kv.range_stream(request)).await?.into_inner();
        while let Some(RangeResponse { header, kvs, .. }) = next(&mut pieces).await? {
            for key_value in &kvs {
                if key_value.lease != 0 && !leases.contains_key(&key_value.lease) {
                    return Err(BackupFailure::Lease { lease: key_value.lease });
                }
                writer.key(key_value).map_err(|error| target.write_failure(error))?;
            }
            bar.add(kvs.len() as u64);
            if header.is_some() {
                return Ok(());
            }
        }
        Err(BackupFailure::Early)
    }
}

async fn next(pieces: &mut Streaming<RangeStreamResponse>) -> Result<Option<RangeResponse>, BackupFailure> {
    Ok(in_time(pieces.message()).await?.and_then(|piece| piece.range_response))
}

async fn in_time<T>(asked: impl Future<Output = Result<T, Status>>) -> Result<T, BackupFailure> {
    match tokio::time::timeout(SILENCE_TIME_MAX, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(BackupFailure::Silent(SILENCE_TIME_MAX.as_secs())),
    }
}
