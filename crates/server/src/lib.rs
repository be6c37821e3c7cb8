//! The gRPC and HTTP surface: etcd's v3 API, health, reflection, metrics, all on one port. The only crate that knows
//! protobuf.
//!
//! A connection ([`Server::serve`]), in the clear or by TLS ([`tls`]), carries HTTP/1.1 or HTTP/2; a gRPC call goes through `grpc` (limits, counting, a
//! span) to its service in `rpc` or `watch`, everything else to `http`. A service turns the request into the types of
//! `model` (`convert`), asks the partition, and turns the outcome or the failure (`failure`, `error`) into the
//! answer. `leases` drives the expiry of leases. Where several processes serve a store, `peer` is what they say to one
//! another: on a port of its own ([`Serves::Peers`]), which clients do not reach.
//!
//! This crate must never depend on a particular engine or on how the process is configured and wired.
//!
//! Invariants: codes and texts of errors are etcd's, each in one row of one table; a write that may have happened is
//! never reported as one that has not; nothing a client sends or leaves undone costs another client more than its
//! share; values never reach a log.

mod admission;
mod backend;
mod clients;
mod config;
mod convert;
mod error;
mod failure;
mod files;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod grpc;
mod http;
mod keepalive;
mod leases;
mod metrics;
mod peer;
mod permissions;
mod rpc;
mod serve;
mod server;
pub mod tls;
mod trace;
mod version;
mod waiting;
// The watch service; it is built from the same `Backend` as the services of `rpc`.
mod watch;

pub use config::{ClientLimits, Config};
pub use leases::Leases;
pub use metrics::{Metrics, metrics_page};
pub use peer::{Departure, Fleet};
pub use permissions::{Permissions, PermissionsError};
pub use serve::{Listener, ServeError, Serves};
pub use server::{Parts, Server};
pub use trace::Tracing;
pub use waiting::while_waiting;
pub use watch::{PartitionHistory, hub_of};
