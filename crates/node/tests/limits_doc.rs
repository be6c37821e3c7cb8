//! `docs/limits.md` names every bound in the code with its value, and no other; `docs/invariants.md` names tests
//! that exist.

#![expect(clippy::unwrap_used, reason = "a page or a source that cannot be read fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What the name of a bound ends with. Others may be listed too, and then have to be right.
const BOUNDS: [&str; 2] = ["_MAX", "_MIN"];

/// Equipment for tests inside of crates; its bounds are met by nobody else.
const EQUIPMENT: [&str; 4] =
    ["engine/src/conformance", "engine/src/fault", "engine-embedded/src/fs/sim", "crates/sim/"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files with this extension below `dir`, relative to the checkout and with `/` between their parts.
fn files(dir: &str, extension: &str) -> Vec<String> {
    let (mut found, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(root().join(&dir)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{dir}/{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                dirs.push(path);
            } else if path.ends_with(extension) {
                found.push(path);
            }
        }
    }
    found
}

/// A constant: its crate, its name, and its value as it is written.
type Constant = (String, String, String);

/// The constants of all crates, but for those of tests.
fn constants() -> BTreeSet<Constant> {
    let is_test = |path: &str| {
        path.split('/').any(|part| part == "tests" || part == "tests.rs" || part == "examples")
            || EQUIPMENT.iter().any(|equipment| path.contains(equipment))
    };
    let mut constants = BTreeSet::new();
    for path in files("crates", ".rs").into_iter().filter(|path| !is_test(path)) {
        let source = fs::read_to_string(root().join(&path)).unwrap();
        let source = source.split("mod tests {").next().unwrap();
        for line in source.lines() {
            let line = line.trim_start();
            let line = ["pub(crate) ", "pub(super) ", "pub "]
                .iter()
                .find_map(|visibility| line.strip_prefix(visibility))
                .unwrap_or(line);
            let Some((name, rest)) = line.strip_prefix("const ").and_then(|line| line.split_once(": "))
            else {
                continue;
            };
            let value = rest.split_once("= ").and_then(|(_, value)| value.strip_suffix(';'));
            let owner = path.split('/').nth(1).unwrap();
            constants.insert((owner.to_owned(), name.to_owned(), value.unwrap_or_default().to_owned()));
        }
    }
    constants
}

/// The constants that the page lists: under a heading with the name of the crate, as `` `NAME` = `value` ``.
fn documented(page: &str) -> BTreeSet<Constant> {
    let mut found = BTreeSet::new();
    let mut owner = "";
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            owner = heading.trim_matches('`');
        }
        let cell = line.strip_prefix("| `").and_then(|row| row.split(" | ").next());
        if let Some((name, value)) = cell.and_then(|cell| cell.split_once("` = `")) {
            let value = value.split('`').next().unwrap();
            found.insert((owner.to_owned(), name.to_owned(), value.to_owned()));
        }
    }
    found
}

#[test]
fn every_bound_is_on_the_page_with_its_value() {
    let page = fs::read_to_string(root().join("docs/limits.md")).unwrap();
    let (constants, documented) = (constants(), documented(&page));
    let is_bound = |constant: &&Constant| BOUNDS.iter().any(|end| constant.1.ends_with(end));
    let show = |constants: Vec<&Constant>| {
        constants
            .iter()
            .map(|(owner, name, value)| format!("\n  {owner}: `{name}` = `{value}`"))
            .collect::<String>()
    };
    let missing = show(constants.iter().filter(is_bound).filter(|it| !documented.contains(*it)).collect());
    assert!(missing.is_empty(), "docs/limits.md lacks these bounds, or has another value:{missing}");
    let gone = show(documented.difference(&constants).collect());
    assert!(gone.is_empty(), "docs/limits.md lists what the code does not have:{gone}");
}

#[test]
fn the_tests_and_functions_that_the_invariants_name_exist() {
    let page = fs::read_to_string(root().join("docs/invariants.md")).unwrap();
    let sources: String = files("crates", ".rs")
        .into_iter()
        .chain(files("cmd", ".rs"))
        .chain(files("tests", ".go"))
        .map(|path| fs::read_to_string(root().join(path)).unwrap())
        .collect();
    // The conformance suite names its checks as `module::check:`.
    let is_defined = |name: &str| {
        ["fn ", "func ", "::"].iter().any(|before| {
            ["(", "<", ":"].iter().any(|after| sources.contains(&format!("{before}{name}{after}")))
        })
    };
    // Every other piece between backticks is code.
    let gone: Vec<_> =
        page.split('`').skip(1).step_by(2).filter_map(named).filter(|name| !is_defined(name)).collect();
    assert!(gone.is_empty(), "docs/invariants.md names what does not exist: {gone:?}");
}

/// The test or function that a piece of code names: a method with its type, or one word of several parts.
fn named(code: &str) -> Option<&str> {
    let is_lower =
        |word: &str| word.chars().all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit());
    match code.split_once("::") {
        Some((_, method)) => is_lower(method).then_some(method),
        None if code.starts_with("Test") => code.chars().all(char::is_alphanumeric).then_some(code),
        None => (code.contains('_') && is_lower(code)).then_some(code),
    }
}
