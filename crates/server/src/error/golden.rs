//! The table against the list that is extracted from etcd's source (`tests/proto` keeps the list up to date).

use std::path::{Path, PathBuf};

use tonic::{Code, Status};

use super::EtcdError;

/// One row of the list: etcd's name for the error, its code and its text.
struct Row {
    name: &'static str,
    code: &'static str,
    text: &'static str,
}

fn list() -> Vec<Row> {
    include_str!("etcd_errors.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let fields: Vec<_> = line.split('\t').collect();
            let [name, code, text] = fields[..] else { panic!("not three fields: {line}") };
            Row { name, code, text }
        })
        .collect()
}

/// The name that Go gives to a code; it differs from Rust's in one letter of one code.
fn go_name(code: Code) -> String {
    match code {
        Code::Cancelled => "Canceled".to_owned(),
        other => format!("{other:?}"),
    }
}

#[test]
fn every_row_is_etcds_in_name_code_and_text() {
    let list = list();
    for (row, error) in list.iter().zip(EtcdError::LISTED) {
        assert!(row.name.eq_ignore_ascii_case(&format!("{error:?}")), "{} is {error:?} here", row.name);
        let status = Status::from(*error);
        assert_eq!(go_name(status.code()), row.code, "{error:?}");
        assert_eq!(status.message(), row.text, "{error:?}");
    }
    assert_eq!(list.len(), EtcdError::LISTED.len());
}

#[test]
fn what_etcd_says_outside_of_its_table_is_said_alike() {
    for (error, text) in [
        (EtcdError::RangeStreamSorted, "RangeStream does not support custom sort orders"),
        (EtcdError::RangeStreamFiltered, "RangeStream does not support revision filters"),
    ] {
        let status = Status::from(error);
        assert_eq!((status.code(), status.message()), (Code::Unimplemented, text));
    }
}

/// One row of the table in the source, with what is said of it there.
struct Described {
    variant: String,
    about: String,
}

/// The rows of the table, read from its source: what a row is for is said in its comment alone.
fn described(source: &str) -> Vec<Described> {
    let table =
        source.split_once("\n    listed {\n").and_then(|(_, rest)| rest.split_once("impl fmt::Display"));
    let (mut rows, mut about) = (Vec::new(), String::new());
    for line in table.expect("the table").0.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("/// ") {
            about = format!("{about} {comment}").trim().to_owned();
        } else if let Some((variant, _)) = line.split_once(" = ") {
            rows.push(Described { variant: variant.to_owned(), about: std::mem::take(&mut about) });
        }
    }
    rows
}

/// The source of this crate without its tests and this table.
fn crate_source() -> String {
    let (mut source, mut dirs) = (String::new(), vec![PathBuf::from(SOURCES)]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let is_test =
                path.ends_with("tests.rs") || path.ends_with("tests") || path.ends_with("src/error");
            if path.is_dir() && !is_test {
                dirs.push(path);
            } else if path.is_file() && !is_test && !path.ends_with("src/error.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                code.lines().filter(|line| !line.trim_start().starts_with("//")).for_each(|line| {
                    source.push_str(line);
                    source.push('\n');
                });
            }
        }
    }
    source
}

/// Where the sources of this crate are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

const PAGE_HEAD: &str = "\
# Errors

<!-- Written by `cargo test -p server error::` from crates/server/src/error.rs: change that. -->

What a client is told, with etcd's codes and texts to the letter: clients know an error by its text and decide by its code
whether to try again. **Unless a row says otherwise, what was asked for has not happened.** What to do about the ones that
come from the store's own trouble is in [operating](operating.md#when-something-is-wrong).

| text | code | when |
|---|---|---|
";

fn page() -> String {
    let source = crate_source();
    let all: Vec<EtcdError> = EtcdError::LISTED
        .iter()
        .copied()
        .chain([EtcdError::RangeStreamSorted, EtcdError::RangeStreamFiltered])
        .collect();
    let rows = described(include_str!("../error.rs"));
    assert_eq!(rows.len(), all.len(), "every row was read");
    let (mut page, mut unused) = (PAGE_HEAD.to_owned(), Vec::new());
    for (error, row) in all.into_iter().zip(rows) {
        assert_eq!(format!("{error:?}"), row.variant);
        let is_sent = [",", ")", ";", "\n", ".", " ", "}"]
            .iter()
            .any(|after| source.contains(&format!("EtcdError::{}{after}", row.variant)));
        if is_sent {
            let about =
                row.about.replace("[`EtcdError::Timeout`]", "`request timed out`").replace('|', "\\|");
            page.push_str(&format!("| `{}` | {} | {about} |\n", error.text(), go_name(error.code())));
        } else {
            unused.push(format!("- `{}`\n", error.text()));
        }
    }
    page.push_str(
        "\n## Never sent\n\netcd has these; Orlop has nothing that would end in them, or says `Unimplemented` before.\n\n",
    );
    page.push_str(&unused.concat());
    page
}

#[test]
fn the_page_of_errors_is_what_the_table_says() {
    let path = Path::new(SOURCES).join("../../../docs/errors.md");
    let (expected, found) = (page(), std::fs::read_to_string(&path).unwrap_or_default());
    if found != expected {
        std::fs::write(&path, expected).unwrap();
        panic!("docs/errors.md was not up to date. It was written anew: look at it and keep it.");
    }
}
