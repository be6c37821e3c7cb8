use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::Code;

use super::Histogram;

/// The default buckets of Go's gRPC metrics, and two below them: most calls take less than the first of those.
const BUCKETS_MILLIS: [u64; 13] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    grpc_type: &'static str,
    grpc_service: String,
    grpc_method: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandledLabels {
    grpc_type: &'static str,
    grpc_service: String,
    grpc_method: String,
    grpc_code: &'static str,
}

/// What is counted of gRPC calls: only of methods that exist, so that clients cannot make up labels.
#[derive(Debug)]
pub(crate) struct GrpcMetrics {
    /// By path, `/service/method`.
    methods: HashMap<String, Arc<Method>>,
    services: HashSet<String>,
    pub(crate) received_bytes: Counter,
    pub(crate) sent_bytes: Counter,
}

/// A method of the API.
#[derive(Debug)]
pub(crate) struct Method {
    /// The service that it belongs to.
    pub(crate) service: String,
    /// Whether the client may keep it open for ever: such a call is ended when the server stops.
    pub(crate) is_endless: bool,
    started: Counter,
    /// By the number of the code.
    handled: Vec<Counter>,
    seconds: Histogram,
}

impl GrpcMetrics {
    pub(super) fn new(registry: &mut Registry) -> GrpcMetrics {
        let started = Family::<Labels, Counter>::default();
        let handled = Family::<HandledLabels, Counter>::default();
        let seconds =
            Family::<Labels, Histogram>::new_with_constructor(|| Histogram::of_millis(&BUCKETS_MILLIS));
        registry.register("grpc_server_started", "Calls begun", started.clone());
        registry.register("grpc_server_handled", "Calls ended, by their code", handled.clone());
        registry.register(
            "grpc_server_handling_seconds",
            "How long calls took; a stream counts until it ends",
            seconds.clone(),
        );
        let (received_bytes, sent_bytes) = (Counter::default(), Counter::default());
        let help = "Bytes of gRPC messages received from clients";
        registry.register("etcd_network_client_grpc_received_bytes", help, received_bytes.clone());
        let help = "Bytes of gRPC messages sent to clients";
        registry.register("etcd_network_client_grpc_sent_bytes", help, sent_bytes.clone());
        let method = |service: &String, described: &Described| {
            let labels = Labels {
                grpc_type: described.kind,
                grpc_service: service.clone(),
                grpc_method: described.name.clone(),
            };
            let of_code = |code| {
                let labels = HandledLabels {
                    grpc_type: described.kind,
                    grpc_service: service.clone(),
                    grpc_method: described.name.clone(),
                    grpc_code: go_name(code),
                };
                handled.get_or_create_owned(&labels)
            };
            Method {
                service: service.clone(),
                is_endless: described.is_endless,
                started: started.get_or_create_owned(&labels),
                handled: (0..=Code::Unauthenticated as i32).map(|code| of_code(Code::from(code))).collect(),
                seconds: seconds.get_or_create_owned(&labels),
            }
        };
        let (mut methods, mut services) = (HashMap::new(), HashSet::new());
        for (service, described) in described() {
            let path = format!("/{service}/{}", described.name);
            methods.insert(path, Arc::new(method(&service, &described)));
            services.insert(service);
        }
        GrpcMetrics { methods, services, received_bytes, sent_bytes }
    }

    /// The method at this path; none for one that does not exist.
    pub(crate) fn method(&self, path: &str) -> Option<&Arc<Method>> {
        self.methods.get(path)
    }

    /// Whether there is a service of this name.
    pub(crate) fn has_service(&self, service: &str) -> bool {
        self.services.contains(service)
    }
}

impl Method {
    /// Counts a call that begins.
    pub(crate) fn begin(&self) {
        self.started.inc();
    }

    /// Counts the end of a call.
    pub(crate) fn end(&self, code: Code, started_at: Duration, now: Duration) {
        if let Some(handled) = self.handled.get(code as usize) {
            handled.inc();
        }
        self.seconds.observe(now.saturating_sub(started_at));
    }
}

struct Described {
    name: String,
    kind: &'static str,
    is_endless: bool,
}

/// Every method that is served, with the name of its service.
fn described() -> Vec<(String, Described)> {
    let sets = [
        proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let mut methods = Vec::new();
    for set in sets {
        let set = FileDescriptorSet::decode(set).expect("descriptors made by the compiler can be read");
        for file in set.file {
            for service in &file.service {
                let name = format!("{}.{}", file.package(), service.name());
                methods.extend(service.method.iter().map(|method| (name.clone(), describe(&name, method))));
            }
        }
    }
    methods
}

fn describe(service: &str, method: &prost_types::MethodDescriptorProto) -> Described {
    let (from_client, from_server) = (method.client_streaming(), method.server_streaming());
    Described {
        name: method.name().to_owned(),
        kind: match (from_client, from_server) {
            (false, false) => "unary",
            (true, false) => "client_stream",
            (false, true) => "server_stream",
            (true, true) => "bidi_stream",
        },
        is_endless: from_client || (service == "grpc.health.v1.Health" && method.name() == "Watch"),
    }
}

/// The name that Go gives to a code, which is what its metrics say.
fn go_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}
