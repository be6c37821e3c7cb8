//! What Kubernetes stores under a key, as far as it can be read without knowing the kind: the envelope of its protobuf
//! encoding and the metadata that every object has, or JSON.
//!
//! It is for people who look at a store. It must never depend on any other crate here, and nothing that a server does
//! may depend on it. Any bytes are read without trust.
//!
//! The numbers of fields are those of Kubernetes' own `generated.proto` of `runtime.Unknown` and `meta.v1.ObjectMeta`,
//! which it never changes.

mod node;
mod protobuf;
#[cfg(test)]
mod tests;

pub use node::Node;

/// What a value of the protobuf encoding begins with.
const MAGIC: &[u8] = b"k8s\0";
/// What a value that an API server has encrypted begins with; the provider follows, up to the second colon.
const ENCRYPTED: &[u8] = b"k8s:enc:";

/// What `value` holds, for people: always a map, whose `encoding` says how it was read.
pub fn describe(value: &[u8]) -> Node {
    if let Some(envelope) = value.strip_prefix(MAGIC) {
        return protobuf::describe(envelope);
    }
    if let Some(rest) = value.strip_prefix(ENCRYPTED) {
        let provider = rest.split(|&byte| byte == b':').next().unwrap_or_default();
        return Node::map([
            ("encoding", Node::text("kubernetes encrypted")),
            ("provider", Node::text(String::from_utf8_lossy(provider))),
            ("bytes", Node::number(value.len() as u64)),
        ]);
    }
    match serde_json::from_slice(value) {
        Ok(json @ serde_json::Value::Object(_)) => {
            Node::map([("encoding", Node::text("json")), ("object", Node::from_json(json))])
        }
        _ => plain(value),
    }
}

fn plain(value: &[u8]) -> Node {
    match std::str::from_utf8(value) {
        Ok(text) => Node::map([("encoding", Node::text("text")), ("text", Node::text(text))]),
        Err(_) => Node::map([("encoding", Node::text("binary")), ("hex", Node::hex(value))]),
    }
}
