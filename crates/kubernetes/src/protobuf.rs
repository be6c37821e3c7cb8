use std::collections::BTreeMap;

use prost::Message;

use crate::node::Node;
use crate::plain;

/// `runtime.Unknown`: what an object is, and its bytes.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Envelope {
    #[prost(message, optional, tag = "1")]
    pub(crate) type_meta: Option<TypeMeta>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) raw: Vec<u8>,
    #[prost(string, tag = "3")]
    pub(crate) content_encoding: String,
    #[prost(string, tag = "4")]
    pub(crate) content_type: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TypeMeta {
    #[prost(string, tag = "1")]
    pub(crate) api_version: String,
    #[prost(string, tag = "2")]
    pub(crate) kind: String,
}

/// The beginning of every object that is stored; what follows depends on its kind.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Object {
    #[prost(message, optional, tag = "1")]
    pub(crate) metadata: Option<ObjectMeta>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ObjectMeta {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) generate_name: String,
    #[prost(string, tag = "3")]
    pub(crate) namespace: String,
    #[prost(string, tag = "5")]
    pub(crate) uid: String,
    #[prost(string, tag = "6")]
    pub(crate) resource_version: String,
    #[prost(int64, tag = "7")]
    pub(crate) generation: i64,
    #[prost(message, optional, tag = "8")]
    pub(crate) creation_timestamp: Option<Time>,
    #[prost(message, optional, tag = "9")]
    pub(crate) deletion_timestamp: Option<Time>,
    #[prost(btree_map = "string, string", tag = "11")]
    pub(crate) labels: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "12")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) owner_references: Vec<OwnerReference>,
    #[prost(string, repeated, tag = "14")]
    pub(crate) finalizers: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Time {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OwnerReference {
    #[prost(string, tag = "1")]
    pub(crate) kind: String,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
    #[prost(string, tag = "4")]
    pub(crate) uid: String,
    #[prost(string, tag = "5")]
    pub(crate) api_version: String,
}

/// What lies in an envelope, without the magic in front.
pub(crate) fn describe(envelope: &[u8]) -> Node {
    let Ok(Envelope { type_meta, raw, content_encoding, content_type }) = Envelope::decode(envelope) else {
        let damaged =
            [("encoding", Node::text("kubernetes protobuf, damaged")), ("hex", Node::hex(envelope))];
        return Node::map(damaged);
    };
    let mut entries = vec![("encoding", Node::text("kubernetes protobuf"))];
    if let Some(TypeMeta { api_version, kind }) = type_meta {
        entries.push(("apiVersion", Node::text(api_version)));
        entries.push(("kind", Node::text(kind)));
    }
    let given = [("contentEncoding", content_encoding), ("contentType", content_type)];
    entries.extend(
        given.into_iter().filter(|(_, text)| !text.is_empty()).map(|(n, text)| (n, Node::text(text))),
    );
    match Object::decode(raw.as_slice()) {
        Ok(Object { metadata: Some(metadata) }) => entries.push(("metadata", of_metadata(metadata))),
        Ok(Object { metadata: None }) => {}
        Err(_) => entries.push(("content", plain(&raw))),
    }
    entries.push(("bytes", Node::number(raw.len() as u64)));
    Node::map(entries)
}

fn of_metadata(metadata: ObjectMeta) -> Node {
    let mut entries = Vec::new();
    let texts = [
        ("name", metadata.name),
        ("generateName", metadata.generate_name),
        ("namespace", metadata.namespace),
        ("uid", metadata.uid),
        ("resourceVersion", metadata.resource_version),
    ];
    entries.extend(
        texts.into_iter().filter(|(_, text)| !text.is_empty()).map(|(n, text)| (n, Node::text(text))),
    );
    if metadata.generation != 0 {
        entries.push(("generation", Node::number(metadata.generation)));
    }
    for (name, time) in [
        ("creationTimestamp", metadata.creation_timestamp),
        ("deletionTimestamp", metadata.deletion_timestamp),
    ] {
        entries.extend(time.map(|time| (name, Node::text(time_text(time.seconds)))));
    }
    for (name, texts) in [("labels", metadata.labels), ("annotations", metadata.annotations)] {
        if !texts.is_empty() {
            entries.push((
                name,
                Node::Map(texts.into_iter().map(|(key, text)| (key, Node::text(text))).collect()),
            ));
        }
    }
    if !metadata.owner_references.is_empty() {
        let owner = |owner: OwnerReference| {
            Node::map([
                ("apiVersion", Node::text(owner.api_version)),
                ("kind", Node::text(owner.kind)),
                ("name", Node::text(owner.name)),
                ("uid", Node::text(owner.uid)),
            ])
        };
        entries.push((
            "ownerReferences",
            Node::List(metadata.owner_references.into_iter().map(owner).collect()),
        ));
    }
    if !metadata.finalizers.is_empty() {
        entries.push(("finalizers", Node::List(metadata.finalizers.into_iter().map(Node::text).collect())));
    }
    Node::map(entries)
}

/// Seconds since 1970 as Kubernetes writes a time, such as `2026-01-31T08:00:00Z`.
pub(crate) fn time_text(seconds: i64) -> String {
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // The civil calendar in years that begin with March: a leap day is the last one. 400 years have 146097 days.
    let shifted = days.saturating_add(719_468);
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}
