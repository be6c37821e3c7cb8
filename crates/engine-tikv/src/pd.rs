//! The calls to PD that `tikv-client` does not offer: where regions end, and how far a service allows to collect.

mod codec;
mod messages;

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use thiserror::Error;
use tikv_client::SecurityManager;
use tokio::sync::Mutex;
use tonic::client::Grpc;
use tonic::codec::ProstCodec;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

use self::codec::{decode_key, encode_before, encode_key};
use self::messages::{
    GetMembersRequest, GetMembersResponse, GetRegionRequest, GetRegionResponse, Region, RequestHeader,
    ResponseHeader, ScanRegionsRequest, ScanRegionsResponse, UpdateGcSafePointRequest,
    UpdateGcSafePointResponse, UpdateServiceGcSafePointRequest, UpdateServiceGcSafePointResponse,
};
use crate::config::{Config, ConfigError};
use crate::limits::{REGIONS_PER_ASK, REQUEST_TIME_MAX};

/// Above every border of a region that a cluster really has.
const HIGHEST_KEY: [u8; 64] = [0xff; 64];

/// PD did not answer, or not what was asked for. Whoever asked may ask again.
#[derive(Debug, Error)]
#[error("PD: {0}")]
pub(crate) struct PdError(String);

/// A client of PD's leader. It finds the leader anew after every failure.
pub(crate) struct Pd {
    endpoints: Vec<String>,
    security: SecurityManager,
    leader: Mutex<Option<Leader>>,
}

#[derive(Clone)]
struct Leader {
    channel: Channel,
    cluster_id: u64,
}

/// From where to where a region reaches; no end is the end of all keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RegionSpan {
    pub(crate) start: Bytes,
    pub(crate) end: Option<Bytes>,
}

/// The least of all service safe points, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeastSafePoint {
    pub(crate) service: String,
    pub(crate) safe_point: u64,
}

/// What a request and its response have in common.
trait Call: Message + Default + 'static {
    type Response: Message + Default + HasHeader + 'static;
    const PATH: &'static str;
}

trait HasHeader {
    fn header(&self) -> Option<&ResponseHeader>;
}

macro_rules! call {
    ($request:ty, $response:ty, $path:literal) => {
        impl Call for $request {
            type Response = $response;
            const PATH: &'static str = $path;
        }
        impl HasHeader for $response {
            fn header(&self) -> Option<&ResponseHeader> {
                self.header.as_ref()
            }
        }
    };
}

call!(GetMembersRequest, GetMembersResponse, "/pdpb.PD/GetMembers");
call!(GetRegionRequest, GetRegionResponse, "/pdpb.PD/GetRegion");
call!(ScanRegionsRequest, ScanRegionsResponse, "/pdpb.PD/ScanRegions");
call!(UpdateServiceGcSafePointRequest, UpdateServiceGcSafePointResponse, "/pdpb.PD/UpdateServiceGCSafePoint");

call!(UpdateGcSafePointRequest, UpdateGcSafePointResponse, "/pdpb.PD/UpdateGCSafePoint");

impl Pd {
    /// A client that connects when it is first asked.
    pub(crate) fn new(config: &Config) -> Result<Pd, ConfigError> {
        let security = match &config.tls {
            Some(tls) => SecurityManager::load(&tls.ca_file, &tls.cert_file, &tls.key_file)
                .map_err(|error| ConfigError::Tls(error.to_string()))?,
            None => SecurityManager::default(),
        };
        Ok(Pd { endpoints: config.pd_endpoints.clone(), security, leader: Mutex::new(None) })
    }

    /// The region that holds `key`.
    pub(crate) async fn region_of(&self, key: &[u8]) -> Result<RegionSpan, PdError> {
        self.region_at(encode_key(key)).await
    }

    /// The region that holds the keys just before `end`; no end stands for the end of all keys.
    pub(crate) async fn region_before(&self, end: Option<&[u8]>) -> Result<RegionSpan, PdError> {
        self.region_at(end.map_or_else(|| HIGHEST_KEY.to_vec(), encode_before)).await
    }

    async fn region_at(&self, region_key: Vec<u8>) -> Result<RegionSpan, PdError> {
        let ask = |header| GetRegionRequest { header, region_key: region_key.clone() };
        let response = self.ask(ask).await?;
        let region = response.region.ok_or_else(|| PdError("no region holds the key".to_owned()))?;
        span_of(&region)
    }

    /// Regions in order, the first of them with `start`, up to the one that reaches `end` or [`REGIONS_PER_ASK`].
    pub(crate) async fn regions_from(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> Result<Vec<RegionSpan>, PdError> {
        let ask = |header| ScanRegionsRequest {
            header,
            start_key: encode_key(start),
            limit: i32::try_from(REGIONS_PER_ASK).unwrap_or(i32::MAX),
            end_key: end.map(encode_key).unwrap_or_default(),
        };
        self.ask(ask).await?.region_metas.iter().map(span_of).collect()
    }

    /// Says that `service` needs what lies at or above `safe_point`, for `ttl`. Returns the least of all that is in
    /// force now: lower than `safe_point` if another service holds on to more, or higher if this one comes too late and
    /// was not taken.
    pub(crate) async fn hold_safe_point(
        &self,
        service: &str,
        safe_point: u64,
        ttl: Option<Duration>,
    ) -> Result<LeastSafePoint, PdError> {
        let ttl_secs = ttl.map_or(i64::MAX, |ttl| i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
        let ask = |header| UpdateServiceGcSafePointRequest {
            header,
            service_id: service.as_bytes().to_vec(),
            ttl: ttl_secs,
            safe_point,
        };
        let response = self.ask(ask).await?;
        let service = String::from_utf8_lossy(&response.service_id).into_owned();
        Ok(LeastSafePoint { service, safe_point: response.min_safe_point })
    }

    /// Moves the safe point of the whole cluster, and returns where it is now: a higher one stays.
    pub(crate) async fn move_safe_point(&self, safe_point: u64) -> Result<u64, PdError> {
        Ok(self.ask(|header| UpdateGcSafePointRequest { header, safe_point }).await?.new_safe_point)
    }

    async fn ask<R: Call>(
        &self,
        request: impl Fn(Option<RequestHeader>) -> R,
    ) -> Result<R::Response, PdError> {
        let leader = self.leader().await?;
        let request = request(Some(RequestHeader { cluster_id: leader.cluster_id }));
        let answered = send(leader.channel, request).await;
        if answered.is_err() {
            *self.leader.lock().await = None;
        }
        answered
    }

    async fn leader(&self) -> Result<Leader, PdError> {
        let mut known = self.leader.lock().await;
        if let Some(leader) = known.as_ref() {
            return Ok(leader.clone());
        }
        let mut reason = String::new();
        for endpoint in &self.endpoints {
            match self.leader_from(endpoint).await {
                Ok(leader) => return Ok(known.insert(leader).clone()),
                Err(error) => reason = format!("{endpoint}: {error}"),
            }
        }
        Err(PdError(reason))
    }

    /// Asks one member who leads, and connects to that one.
    async fn leader_from(&self, endpoint: &str) -> Result<Leader, PdError> {
        let members = send(self.connect(endpoint).await?, GetMembersRequest::default()).await?;
        let cluster_id = members.header.map_or(0, |header| header.cluster_id);
        let leader = members.leader.ok_or_else(|| PdError("it knows of no leader".to_owned()))?;
        let mut reason = "the leader has no address".to_owned();
        for url in &leader.client_urls {
            match self.connect(url).await {
                Ok(channel) => return Ok(Leader { channel, cluster_id }),
                Err(error) => reason = format!("{url}: {error}"),
            }
        }
        Err(PdError(reason))
    }

    async fn connect(&self, address: &str) -> Result<Channel, PdError> {
        let connecting = self.security.connect(address, |channel: Channel| channel);
        match tokio::time::timeout(REQUEST_TIME_MAX, connecting).await {
            Ok(connected) => connected.map_err(|error| PdError(error.to_string())),
            Err(_) => Err(PdError("no connection in time".to_owned())),
        }
    }
}

async fn send<R: Call>(channel: Channel, request: R) -> Result<R::Response, PdError> {
    let sending = async {
        let mut client = Grpc::new(channel);
        client.ready().await.map_err(|error| PdError(error.to_string()))?;
        let path = PathAndQuery::from_static(R::PATH);
        let codec = ProstCodec::<R, R::Response>::default();
        let answered = client.unary(tonic::Request::new(request), path, codec).await;
        let response = answered.map_err(|status| PdError(status.to_string()))?.into_inner();
        match response.header().and_then(|header| header.error.as_ref()) {
            Some(error) => Err(PdError(error.message.clone())),
            None => Ok(response),
        }
    };
    match tokio::time::timeout(REQUEST_TIME_MAX, sending).await {
        Ok(sent) => sent,
        Err(_) => Err(PdError(format!("no answer to {} in time", R::PATH))),
    }
}

fn span_of(region: &Region) -> Result<RegionSpan, PdError> {
    let key = |encoded: &[u8]| decode_key(encoded).ok_or_else(|| PdError("a border is no key".to_owned()));
    let end = if region.end_key.is_empty() { None } else { Some(key(&region.end_key)?) };
    Ok(RegionSpan { start: key(&region.start_key)?, end })
}
