//! `docs/configuration.md` says what the settings are, and `docs/commands.md` what the commands.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a page that cannot be written fails the test")]

use std::path::Path;

/// Fails when the page is not this, and writes it anew then.
fn is_the_page(name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    if found != expected {
        std::fs::write(&path, expected).unwrap();
        panic!("docs/{name} was not up to date. It was written anew: look at it and keep it.");
    }
}

#[test]
fn the_reference_page_is_the_one_that_the_settings_make() {
    is_the_page("configuration.md", &node::config::reference_page());
}

#[test]
fn the_page_of_commands_is_the_one_that_they_make() {
    is_the_page("commands.md", &node::commands_page());
}
