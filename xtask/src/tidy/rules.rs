//! What is checked in one file. Each rule returns its breaches as lines of the form `path:line: what is wrong`.

use std::path::Path;

use super::files::File;

/// A longer file does more than one thing. Tests are not counted.
const LINES_MAX: usize = 800;

/// Marks of unfinished work; spelled in two parts so that this file passes.
const LEFTOVERS: [&str; 4] =
    [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X"), concat!("todo", "!(")];

/// Beginnings of paths that exist on one machine only.
const MACHINE_PATHS: [&str; 5] = [
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/Us", "ers/"),
    concat!("/wo", "rk/"),
    concat!("/t", "mp/"),
];

/// The rules that look at nothing but the text.
pub(super) fn text(file: &File) -> Vec<String> {
    let path = file.path.display();
    let mut problems = Vec::new();
    let length = length_without_tests(file);
    if length > LINES_MAX {
        problems.push(format!("{path}: {length} lines without tests, the limit is {LINES_MAX}: split it"));
    }
    if is_crate_root(&file.path) && !file.text.starts_with("//!") {
        problems.push(format!("{path}:1: a crate begins with a comment that says what it is (//!)"));
    }
    for (index, line) in file.text.lines().enumerate() {
        let number = index + 1;
        if let Some(mark) = LEFTOVERS.iter().find(|mark| contains_word(line, mark)) {
            problems
                .push(format!("{path}:{number}: {mark}: finish it, or describe it where work is planned"));
        }
        if let Some(prefix) = MACHINE_PATHS.iter().find(|prefix| has_path(line, prefix)) {
            problems.push(format!("{path}:{number}: a path of one machine ({prefix}…)"));
        }
    }
    problems
}

fn length_without_tests(file: &File) -> usize {
    let path = file.path.to_string_lossy();
    let is_code = path.ends_with(".rs") || path.ends_with(".go");
    let is_test = path.ends_with("_test.go")
        || path.ends_with("tests.rs")
        || file.path.components().any(|part| part.as_os_str() == "tests");
    if !is_code || is_test {
        return 0;
    }
    file.text.lines().take_while(|line| *line != "#[cfg(test)]").count()
}

fn is_crate_root(path: &Path) -> bool {
    path.ends_with("src/lib.rs") || path.ends_with("src/main.rs")
}

/// Whether the mark stands alone, not inside a longer word.
fn contains_word(line: &str, mark: &str) -> bool {
    line.match_indices(mark).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + mark.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric)
            && (mark.ends_with('(') || !after.is_some_and(char::is_alphanumeric))
    })
}

/// Whether a path begins there, and not in the middle of a longer one.
fn has_path(line: &str, prefix: &str) -> bool {
    line.match_indices(prefix).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || "._-$}~".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn check(path: &str, text_of_file: &str, expected: &[&str]) {
        let file = File { path: PathBuf::from(path), text: text_of_file.to_owned() };
        let found = text(&file);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (problem, part) in found.iter().zip(expected) {
            assert!(problem.contains(part), "{problem} does not say {part}");
        }
    }

    #[test]
    fn long_files_are_split_and_tests_do_not_count() {
        let long = "a\n".repeat(LINES_MAX + 1);
        check("crates/a/src/b.rs", &long, &["801 lines"]);
        check("crates/a/src/b/tests.rs", &long, &[]);
        check("tests/a/b_test.go", &long, &[]);
        check("docs/a.md", &long, &[]);
        let tested = format!("{}#[cfg(test)]\n{long}", "a\n".repeat(LINES_MAX));
        check("crates/a/src/b.rs", &tested, &[]);
    }

    #[test]
    fn a_crate_begins_with_what_it_is() {
        check("crates/a/src/lib.rs", "//! What it is.\n", &[]);
        check("crates/a/src/lib.rs", "mod a;\n", &["begins with a comment"]);
        check("crates/a/src/other.rs", "mod a;\n", &[]);
    }

    #[test]
    fn leftovers_and_machine_paths_are_named_with_their_line() {
        check("a.rs", concat!("\n// FIX", "ME: later\n"), &["a.rs:2: FIX"]);
        check("a.rs", concat!("to", "do!();\nTO", "DOS\n"), &["a.rs:1: todo"]);
        check("a.md", concat!("see /t", "mp/x and `/ho", "me/me`\n"), &["a.md:1: a path"]);
        check("a.md", concat!("https://example.org/ho", "me/x\n$HOME/t", "mp/x\n"), &[]);
    }
}
