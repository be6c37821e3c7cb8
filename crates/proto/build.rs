//! Compiles `proto/` with a compiler written in Rust, so that a build needs no installed `protoc`.

use std::error::Error;
use std::path::{Path, PathBuf};

use prost::Message;

/// The files that a client can name, relative to the proto folder. What they import is found from there.
const FILES: [&str; 1] = ["etcd/api/etcdserverpb/rpc.proto"];

/// What members of a fleet say to one another: a set of its own, of which clients are told nothing.
const PEER_FILES: [&str; 1] = ["orlop/peer/v1/peer.proto"];

/// The messages that the server sends with parts that are encoded already; `src/spliced.rs` declares them.
const SPLICED: [&str; 7] = [
    "RangeResponse",
    "RangeStreamResponse",
    "PutResponse",
    "DeleteRangeResponse",
    "ResponseOp",
    "TxnResponse",
    "WatchResponse",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = &Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    println!("cargo:rerun-if-changed={}", root.display());

    let described = protox::compile(FILES, [root])?;
    let mut stripped = described.clone();
    for file in &mut stripped.file {
        file.source_code_info = None;
    }
    std::fs::write(out.join("descriptors.binpb"), stripped.encode_to_vec())?;

    tonic_prost_build::configure()
        .bytes(".")
        .build_server(false)
        .emit_rerun_if_changed(false)
        .compile_fds(described.clone())?;

    let services = out.join("services");
    std::fs::create_dir_all(&services)?;
    let mut builder = tonic_prost_build::configure()
        .build_client(false)
        .out_dir(services)
        .emit_rerun_if_changed(false)
        .extern_path(".mvccpb", "crate::mvccpb")
        .extern_path(".authpb", "crate::authpb")
        .extern_path(".etcdserverpb", "crate::etcdserverpb");
    for message in SPLICED {
        builder =
            builder.extern_path(format!(".etcdserverpb.{message}"), format!("crate::spliced::{message}"));
    }
    builder.compile_fds(described)?;
    peer(root, &out)
}

fn peer(root: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let described = protox::compile(PEER_FILES, [root])?;
    tonic_prost_build::configure()
        .bytes(".")
        .build_server(false)
        .emit_rerun_if_changed(false)
        .compile_fds(described.clone())?;
    let services = out.join("peer");
    std::fs::create_dir_all(&services)?;
    tonic_prost_build::configure()
        .build_client(false)
        .out_dir(services)
        .emit_rerun_if_changed(false)
        .extern_path(".orlop.peer.v1", "crate::peer")
        .extern_path(".orlop.peer.v1.FollowResponse", "crate::spliced::FollowResponse")
        .compile_fds(described)?;
    Ok(())
}
