//! Against a TiKV cluster: one of `tests/tikv` for each test, or the real one that `ORLOP_TEST_PD` names.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test whose equipment breaks has failed"
)]

mod answers;
mod clock;
mod cluster;
mod conformance;
mod gc;
mod left_locks;
mod prefixed;
mod reads;
mod tls;
