//! Answers between members that clients never see.

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// The one asked has done nothing, because it does not lead.
const NOT_LEADING: HeaderName = HeaderName::from_static(NOT_LEADING_NAME);
const NOT_LEADING_NAME: &str = "orlop-not-leading";
/// The store that the caller serves.
const CLUSTER: HeaderName = HeaderName::from_static("orlop-cluster-id");

/// What is said of a change to keys that another member owns: nothing was done.
pub(crate) fn elsewhere() -> Status {
    let mut status = Status::unavailable("another member owns the keys");
    status.metadata_mut().insert(NOT_LEADING_NAME, MetadataValue::from_static("1"));
    status
}

/// The answer of one who does not lead, and has done nothing.
pub(super) fn not_leading() -> Response<Body> {
    let mut response = Status::unavailable("this member does not lead").into_http();
    response.headers_mut().insert(NOT_LEADING, HeaderValue::from_static("1"));
    response
}

/// Whether an answer says so.
pub(super) fn says_not_leading(headers: &HeaderMap) -> bool {
    headers.contains_key(NOT_LEADING)
}

/// The answer of one who serves another store.
pub(super) fn wrong_cluster() -> Response<Body> {
    let mut response = Status::new(Code::FailedPrecondition, "this member serves another store").into_http();
    response.headers_mut().insert(NOT_LEADING, HeaderValue::from_static("1"));
    response
}

/// Marks a call as forwarded by a member of this cluster.
pub(super) fn mark(headers: &mut HeaderMap, cluster_id: u64) {
    headers.insert(CLUSTER, HeaderValue::from(cluster_id));
}

/// The cluster whose member forwarded a call.
pub(super) fn cluster_of(headers: &HeaderMap) -> Option<u64> {
    headers.get(CLUSTER)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_back() {
        let mut headers = HeaderMap::new();
        assert_eq!(cluster_of(&headers), None);
        mark(&mut headers, u64::MAX);
        assert_eq!(cluster_of(&headers), Some(u64::MAX));
        assert!(says_not_leading(elsewhere().into_http::<Body>().headers()));
        assert!(says_not_leading(not_leading().headers()) && says_not_leading(wrong_cluster().headers()));
        assert!(!says_not_leading(Status::unavailable("").into_http::<Body>().headers()));
    }
}
