//! gRPC calls on their way to the services and back: found, limited, counted, and ended when the server stops.

mod pieces;
mod request_body;
mod response_body;

use std::convert::Infallible;
use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, Request, Response, Version, header};
use http_body::Body as HttpBody;
use proto::service::auth_server::AuthServer;
use proto::service::cluster_server::ClusterServer;
use proto::service::kv_server::KvServer;
use proto::service::lease_server::LeaseServer;
use proto::service::maintenance_server::MaintenanceServer;
use proto::service::watch_server::WatchServer;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};
use tracing::{Instrument, Span};

use crate::backend::Backend;
use crate::clients::{AnswerBytes, Caller};
use crate::metrics::Metrics;
use crate::peer::forward::{
    CarriesOut, Forwarded, Forwarding, OWN, body_bytes_max, forwarded_service, is_endless, is_forwarded,
    is_keyed,
};
use crate::peer::remote::MESSAGE_BYTES_MAX;
use crate::peer::service::PeerService;
use crate::peer::{Peers, caller};
use crate::rpc::auth::AuthService;
use crate::rpc::cluster::ClusterService;
use crate::rpc::kv::KvService;
use crate::rpc::lease::LeaseService;
use crate::rpc::maintenance::MaintenanceService;
use crate::trace::{self, Traces};
use crate::watch::WatchService;
use pieces::{Offered, Pieces};
pub(crate) use request_body::RequestBody;
use response_body::Counted;

/// A message may be so much larger than the largest request, as in etcd: then the client hears that its request is
/// too large from the service, in the words that it knows.
const MESSAGE_OVERHEAD_BYTES: usize = 512 << 10;

/// Everything that is reached by gRPC.
pub(crate) struct Grpc {
    backend: Arc<Backend>,
    health: HealthReporter,
    services: Services,
    peer: Option<PeerService>,
}

#[derive(Clone)]
struct Services {
    kv: KvServer<KvService>,
    watch: WatchServer<WatchService>,
    lease: LeaseServer<LeaseService>,
    maintenance: MaintenanceServer<MaintenanceService>,
    cluster: ClusterServer<ClusterService>,
    auth: AuthServer<AuthService>,
    health: HealthServer<HealthService>,
    reflection: tonic::service::Routes,
}

impl Grpc {
    pub(crate) fn new(backend: &Arc<Backend>) -> Grpc {
        let health = HealthReporter::new();
        // Messages are limited by their bodies, with the error that Go's gRPC has for it.
        let unlimited = usize::MAX;
        let services = Services {
            kv: KvServer::new(KvService(backend.clone())).max_decoding_message_size(unlimited),
            watch: WatchServer::new(WatchService::new(backend.clone())).max_decoding_message_size(unlimited),
            lease: LeaseServer::new(LeaseService(backend.clone())).max_decoding_message_size(unlimited),
            maintenance: MaintenanceServer::new(MaintenanceService(backend.clone()))
                .max_decoding_message_size(unlimited),
            cluster: ClusterServer::new(ClusterService(backend.clone())).max_decoding_message_size(unlimited),
            auth: AuthServer::new(AuthService(backend.clone())).max_decoding_message_size(unlimited),
            health: HealthServer::new(HealthService::from_health_reporter(health.clone())),
            reflection: reflection(),
        };
        let peer = backend.peers.clone().map(|peers| PeerService::new(backend.clone(), peers));
        Grpc { backend: backend.clone(), health, services, peer }
    }

    /// Tells whoever watches the health that the server stops.
    pub(crate) async fn stop(&self) {
        self.health.set_service_status("", ServingStatus::NotServing).await;
    }

    /// Answers a call; every call has an answer.
    pub(crate) async fn call<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = bytes::Bytes> + Send + Unpin + 'static,
        B::Error: Into<tonic::codegen::StdError> + Send,
    {
        let Backend { metrics, clock, config, stopping, .. } = self.backend.as_ref();
        let path = request.uri().path();
        let Some(method) = metrics.grpc.method(path) else { return self.unknown(path).into_http() };
        let counted = Counted::begin(method.clone(), metrics.grpc.sent_bytes.clone(), clock.clone());
        let span = match &self.backend.traces {
            Some(traces) if !method.is_endless => traces.of_client(path, request.headers()),
            _ => Span::none(),
        };
        let counted = counted.traced(span.clone());
        let client = request.extensions().get::<Arc<Caller>>().cloned();
        let call = match client.as_ref().map(|caller| caller.client().begin_call()).transpose() {
            Ok(call) => call,
            Err(status) => return refuse(counted, metrics, status),
        };
        let message_bytes_max = config.max_request_bytes.saturating_add(MESSAGE_OVERHEAD_BYTES);
        let received = metrics.grpc.received_bytes.clone();
        let request =
            request.map(|body| Body::new(RequestBody::new(body, message_bytes_max, received, call.clone())));
        let response = self.carry_out(&method.service, request, message_bytes_max).instrument(span).await;
        let code = response.headers().get("grpc-status").map(|status| Code::from_bytes(status.as_bytes()));
        let stopping = method.is_endless.then(|| stopping.clone());
        let offered = match (call, client) {
            (Some(call), Some(client)) => {
                let made = response.extensions().get::<AnswerBytes>().copied();
                if let Some(AnswerBytes(bytes)) = made {
                    call.answer(bytes);
                }
                Some(Offered::new(call, client.stalls.begin(clock.now()), clock.clone(), made.is_some()))
            }
            _ => None,
        };
        response.map(|body| Body::new(Pieces::new(counted.around(body, code, stopping), offered)))
    }

    /// Has a client's call carried out, here or by whoever leads.
    async fn carry_out(
        &self,
        service: &str,
        request: Request<Body>,
        message_bytes_max: usize,
    ) -> Response<Body> {
        let request = match &self.backend.peers {
            Some(peers) if is_carried_elsewhere(request.uri().path(), peers) => {
                let forwarding = Forwarding {
                    peers,
                    here: &self.services,
                    keys: &self.backend.store.keys,
                    max_txn_ops: self.backend.config.max_txn_ops,
                    clock: self.backend.clock.as_ref(),
                    request_timeout: self.backend.config.request_timeout,
                    body_bytes_max: body_bytes_max(message_bytes_max),
                };
                match forwarding.forward(request).instrument(trace::forward()).await {
                    Forwarded::Answered(response) => return response,
                    Forwarded::Here(request) => request,
                }
            }
            _ => request,
        };
        self.services.call(service, request).await
    }

    /// Answers a call on the members' own port: of their own protocol, or one that a client made elsewhere and that this
    /// process has to carry out itself.
    pub(crate) async fn call_of_peer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = bytes::Bytes> + Send + Unpin + 'static,
        B::Error: Into<tonic::codegen::StdError> + Send,
    {
        let Backend { clock, config, stopping, .. } = self.backend.as_ref();
        let message_bytes_max = config.max_request_bytes.saturating_add(MESSAGE_OVERHEAD_BYTES);
        // What an owner reports is a whole batch.
        let of_one_bytes_max = match request.uri().path() == OWN {
            true => MESSAGE_BYTES_MAX,
            false => message_bytes_max,
        };
        let uncounted = || prometheus_client::metrics::counter::Counter::default();
        let mut request =
            request.map(|body| Body::new(RequestBody::new(body, of_one_bytes_max, uncounted(), None)));
        let on_behalf = caller::named(request.headers());
        request.extensions_mut().insert(on_behalf);
        let is_endless = is_endless(request.uri().path());
        let span = match &self.backend.traces {
            Some(_) if !is_endless => Traces::of_peer(request.uri().path(), request.headers()),
            _ => Span::none(),
        };
        let counted = Counted::elsewhere(clock.clone()).traced(span.clone());
        let response = match (&self.backend.peers, &self.peer) {
            (Some(peers), Some(peer)) => match entrance(request.uri().path(), peers, request.headers()) {
                Entrance::Own => peer.call(request).await,
                Entrance::Forwarded(service) => self.services.call(service, request).instrument(span).await,
                Entrance::Refused(response) => response,
            },
            _ => self.unknown(request.uri().path()).into_http(),
        };
        let code = response.headers().get("grpc-status").map(|status| Code::from_bytes(status.as_bytes()));
        // What others forward is finished as calls of clients are; streams end.
        let stopping = is_endless.then(|| stopping.clone());
        response.map(|body| Body::new(counted.around(body, code, stopping)))
    }

    /// Go's words for what is not there.
    fn unknown(&self, path: &str) -> Status {
        match path.trim_start_matches('/').split_once('/') {
            Some((service, method)) if self.backend.metrics.grpc.has_service(service) => {
                Status::unimplemented(format!("unknown method {method} for service {service}"))
            }
            Some((service, _)) => Status::unimplemented(format!("unknown service {service}")),
            None => Status::unimplemented(format!("malformed method name: {path:?}")),
        }
    }
}

/// Whether a client's call may have to be carried out by another member.
fn is_carried_elsewhere(path: &str, peers: &Peers) -> bool {
    is_forwarded(path) && (!peers.standing.leads_here() || (peers.spreads && is_keyed(path)))
}

#[async_trait]
impl CarriesOut for Services {
    async fn carry_out(&self, service: &str, request: Request<Body>) -> Response<Body> {
        self.call(service, request).await
    }
}

/// Answers a call that the client has no room for.
fn refuse(counted: Counted, metrics: &Metrics, status: Status) -> Response<Body> {
    metrics.clients.refused_calls.inc();
    let code = status.code();
    status.into_http().map(|body| Body::new(counted.around(body, Some(code), None)))
}

impl Services {
    async fn call(&self, service: &str, request: Request<Body>) -> Response<Body> {
        let answered: Result<Response<Body>, Infallible> = match service {
            "etcdserverpb.KV" => self.kv.clone().call(request).await,
            "etcdserverpb.Watch" => self.watch.clone().call(request).await,
            "etcdserverpb.Lease" => self.lease.clone().call(request).await,
            "etcdserverpb.Maintenance" => self.maintenance.clone().call(request).await,
            "etcdserverpb.Cluster" => self.cluster.clone().call(request).await,
            "etcdserverpb.Auth" => self.auth.clone().call(request).await,
            "grpc.health.v1.Health" => self.health.clone().call(request).await,
            _ => self.reflection.clone().call(request).await,
        };
        match answered {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// What comes in on the members' own port.
enum Entrance {
    /// A call of their own protocol.
    Own,
    /// A client's call, of this service.
    Forwarded(&'static str),
    /// Nothing is done.
    Refused(Response<Body>),
}

fn entrance(path: &str, peers: &Peers, headers: &HeaderMap) -> Entrance {
    if path.starts_with("/orlop.peer.v1.Peer/") {
        return Entrance::Own;
    }
    match forwarded_service(path) {
        None => {
            Entrance::Refused(Status::unimplemented("members do not ask this of one another").into_http())
        }
        Some(service) => match peers.refusal_of(path, headers) {
            Some(refusal) => Entrance::Refused(refusal),
            None => Entrance::Forwarded(service),
        },
    }
}

fn reflection() -> tonic::service::Routes {
    let configured = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let readable = "descriptors made by the compiler can be read";
    let v1 = configured().build_v1().expect(readable);
    let v1alpha = configured().build_v1alpha().expect(readable);
    tonic::service::Routes::new(v1).add_service(v1alpha).prepare()
}

/// Whether a request is a gRPC call, as etcd tells it apart.
pub(crate) fn is_grpc<B>(request: &Request<B>) -> bool {
    let says_so = |headers: &HeaderMap| {
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
    };
    request.version() == Version::HTTP_2 && says_so(request.headers())
}
