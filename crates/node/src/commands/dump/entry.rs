//! Each kind of record, for people. Names are those of `orlop log`.

use bytes::Bytes;
use kubernetes::{Node, describe};
use layout::log::{Body, PartitionId, SystemChange};
use layout::map::PARTITIONS_MAX;
use layout::object::{Object, meta_of, value_of};
use layout::system::{Alarm, SystemRecord};
use layout::{Damaged, KeySpace};
use model::{Change, ChangeKind, KeyMeta};

type Entry = Result<Node, String>;

/// A record: what is told of all, and what it holds, or why that cannot be read.
pub(super) fn of(kind: &'static str, key: &Bytes, described: Entry) -> Node {
    let mut entries = vec![("kind".to_owned(), Node::text(kind)), ("record".to_owned(), Node::hex(key))];
    match described {
        Ok(Node::Map(more)) => entries.extend(more),
        Ok(other) => entries.push(("value".to_owned(), other)),
        Err(reason) => entries.push(("damaged".to_owned(), Node::text(reason))),
    }
    Node::Map(entries)
}

pub(super) fn meta(space: &KeySpace, key: &Bytes, value: &Bytes) -> Entry {
    if *key == space.identity_key() {
        let identity = space.decode_identity(value).map_err(text)?;
        return Ok(Node::map([
            ("name", Node::text("identity")),
            ("format", Node::number(identity.format)),
            ("cluster_id", Node::number(identity.cluster_id)),
        ]));
    }
    if *key == space.compacted_key() {
        let revision = space.decode_compacted(value).map_err(text)?;
        return Ok(Node::map([
            ("name", Node::text("compacted")),
            ("revision", Node::number(revision.get())),
        ]));
    }
    if *key == space.leader_key() {
        let leader = space.decode_leader(value).map_err(text)?;
        return Ok(Node::map([
            ("name", Node::text("leader")),
            ("epoch", Node::number(leader.epoch.0)),
            ("owner", Node::text(format!("{:032x}", leader.incarnation.0))),
            ("member", Node::text(leader.name)),
            ("peer_url", Node::text(leader.peer_url)),
        ]));
    }
    if *key == space.partitions_key() {
        let map = space.decode_partitions(value).map_err(text)?;
        let partition = |(place, id): (usize, PartitionId)| {
            let start = map.splits().nth(place.wrapping_sub(1)).cloned().unwrap_or_default();
            Node::map([
                ("partition", Node::number(id.0)),
                ("start", Node::text(String::from_utf8_lossy(&start).into_owned())),
            ])
        };
        let partitions = map.ids().enumerate().map(partition).collect();
        return Ok(Node::map([("name", Node::text("partitions")), ("partitions", Node::List(partitions))]));
    }
    for partition in (0..=PARTITIONS_MAX as u32).map(PartitionId) {
        if *key == space.reclaimed_key(partition) {
            let reclaimed = space.decode_reclaimed(partition, value).map_err(text)?;
            return Ok(Node::map([
                ("name", Node::text("reclaimed")),
                ("partition", Node::number(partition.0)),
                ("changes_through_slot", Node::number(reclaimed.changes_through.0)),
                ("trimmed_through_slot", Node::number(reclaimed.trimmed_through.0)),
            ]));
        }
    }
    Err("no version writes a record with this key".to_owned())
}

pub(super) fn log(space: &KeySpace, key: &Bytes, value: &Bytes) -> Entry {
    let (partition, slot) = space.decode_log_key(key).map_err(text)?;
    let record = space.decode_log(key, value).map_err(text)?;
    let (body, changes) = match &record.body {
        Body::Takeover => ("takeover", None),
        Body::Released => ("released", None),
        Body::Filler => ("filler", None),
        Body::Changes(changes) => ("changes", Some(changes.iter().map(change).collect())),
        Body::System(changes) => ("changes", Some(changes.iter().map(system_change).collect())),
    };
    let mut entries = vec![
        ("partition", Node::number(partition.0)),
        ("slot", Node::number(slot.0)),
        ("epoch", Node::number(record.epoch.0)),
        ("owner", Node::text(format!("{:032x}", record.owner.0))),
        ("batch", Node::number(record.batch)),
        ("revision", Node::number(record.revision.get())),
        ("type", Node::text(body)),
    ];
    entries.extend(changes.map(|changes| ("changes", Node::List(changes))));
    Ok(Node::map(entries))
}

pub(super) fn index(space: &KeySpace, key: &Bytes, value: &Bytes) -> Entry {
    let (user_key, meta) = space.decode_index(key, value).map_err(text)?;
    let mut entries = vec![named(user_key.as_slice())];
    entries.extend(facts(&meta));
    entries.push(("value_bytes", Node::number(meta.value_len)));
    Ok(Node::map(entries))
}

pub(super) fn object(space: &KeySpace, key: &Bytes, value: &Bytes) -> Entry {
    let (user_key, revision) = space.decode_object_key(key).map_err(text)?;
    let mut entries = vec![named(user_key.as_slice()), ("revision", Node::number(revision.get()))];
    match space.decode_object(key, value).map_err(text)? {
        Object::Tombstone => entries.push(("type", Node::text("delete"))),
        Object::Put(key_value) => {
            entries.push(("type", Node::text("put")));
            entries.extend(facts(&meta_of(&key_value)?));
            entries.push(("value", describe(&value_of(&key_value)?)));
        }
    }
    Ok(Node::map(entries))
}

pub(super) fn system(space: &KeySpace, key: &Bytes, value: &Bytes) -> Entry {
    Ok(match space.decode_system(key, value).map_err(text)? {
        SystemRecord::Lease(lease, record) => Node::map([
            ("type", Node::text("lease")),
            ("lease", Node::number(lease.0)),
            ("lease_hex", Node::text(format!("{:x}", lease.0))),
            ("ttl", Node::number(record.ttl_secs)),
            ("revoking", Node::Scalar(record.revoking.into())),
        ]),
        SystemRecord::Alarm(alarm) => {
            Node::map([("type", Node::text("alarm")), ("alarm", Node::text(alarm_name(alarm)))])
        }
    })
}

fn text(damaged: Damaged) -> String {
    damaged.to_string()
}

/// A key as text where it is that.
fn named(key: &[u8]) -> (&'static str, Node) {
    match std::str::from_utf8(key) {
        Ok(text) => ("key", Node::text(text)),
        Err(_) => ("key_hex", Node::hex(key)),
    }
}

fn facts(meta: &KeyMeta) -> [(&'static str, Node); 4] {
    [
        ("create_revision", Node::number(meta.create_revision.get())),
        ("mod_revision", Node::number(meta.mod_revision.get())),
        ("version", Node::number(meta.version)),
        ("lease", Node::number(meta.lease.0)),
    ]
}

fn change(change: &Change) -> Node {
    let kind = if matches!(change.kind, ChangeKind::Put(_)) { "put" } else { "delete" };
    let mut entries = vec![
        ("type", Node::text(kind)),
        ("revision", Node::number(change.revision.get())),
        named(change.key.as_slice()),
        ("previous_revision", Node::number(change.previous.get())),
    ];
    if let ChangeKind::Put(meta) = &change.kind {
        entries.extend(facts(meta));
        entries.push(("value_bytes", Node::number(meta.value_len)));
    }
    Node::map(entries)
}

fn system_change(change: &SystemChange) -> Node {
    let (kind, more) = match *change {
        SystemChange::LeaseGranted(lease, ttl) => {
            ("lease_granted", vec![("lease", Node::number(lease.0)), ("ttl", Node::number(ttl))])
        }
        SystemChange::LeaseRevoking(lease) => ("lease_revoking", vec![("lease", Node::number(lease.0))]),
        SystemChange::LeaseRevoked(lease) => ("lease_revoked", vec![("lease", Node::number(lease.0))]),
        SystemChange::Compacted(revision) => ("compacted", vec![("revision", Node::number(revision.get()))]),
        SystemChange::AlarmRaised(alarm) => ("alarm_raised", vec![("alarm", Node::text(alarm_name(alarm)))]),
        SystemChange::AlarmCleared(alarm) => {
            ("alarm_cleared", vec![("alarm", Node::text(alarm_name(alarm)))])
        }
    };
    Node::map([("type", Node::text(kind))].into_iter().chain(more))
}

fn alarm_name(alarm: Alarm) -> &'static str {
    match alarm {
        Alarm::NoSpace => "NOSPACE",
        Alarm::Corrupt => "CORRUPT",
    }
}
