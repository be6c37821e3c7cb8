//! `docs/metrics.md` says what the metrics are.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a page that cannot be written fails the test")]

use std::path::Path;

#[tokio::test]
async fn the_page_is_the_one_that_the_metrics_make() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let expected = server::metrics_page();
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    if found != expected {
        std::fs::write(&path, expected).unwrap();
        panic!("docs/metrics.md was not up to date. It was written anew: look at it and keep it.");
    }
}
