#![allow(clippy::unwrap_used, reason = "a test whose equipment breaks has failed")]

use proptest::prelude::*;
use prost::Message;

use crate::protobuf::{Envelope, Object, ObjectMeta, OwnerReference, Time, TypeMeta, time_text};
use crate::{MAGIC, describe};

fn stored(metadata: ObjectMeta) -> Vec<u8> {
    // What only a kind knows stands behind the metadata.
    let mut raw = Object { metadata: Some(metadata) }.encode_to_vec();
    raw.extend_from_slice(&[0x12, 3, b'x', b'y', b'z']);
    let type_meta = TypeMeta { api_version: "v1".to_owned(), kind: "Pod".to_owned() };
    let envelope = Envelope { type_meta: Some(type_meta), raw, ..Envelope::default() };
    [MAGIC, &envelope.encode_to_vec()].concat()
}

#[test]
fn an_object_is_told_as_far_as_its_metadata() {
    let owner = OwnerReference {
        kind: "ReplicaSet".to_owned(),
        name: "web".to_owned(),
        uid: "u2".to_owned(),
        api_version: "apps/v1".to_owned(),
    };
    let described = describe(&stored(ObjectMeta {
        name: "web-1".to_owned(),
        namespace: "default".to_owned(),
        uid: "u1".to_owned(),
        generation: 3,
        creation_timestamp: Some(Time { seconds: 1_700_000_000 }),
        labels: [("app".to_owned(), "web".to_owned()), ("no".to_owned(), "\"".to_owned())].into(),
        owner_references: vec![owner],
        finalizers: vec!["a".to_owned()],
        ..ObjectMeta::default()
    }));
    let expected = "\
encoding: \"kubernetes protobuf\"
apiVersion: \"v1\"
kind: \"Pod\"
metadata:
  name: \"web-1\"
  namespace: \"default\"
  uid: \"u1\"
  generation: 3
  creationTimestamp: \"2023-11-14T22:13:20Z\"
  labels:
    app: \"web\"
    \"no\": \"\\\"\"
  ownerReferences:
    - apiVersion: \"apps/v1\"
      kind: \"ReplicaSet\"
      name: \"web\"
      uid: \"u2\"
  finalizers:
    - \"a\"
bytes: 93
";
    assert_eq!(described.to_yaml(), expected);
    let json: serde_json::Value = serde_json::from_str(&described.to_json()).unwrap();
    assert_eq!(json["metadata"]["labels"]["no"], "\"");
}

/// The bytes of a ConfigMap as an API server stores it: written out by hand, so that a mistake in the numbers of fields
/// above is not made twice.
#[test]
fn the_bytes_of_an_api_server_are_read() {
    let mut value = b"k8s\0\n\x0f\n\x02v1\x12\tConfigMap\x12".to_vec();
    let metadata =
        b"\n\x01a\x12\x00\x1a\x07default\"\x00*\x04uid12\x008\0B\x08\x08\x80\xa8\xd6\xb9\x07\x10\0";
    let mut raw = vec![0x0a, metadata.len() as u8];
    raw.extend_from_slice(metadata);
    raw.extend_from_slice(b"\x12\x06\n\x01k\x12\x01v");
    value.push(raw.len() as u8);
    value.extend_from_slice(&raw);
    value.extend_from_slice(b"\x1a\x00\"\x00");
    let yaml = describe(&value).to_yaml();
    for line in ["kind: \"ConfigMap\"", "  name: \"a\"", "  namespace: \"default\"", "  uid: \"uid1\""] {
        assert!(yaml.lines().any(|it| it == line), "{line} is not in {yaml}");
    }
}

#[test]
fn what_is_not_protobuf_is_told_as_what_it_is() {
    for (value, expected) in [
        (&b"hello"[..], "encoding: \"text\"\ntext: \"hello\"\n"),
        (b"", "encoding: \"text\"\ntext: \"\"\n"),
        (b"\xff\x00", "encoding: \"binary\"\nhex: \"ff00\"\n"),
        (b"{\"a\":[1,{}],\"b\":{}}", "encoding: \"json\"\nobject:\n  a:\n    - 1\n    - {}\n  b: {}\n"),
        (
            b"k8s:enc:aescbc:v1:key:\xff",
            "encoding: \"kubernetes encrypted\"\nprovider: \"aescbc\"\nbytes: 23\n",
        ),
        (b"k8s\0\xff", "encoding: \"kubernetes protobuf, damaged\"\nhex: \"ff\"\n"),
    ] {
        assert_eq!(describe(value).to_yaml(), expected);
    }
}

#[test]
fn times_are_those_of_the_calendar() {
    for (seconds, expected) in [
        (0, "1970-01-01T00:00:00Z"),
        (951_782_400, "2000-02-29T00:00:00Z"),
        (951_868_799, "2000-02-29T23:59:59Z"),
        (4_107_542_400, "2100-03-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59Z"),
    ] {
        assert_eq!(time_text(seconds), expected);
    }
    for extreme in [i64::MIN, i64::MAX] {
        assert!(time_text(extreme).ends_with('Z'));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_described(value: Vec<u8>, is_object: bool) {
        let value = if is_object { [MAGIC, &value].concat() } else { value };
        let json = describe(&value).to_json();
        prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
        prop_assert!(describe(&value).to_yaml().starts_with("encoding: "));
    }
}
