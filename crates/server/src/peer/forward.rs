//! Calls that are carried out by whoever leads.
//!
//! A call that may have reached the leader is never sent again (`docs/protocol.md`, R27): it is answered as one whose
//! outcome is unknown. One that certainly did not reach it, or that it did not look at, waits for the next leader.

mod keyed;
mod passed;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base::Clock;
use fleet::Unsent;
use http::request::Parts;
use http::{HeaderMap, Request, Response, Uri, Version, header};
use http_body_util::{BodyExt, Full, Limited};
use partition::UserKeys;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::Status;
use tonic::body::Body;
use tracing::{debug, warn};

use super::{Connection, Peers, Route, answers, caller};
use crate::clients::Caller;
use crate::error::EtcdError;
use crate::trace;
use passed::Passed;

/// What has to be done by the leader, or by the owner of keys: whatever changes something, and what the leader alone knows.
const FORWARDED: [&str; 11] = [
    PUT,
    DELETE_RANGE,
    TXN,
    COMPACT,
    "/etcdserverpb.Lease/LeaseGrant",
    "/etcdserverpb.Lease/LeaseRevoke",
    "/etcdserverpb.Lease/LeaseTimeToLive",
    "/etcdserverpb.Lease/LeaseLeases",
    KEEP_ALIVE,
    "/etcdserverpb.Maintenance/Alarm",
    "/etcdserverpb.Cluster/MemberList",
];
/// Changes keys, which may have an owner of their own.
const PUT: &str = "/etcdserverpb.KV/Put";
const DELETE_RANGE: &str = "/etcdserverpb.KV/DeleteRange";
const TXN: &str = "/etcdserverpb.KV/Txn";
/// A stream between members on which partitions are assigned.
pub(crate) const OWN: &str = "/orlop.peer.v1.Peer/Own";
/// May take long: it can wait until what was compacted is gone.
const COMPACT: &str = "/etcdserverpb.KV/Compact";
/// A stream in both directions.
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// Calls that are forwarded at the same time; who comes later waits. As many as wait for the store in one process.
const FORWARDED_MAX: usize = 8192;
/// And the bytes of their requests together: more waits.
const FORWARDED_BYTES_MAX: usize = 128 << 20;
/// The bytes are counted in pieces of this size.
const BYTES_PER_PERMIT: usize = 1 << 10;

/// How long to wait for a partition that is changing hands before it is looked for again.
const CHANGE_OF_HANDS: Duration = Duration::from_millis(10);

/// Headers of one connection, which are not passed on to another.
const OF_A_CONNECTION: [header::HeaderName; 4] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::HOST];

/// Room for what is forwarded.
pub(crate) struct Room {
    calls: Semaphore,
    bytes: Semaphore,
}

impl Room {
    pub(crate) fn new() -> Room {
        Room {
            calls: Semaphore::new(FORWARDED_MAX),
            bytes: Semaphore::new(FORWARDED_BYTES_MAX / BYTES_PER_PERMIT),
        }
    }

    /// How many calls are being forwarded, and about how many bytes they take.
    pub(crate) fn taken(&self) -> (usize, usize) {
        let calls = FORWARDED_MAX.saturating_sub(self.calls.available_permits());
        let permits = FORWARDED_BYTES_MAX / BYTES_PER_PERMIT;
        (calls, permits.saturating_sub(self.bytes.available_permits()) * BYTES_PER_PERMIT)
    }

    async fn for_bytes(&self, bytes: usize) -> Result<SemaphorePermit<'_>, Status> {
        let permits = (bytes / BYTES_PER_PERMIT + 1).min(FORWARDED_BYTES_MAX / BYTES_PER_PERMIT);
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        self.bytes.acquire_many(permits).await.map_err(|_| EtcdError::Stopped.into())
    }
}

/// Whether a call belongs to the leader.
pub(crate) fn is_forwarded(path: &str) -> bool {
    FORWARDED.contains(&path)
}

/// The service of a call that belongs to the leader.
pub(crate) fn forwarded_service(path: &str) -> Option<&'static str> {
    let path = FORWARDED.into_iter().find(|forwarded| *forwarded == path)?;
    path.trim_start_matches('/').split_once('/').map(|(service, _)| service)
}

/// Whether a call changes keys, which may have another owner than the leader.
pub(crate) fn is_keyed(path: &str) -> bool {
    [PUT, DELETE_RANGE, TXN].contains(&path)
}

/// Whether a call between members lasts for as long as they like.
pub(crate) fn is_endless(path: &str) -> bool {
    [KEEP_ALIVE, "/orlop.peer.v1.Peer/Follow", OWN].contains(&path)
}

/// Carries calls out in this process.
#[async_trait]
pub(crate) trait CarriesOut: Send + Sync {
    /// Answers a call of a service.
    async fn carry_out(&self, service: &str, request: Request<Body>) -> Response<Body>;
}

/// A call on its way to whoever leads, or owns the keys that it is about.
pub(crate) struct Forwarding<'a> {
    pub(crate) peers: &'a Peers,
    /// Who carries it out if that has to be here.
    pub(crate) here: &'a dyn CarriesOut,
    pub(crate) keys: &'a UserKeys,
    /// The most operations that a transaction may have.
    pub(crate) max_txn_ops: usize,
    pub(crate) clock: &'a dyn Clock,
    /// How long a call may wait and be worked on.
    pub(crate) request_timeout: Duration,
    /// The most bytes that the body of a call with one message can have.
    pub(crate) body_bytes_max: usize,
}

/// What becomes of a call.
pub(crate) enum Forwarded {
    /// The answer of whoever leads, or why there is none.
    Answered(Response<Body>),
    /// This process leads meanwhile: it has to carry the call out.
    Here(Request<Body>),
}

impl Forwarding<'_> {
    /// Has the call carried out by whoever leads.
    ///
    /// Cancel-safety: a call whose future is dropped may have been carried out or not.
    pub(crate) async fn forward(&self, request: Request<Body>) -> Forwarded {
        let limit = time_limit(request.headers())
            .map_or(self.request_timeout, |limit| limit.min(self.request_timeout));
        let late = self.clock.now() + limit;
        let done = match request.uri().path() == KEEP_ALIVE {
            true => self.pass_through(request, late).await,
            false => self.send_buffered(request, late).await,
        };
        let metrics = &self.peers.metrics;
        match &done {
            Ok(Forwarded::Answered(_)) => drop(metrics.forwarded.inc()),
            Ok(Forwarded::Here(_)) => {}
            Err(status) if status.message() == EtcdError::Timeout.text() => {
                metrics.forwarded_perhaps.inc();
            }
            Err(_) => drop(metrics.not_forwarded.inc()),
        }
        done.unwrap_or_else(|status| Forwarded::Answered(status.into_http()))
    }

    async fn send_buffered(&self, request: Request<Body>, late: Duration) -> Result<Forwarded, Status> {
        let room = &self.peers.room;
        let _call = self.in_time(late, room.calls.acquire()).await?.map_err(|_| EtcdError::Stopped)?;
        let (head, body) = request.into_parts();
        let body = self.in_time(late, Limited::new(body, self.body_bytes_max).collect()).await?;
        let body = body.map_err(status_of)?.to_bytes();
        let _bytes = self.in_time(late, room.for_bytes(body.len())).await??;
        let (path, spreads) = (head.uri.path(), self.peers.spreads);
        let place = (spreads && is_keyed(path)).then(|| keyed::place_of(self, path, &body)).flatten();
        let mut tried = None;
        let mut asks_owner = true;
        loop {
            let route = match place.filter(|_| asks_owner).and_then(|place| self.to_owner(place)) {
                Some(route) => {
                    // If that is not the owner after all, the leader knows who is, or is it again.
                    asks_owner = false;
                    route
                }
                None => {
                    let route = self.in_time(late, self.peers.standing.route(tried)).await?;
                    if let Route::There(connection) = &route {
                        tried = Some(connection.id);
                    }
                    asks_owner = true;
                    route
                }
            };
            let (head, body) = (head.clone(), Body::new(Full::new(body.clone())));
            let response = match route {
                Route::Here => match place.and(forwarded_service(head.uri.path())) {
                    None => return Ok(Forwarded::Here(Request::from_parts(head, body))),
                    // It may be another one's after all.
                    Some(service) => {
                        Some(self.here.carry_out(service, Request::from_parts(head, body)).await)
                    }
                },
                Route::There(connection) => self.send(&head, body, (&connection, late)).await?,
                Route::Nowhere => return Err(EtcdError::Unhealthy.into()),
            };
            match response {
                Some(response) if !answers::says_not_leading(response.headers()) => {
                    return Ok(Forwarded::Answered(response));
                }
                // Nothing was done. The next one to ask is the leader at once, or the owner after a pause.
                _ if asks_owner && place.is_some() => {
                    self.in_time(late, self.clock.sleep_until(self.clock.now() + CHANGE_OF_HANDS)).await?;
                }
                _ => {}
            }
        }
    }

    /// Where the owner of a partition is, if that is not the leader, as far as this process knows.
    fn to_owner(&self, place: usize) -> Option<Route> {
        match self.keys.owns_at(place) {
            true => Some(Route::Here),
            false => self.peers.owners.connection(place).map(Route::There),
        }
    }

    /// Has another member carry a call out; `None` when that one has certainly done nothing.
    async fn send(
        &self,
        head: &Parts,
        body: Body,
        (connection, late): (&Connection, Duration),
    ) -> Result<Option<Response<Body>>, Status> {
        let may_take_long = head.uri.path() == COMPACT;
        let request = self.addressed(head, body, connection)?;
        let sending = connection.send(request);
        let sent = match may_take_long {
            // An end that is not there shows in the connection.
            true => sending.await,
            false => match self.within(late, sending).await {
                Some(sent) => sent,
                None => {
                    warn!(server = connection.peer.name, "another server has not answered in time");
                    return Err(EtcdError::Timeout.into());
                }
            },
        };
        match sent {
            Ok(response) if answers::says_not_leading(response.headers()) => {
                debug!(server = connection.peer.name, "it has not looked at a call, which is another one's");
                Ok(None)
            }
            Ok(response) => Ok(Some(passed(response, EtcdError::Timeout))),
            Err(Unsent::Certainly(error)) => {
                debug!(server = connection.peer.name, error, "a call was not sent");
                Ok(None)
            }
            Err(Unsent::Perhaps(error)) => {
                warn!(server = connection.peer.name, error, "the outcome of a forwarded call is unknown");
                Err(EtcdError::Timeout.into())
            }
        }
    }

    /// Connects the client's stream with the leader's. What was read of the stream cannot be sent again, so it ends with
    /// the connection; clients make it anew.
    async fn pass_through(&self, request: Request<Body>, late: Duration) -> Result<Forwarded, Status> {
        let connection = match self.in_time(late, self.peers.standing.route(None)).await? {
            Route::Here => return Ok(Forwarded::Here(request)),
            Route::There(connection) => connection,
            Route::Nowhere => return Err(EtcdError::NoLeader.into()),
        };
        let (head, body) = request.into_parts();
        let request = self.addressed(&head, body, &connection)?;
        match connection.send(request).await {
            Ok(response) if answers::says_not_leading(response.headers()) => Err(EtcdError::NoLeader.into()),
            Ok(response) => Ok(Forwarded::Answered(passed(response, EtcdError::NoLeader))),
            Err(error) => {
                debug!(leader = connection.peer.name, %error, "a stream to the leader broke");
                Err(EtcdError::NoLeader.into())
            }
        }
    }

    /// The call as it goes to the leader: with the deadline, the trace and whatever else the client said of it.
    fn addressed(&self, head: &Parts, body: Body, to: &Connection) -> Result<Request<Body>, Status> {
        let uri: Uri = format!("{}{}", to.origin(), head.uri.path())
            .parse()
            .map_err(|_| Status::internal("the path of a call is no part of a URI"))?;
        let mut request = Request::new(body);
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_2;
        let mut headers = head.headers.clone();
        OF_A_CONNECTION.iter().for_each(|name| drop(headers.remove(name)));
        answers::mark(&mut headers, self.peers.cluster_id);
        caller::name(&mut headers, head.extensions.get::<Arc<Caller>>().map(AsRef::as_ref));
        trace::pass_on(&mut headers);
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// What `work` comes to, unless it takes too long.
    async fn within<T>(&self, late: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            // An outcome that is there counts, however late.
            biased;
            done = work => Some(done),
            () = self.clock.sleep_until(late) => None,
        }
    }

    /// As [`Forwarding::within`], for what comes before anything was sent: too late is certainly not done.
    async fn in_time<T>(&self, late: Duration, work: impl Future<Output = T>) -> Result<T, Status> {
        self.within(late, work).await.ok_or_else(|| {
            warn!(reason = self.peers.standing.link.trouble(), "a call found no leader in time");
            EtcdError::Unhealthy.into()
        })
    }
}

/// The leader's answer for the client; `broken` is the client's error when the connection breaks on the way.
fn passed(response: Response<hyper::body::Incoming>, broken: EtcdError) -> Response<Body> {
    let mut response = response.map(|body| Body::new(Passed::new(body, broken)));
    OF_A_CONNECTION.iter().for_each(|name| drop(response.headers_mut().remove(name)));
    response
}

/// Why the body of a call could not be read.
fn status_of(error: Box<dyn std::error::Error + Send + Sync>) -> Status {
    match error.downcast::<Status>() {
        Ok(status) => *status,
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Status::resource_exhausted("grpc: received more than one message")
        }
        Err(error) => Status::from_error(error),
    }
}

/// The time that a client gives a call, of gRPC's header for it.
fn time_limit(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    // At most eight digits, by gRPC's own rule.
    let number = number.parse::<u32>().ok().filter(|_| number.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(u64::from(number) * 3600)),
        "M" => Some(Duration::from_secs(u64::from(number) * 60)),
        "S" => Some(Duration::from_secs(u64::from(number))),
        "m" => Some(Duration::from_millis(u64::from(number))),
        "u" => Some(Duration::from_micros(u64::from(number))),
        "n" => Some(Duration::from_nanos(u64::from(number))),
        _ => None,
    }
}

/// Where the body of one message is too large to be one.
pub(crate) const fn body_bytes_max(message_bytes_max: usize) -> usize {
    const PREFIX_BYTES: usize = 5;
    message_bytes_max.saturating_add(PREFIX_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_a_client_gives_is_read_as_grpc_writes_it() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            time_limit(&headers)
        };
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(read("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(
            (read("7M"), read("3u"), read("4n")),
            (Some(Duration::from_secs(420)), Some(Duration::from_micros(3)), Some(Duration::from_nanos(4)),)
        );
        for wrong in ["", "S", "1", "-1S", "123456789S", "1x"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
        assert_eq!(time_limit(&HeaderMap::new()), None);
    }

    #[test]
    fn what_changes_something_goes_to_the_leader_and_what_reads_does_not() {
        for path in ["/etcdserverpb.KV/Put", "/etcdserverpb.Lease/LeaseKeepAlive"] {
            assert!(is_forwarded(path));
        }
        let stays = ["/etcdserverpb.KV/Range", "/etcdserverpb.Watch/Watch", "/orlop.peer.v1.Peer/Join"];
        assert!(!stays.into_iter().any(is_forwarded));
    }
}
