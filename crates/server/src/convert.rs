//! Translation between the wire and the types of `model`: the only place that knows both.

pub mod from_proto;
pub mod to_proto;
