//! The worked examples of `docs/key-layout.md` are what the code writes, byte by byte.
//!
//! A block that begins with ```` ```record NAME ```` shows one record, one that begins with ```` ```keys NAME ````
//! a list of keys in their order. What stands behind a `|` explains the bytes and is not compared.

#![expect(clippy::unwrap_used, reason = "a page that cannot be read fails the test")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use layout::KeySpace;
use layout::log::{Body, Epoch, Incarnation, LogRecord, PartitionId, Slot, SystemChange};
use layout::map::PartitionMap;
use layout::meta::{FORMAT, Identity, Reclaimed};
use layout::system::{Alarm, LeaseRecord};
use model::{Change, ChangeKind, Key, KeyMeta, LeaseId, Revision};

const POD: &str = "/registry/pods/default/a";
const USER: PartitionId = PartitionId(1);
const LEASE: LeaseId = LeaseId(0x70d3);

/// The bytes of a block: two parts (key and value) for a record, one for each key of a list.
type Parts = Vec<Vec<u8>>;

#[test]
fn the_worked_examples_are_what_the_code_writes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/key-layout.md");
    let page = std::fs::read_to_string(path).unwrap();
    let documented = parse(&page);
    let mut problems = String::new();
    for (name, written) in examples() {
        if documented.get(name) != Some(&written) {
            writeln!(problems, "`{name}` is written as").unwrap();
            for part in written {
                writeln!(problems, "    {}", hex(&part)).unwrap();
            }
        }
    }
    let known: Vec<_> = examples().into_keys().collect();
    for name in documented.keys().filter(|name| !known.contains(&name.as_str())) {
        writeln!(problems, "`{name}` is shown, and nothing here makes it").unwrap();
    }
    assert!(problems.is_empty(), "docs/key-layout.md shows other bytes than the code writes:\n{problems}");
}

#[test]
fn the_listed_keys_are_in_order() {
    for (name, keys) in examples().iter().filter(|(name, _)| name.starts_with("order")) {
        assert!(keys.is_sorted(), "{name}");
    }
}

#[test]
fn the_page_names_the_format_that_is_written() {
    assert_eq!(
        FORMAT, 1,
        "docs/key-layout.md describes format 1: describe the new one and how stores get to it"
    );
}

/// What the code makes of the examples: a new store without a prefix, in which a lease is granted and a pod is put,
/// hanging on it, and deleted.
fn examples() -> BTreeMap<&'static str, Parts> {
    let space = KeySpace::new("").unwrap();
    let pod = Key::new(POD).unwrap();
    let (put_at, deleted_at) = (Revision::new(2), Revision::new(3));
    let meta =
        KeyMeta { create_revision: put_at, mod_revision: put_at, version: 1, lease: LEASE, value_len: 5 };
    let put =
        Change { revision: put_at, key: pod.clone(), kind: ChangeKind::Put(meta), previous: Revision::NONE };
    let delete = Change { revision: deleted_at, key: pod, kind: ChangeKind::Delete, previous: put_at };
    let granted = SystemChange::LeaseGranted(LEASE, 60);
    let index_key = space.index_key(POD.as_bytes());
    let object_key = space.object_key(POD.as_bytes(), put_at);
    let tombstone_key = space.object_key(POD.as_bytes(), deleted_at);
    let (lease_key, alarm_key) = (space.lease_key(LEASE), space.alarm_key(Alarm::NoSpace));
    let slot = |partition, slot, batch, revision, body| {
        let key = space.log_key(partition, Slot(slot));
        let owner = Incarnation(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
        let record = LogRecord { epoch: Epoch(1), owner, batch, revision, body };
        let value = space.encode_log(&key, &record);
        vec![key.to_vec(), value.to_vec()]
    };
    let split = PartitionMap::split_at(&[Key::new("m").unwrap()]).unwrap();
    let identity = Identity { format: FORMAT, cluster_id: 300 };
    let reclaimed = Reclaimed { changes_through: Slot(3), trimmed_through: Slot(3) };
    let lease = LeaseRecord { ttl_secs: 60, revoking: false };
    let record = |key: &[u8], value: bytes::Bytes| vec![key.to_vec(), value.to_vec()];
    BTreeMap::from([
        ("identity", record(&space.identity_key(), space.encode_identity(identity))),
        ("takeover", slot(USER, 2, 0, Revision::FIRST, Body::Takeover)),
        ("put: slot", slot(USER, 3, 1, put_at, Body::Changes(vec![put]))),
        ("put: index", record(&index_key, space.encode_index(&index_key, &meta))),
        ("put: object", record(&object_key, space.encode_put(&object_key, POD.as_bytes(), &meta, b"hello"))),
        ("delete: slot", slot(USER, 4, 2, deleted_at, Body::Changes(vec![delete]))),
        ("delete: object", record(&tombstone_key, space.encode_tombstone(&tombstone_key))),
        ("lease: slot", slot(PartitionId::SYSTEM, 3, 1, Revision::FIRST, Body::System(vec![granted]))),
        ("lease: state", record(&lease_key, space.encode_lease(&lease_key, lease))),
        ("alarm", record(&alarm_key, space.encode_alarm(&alarm_key))),
        ("compacted", record(&space.compacted_key(), space.encode_compacted(deleted_at))),
        ("partitions", record(&space.partitions_key(), space.encode_partitions(&split))),
        ("reclaimed", record(&space.reclaimed_key(USER), space.encode_reclaimed(USER, reclaimed))),
        ("order of objects", object_order(&space)),
        ("order of index records", index_order(&space)),
        ("prefix", prefixed()),
    ])
}

/// Keys in the order of their bytes, each at two revisions where that shows something.
const ORDERED: [(&[u8], i64); 7] =
    [(b"a", 2), (b"a", 300), (b"a\0", 2), (b"a\0\x01", 2), (b"a\x01", 2), (b"ab", 2), (b"b", 1)];

fn object_order(space: &KeySpace) -> Parts {
    ORDERED.iter().map(|&(key, revision)| space.object_key(key, Revision::new(revision)).to_vec()).collect()
}

fn index_order(space: &KeySpace) -> Parts {
    let mut keys: Parts = ORDERED.iter().map(|(key, _)| space.index_key(key).to_vec()).collect();
    keys.dedup();
    keys
}

fn prefixed() -> Parts {
    let space = KeySpace::new("blue/").unwrap();
    vec![space.identity_key().to_vec(), space.index_key(b"a").to_vec()]
}

/// The blocks of the page, by their names.
fn parse(page: &str) -> BTreeMap<String, Parts> {
    let mut blocks = BTreeMap::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let name = line.strip_prefix("```record ").or_else(|| line.strip_prefix("```keys "));
        let Some(name) = name else { continue };
        let is_list = line.starts_with("```keys");
        let mut parts = Parts::new();
        for line in lines.by_ref().take_while(|line| *line != "```") {
            let bytes = line.split('|').next().unwrap_or_default();
            let (begins, bytes) = match bytes.strip_prefix("key").or_else(|| bytes.strip_prefix("value")) {
                Some(rest) => (true, rest),
                None => (is_list, bytes),
            };
            if begins {
                parts.push(Vec::new());
            }
            let part = parts.last_mut().expect("a block begins with a key");
            part.extend(bytes.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()));
        }
        assert!(blocks.insert(name.to_owned(), parts).is_none(), "`{name}` is shown twice");
    }
    blocks
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}
