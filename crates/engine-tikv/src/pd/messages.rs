//! The messages of PD's protocol (`pdpb`, `metapb`) with the fields that are used here; the others are skipped.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct RequestHeader {
    #[prost(uint64, tag = "1")]
    pub(super) cluster_id: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResponseHeader {
    #[prost(uint64, tag = "1")]
    pub(super) cluster_id: u64,
    #[prost(message, optional, tag = "2")]
    pub(super) error: Option<ResponseError>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResponseError {
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetMembersRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<RequestHeader>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetMembersResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(message, optional, tag = "3")]
    pub(super) leader: Option<Member>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Member {
    #[prost(string, repeated, tag = "4")]
    pub(super) client_urls: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Region {
    #[prost(bytes = "vec", tag = "2")]
    pub(super) start_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) end_key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetRegionRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<RequestHeader>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) region_key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetRegionResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(message, optional, tag = "2")]
    pub(super) region: Option<Region>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ScanRegionsRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<RequestHeader>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) start_key: Vec<u8>,
    #[prost(int32, tag = "3")]
    pub(super) limit: i32,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) end_key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ScanRegionsResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    pub(super) region_metas: Vec<Region>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct UpdateServiceGcSafePointRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<RequestHeader>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) service_id: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub(super) ttl: i64,
    #[prost(uint64, tag = "4")]
    pub(super) safe_point: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct UpdateServiceGcSafePointResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) service_id: Vec<u8>,
    #[prost(uint64, tag = "4")]
    pub(super) min_safe_point: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct UpdateGcSafePointRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<RequestHeader>,
    #[prost(uint64, tag = "2")]
    pub(super) safe_point: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct UpdateGcSafePointResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(uint64, tag = "2")]
    pub(super) new_safe_point: u64,
}
