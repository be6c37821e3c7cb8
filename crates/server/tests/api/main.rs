//! The API as clients see it: a real client over a loopback connection, the memory engine below.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may fail, and its tasks are its own"
)]

mod clients;
mod faults;
mod harness;
mod http;
mod kv;
mod lease;
mod limits;
mod maintenance;
mod range_stream;
mod shutdown;
mod snapshot;
