//! The wire contract: what `proto/` says, as Rust types and gRPC stubs, and nothing else.
//!
//! This crate must not depend on any other crate of the project, and holds no logic: translating the messages from
//! and to the types of `model` is the server's business.
//!
//! - [`etcdserverpb`], [`mvccpb`] and [`authpb`] hold every message of etcd's API, and the client stubs.
//! - [`spliced`] declares some responses once more, with parts that are encoded already: a list or a watch event
//!   then goes out as the bytes that are stored, without being decoded and encoded again.
//! - [`service`] holds the server traits, which answer with the spliced responses and otherwise use the messages of
//!   [`etcdserverpb`].
//! - [`peer`] and [`peer_service`] are what the members of a fleet say to one another; clients are told nothing of it.
//!
//! Two things always hold: a spliced response has the same bytes on the wire as its plain twin (a property test
//! compares them), and names, numbers and types are those of etcd 3.7 (`tests/proto` compares the descriptors with
//! the ones in etcd's Go client).

pub mod spliced;

#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod mvccpb {
    //! A key's version and a change: what lists and watch responses are made of.

    include!(concat!(env!("OUT_DIR"), "/mvccpb.rs"));
}

#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod authpb {
    //! The records of users and roles.

    include!(concat!(env!("OUT_DIR"), "/authpb.rs"));
}

#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod etcdserverpb {
    //! Every message of the API, and a client stub for every service.

    include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
}

#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod service {
    //! A trait and a server for every service.

    include!(concat!(env!("OUT_DIR"), "/services/etcdserverpb.rs"));
}

#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod peer {
    //! What the members of a fleet say to one another: messages and client.

    include!(concat!(env!("OUT_DIR"), "/orlop.peer.v1.rs"));
}

#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod peer_service {
    //! The trait and the server for it, with batches that are encoded already.

    include!(concat!(env!("OUT_DIR"), "/peer/orlop.peer.v1.rs"));
}

/// The descriptors of all of etcd's files in `proto/`, encoded as a `google.protobuf.FileDescriptorSet` without comments:
/// what gRPC reflection answers from.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));
