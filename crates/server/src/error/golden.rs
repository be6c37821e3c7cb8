//! The table against the list that is extracted from etcd's source (`tests/proto` keeps the list up to date).

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
