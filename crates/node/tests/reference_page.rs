//! `docs/configuration.md` says what the settings are.

use std::path::Path;

#[test]
fn the_reference_page_is_the_one_that_the_settings_make() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let expected = node::config::reference_page();
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    if found != expected {
        std::fs::write(&path, expected).unwrap();
        panic!("docs/configuration.md was not up to date. It was written anew: look at it and keep it.");
    }
}
