//! Writes the first inputs of every target, made of real encodings, into the directory that is named: what a corpus can
//! be begun with when a format has changed. `docs/fuzzing.md` says how the corpus is made of them.

use std::error::Error;
use std::fs;
use std::path::Path;

use base::{Random, SeededRandom};
use bytes::Bytes;
use engine_embedded::fuzzing::{Files, frame_starts};
use layout::KeySpace;
use layout::log::{Body, Epoch, Incarnation, LogRecord, PartitionId, Slot, SystemChange};
use layout::meta::{Identity, Reclaimed};
use layout::system::{Alarm, LeaseRecord};
use model::{Change, ChangeKind, Key, KeyMeta, LeaseId, Revision};
use prost::Message;
use proto::etcdserverpb as wire;
use proto::mvccpb::{Event, KeyValue};
use wire::compare::{CompareResult, CompareTarget, TargetUnion};
use wire::request_op::Request;
use wire::response_op::Response;

type Seeds = Vec<Vec<u8>>;

fn main() -> Result<(), Box<dyn Error>> {
    let to = std::env::args_os().nth(1).ok_or("name the directory that the seeds go to")?;
    let seeds: [(&str, Seeds); 14] = [
        ("api", api()),
        ("backup", backup()?),
        ("bbolt", vec![snapshot()?]),
        ("config", config()),
        ("engine_bytes", engine_bytes()),
        ("engine_directory", random(24, 40)),
        ("fragments", random(12, 60)),
        ("frames", frames()),
        ("layout_records", layout_records()?),
        ("request_body", request_body()),
        ("requests", requests()),
        ("snapshot", vec![snapshot()?]),
        ("spliced", spliced()),
        ("store", random(24, 400)),
    ];
    for (target, seeds) in seeds {
        let dir = Path::new(&to).join(target);
        fs::create_dir_all(&dir)?;
        for (number, seed) in seeds.into_iter().enumerate() {
            fs::write(dir.join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}

/// A whole file, and the blocks of one.
fn backup() -> Result<Seeds, Box<dyn Error>> {
    let head = ::backup::Head { cluster_id: 7, revision: 9, keys: 1 };
    let mut writer = ::backup::Writer::begin(vec![0], &head)?;
    writer.lease(5, 60)?;
    writer.end_leases()?;
    writer.key(&pod())?;
    let (file, totals) = writer.finish()?;
    let lease = [5i64.to_le_bytes(), 60i64.to_le_bytes()].concat();
    let contents = [
        serde_json::to_vec(&head)?,
        lease,
        pod().encode_length_delimited_to_vec(),
        serde_json::to_vec(&totals)?,
    ];
    let mut blocks = vec![1];
    for (kind, content) in (1..).zip(contents) {
        blocks.push(kind);
        blocks.extend_from_slice(&u16::try_from(content.len())?.to_le_bytes());
        blocks.extend(content);
    }
    Ok(vec![file, blocks])
}

/// etcd's file with one key and one lease, without the checksum behind it: what is changed is then looked at.
fn snapshot() -> Result<Vec<u8>, Box<dyn Error>> {
    let pod = pod();
    let (key, revision) = (Key::new(pod.key.clone())?, Revision::new(pod.mod_revision));
    let meta = KeyMeta {
        create_revision: Revision::new(pod.create_revision),
        mod_revision: revision,
        version: pod.version,
        lease: LeaseId(pod.lease),
        value_len: u32::try_from(pod.value.len())?,
    };
    let member = ::snapshot::Member { id: 7, name: "a".to_owned(), client_urls: Vec::new() };
    let facts = ::snapshot::Facts { revision, leases: vec![(LeaseId(5), 60)], member, term: 3 };
    let mut catalogue = ::snapshot::Catalogue::default();
    catalogue.add(&key, &meta);
    let mut writer = ::snapshot::Writer::new(&facts, catalogue)?;
    writer.give([Bytes::from(pod.encode_to_vec())])?;
    writer.finish()?;
    let mut file = Vec::new();
    while let Some(piece) = writer.take(1 << 20) {
        file.extend_from_slice(&piece);
    }
    Ok(file)
}

/// For targets that make something of any bytes.
fn random(count: usize, len: usize) -> Seeds {
    let random = SeededRandom::new(len as u64);
    let seed = || (0..len).map(|_| random.next_u64() as u8).collect();
    (0..count).map(|_| seed()).collect()
}

fn pod() -> KeyValue {
    KeyValue {
        key: "/registry/pods/default/a".into(),
        create_revision: 2,
        mod_revision: 300,
        version: 3,
        value: "hello".into(),
        lease: -5,
    }
}

fn layout_records() -> Result<Seeds, Box<dyn Error>> {
    const PREFIX: &str = "blue/";
    let space = KeySpace::new(PREFIX)?;
    let (name, at) = (Key::new("a\0b")?, Revision::new(300));
    let meta =
        KeyMeta { create_revision: at, mod_revision: at, version: 1, lease: LeaseId(-5), value_len: 5 };
    let put =
        Change { revision: at, key: name.clone(), kind: ChangeKind::Put(meta), previous: Revision::new(2) };
    let delete = Change { kind: ChangeKind::Delete, ..put.clone() };
    let system = vec![
        SystemChange::LeaseGranted(LeaseId(7), 60),
        SystemChange::LeaseRevoking(LeaseId(7)),
        SystemChange::LeaseRevoked(LeaseId(-7)),
        SystemChange::Compacted(at),
        SystemChange::AlarmRaised(Alarm::NoSpace),
        SystemChange::AlarmCleared(Alarm::Corrupt),
    ];
    let bodies = [Body::Takeover, Body::Filler, Body::Changes(vec![put, delete]), Body::System(system)];
    let mut records: Vec<(u8, Bytes, Bytes)> = Vec::new();
    for body in bodies {
        let key = space.log_key(PartitionId(1), Slot(4));
        let record = LogRecord { epoch: Epoch(2), owner: Incarnation(9), batch: 200, revision: at, body };
        records.push((0, key.clone(), space.encode_log(&key, &record)));
    }
    let key = space.index_key(name.as_slice());
    records.push((1, key.clone(), space.encode_index(&key, &meta)));
    let key = space.object_key(name.as_slice(), at);
    records.push((2, key.clone(), space.encode_put(&key, name.as_slice(), &meta, b"hello")));
    records.push((2, key.clone(), space.encode_tombstone(&key)));
    let key = space.lease_key(LeaseId(7));
    let lease = LeaseRecord { ttl_secs: 600, revoking: true };
    records.push((3, key.clone(), space.encode_lease(&key, lease)));
    let key = space.alarm_key(Alarm::Corrupt);
    records.push((3, key.clone(), space.encode_alarm(&key)));
    records.push((
        4,
        space.identity_key(),
        space.encode_identity(Identity { format: 1, cluster_id: 1 << 63 }),
    ));
    records.push((5, space.compacted_key(), space.encode_compacted(at)));
    let reclaimed = Reclaimed { changes_through: Slot(3), trimmed_through: Slot(200) };
    let key = Bytes::from_static(b"blue/a");
    records.push((6, key.clone(), space.encode_reclaimed(PartitionId(key.len() as u32), reclaimed)));
    let sum = [0; 4];
    records.push((
        7,
        Bytes::from_static(PREFIX.as_bytes()),
        [&pod().encode_to_vec()[..], &sum].concat().into(),
    ));
    let seed = |(kind, key, value): (u8, Bytes, Bytes)| {
        let key = &key[PREFIX.len()..];
        [&[kind, key.len() as u8], key, &value[..value.len() - sum.len()]].concat()
    };
    Ok(records.into_iter().map(seed).collect())
}

fn engine_bytes() -> Seeds {
    let describe = fuzz::engine_bytes::describe;
    let mut seeds: Seeds = [0, 2, 8, 24, 34]
        .into_iter()
        .map(|batches| describe(&fuzz::engine_directory::files(batches)))
        .collect();
    // Without hints, and without the file that says what the directory is.
    for left_out in ["hint", "FORMAT"] {
        let mut files = fuzz::engine_directory::files(24);
        files.retain(|name, _| !name.ends_with(left_out));
        seeds.push(describe(&files));
    }
    seeds.extend([1, 24].map(|batches| describe(&at_the_last_number(batches))));
    seeds
}

/// A directory whose newest frame has the highest number that there is.
fn at_the_last_number(batches: u8) -> Files {
    let mut files = fuzz::engine_directory::files(batches);
    let segments = files.iter_mut().filter(|(name, _)| name.ends_with(".seg"));
    let mut number = u64::MAX;
    for (_, segment) in segments.rev() {
        for start in frame_starts(segment).into_iter().rev() {
            segment[start + 16..start + 24].copy_from_slice(&number.to_le_bytes());
            segment[20..28].copy_from_slice(&number.to_le_bytes());
            number -= 1;
        }
    }
    files.retain(|name, _| !name.ends_with("hint"));
    files
}

fn range() -> wire::RangeRequest {
    wire::RangeRequest {
        key: "a".into(),
        range_end: "b".into(),
        limit: 3,
        revision: 2,
        sort_order: 2,
        sort_target: 4,
        min_mod_revision: 1,
        max_create_revision: 9,
        keys_only: true,
        ..wire::RangeRequest::default()
    }
}

fn put() -> wire::PutRequest {
    wire::PutRequest { key: "a".into(), value: "x".into(), prev_kv: true, ..wire::PutRequest::default() }
}

fn delete() -> wire::DeleteRangeRequest {
    wire::DeleteRangeRequest { key: "b".into(), range_end: Bytes::from_static(&[0]), prev_kv: true }
}

fn txn(nested: Option<wire::TxnRequest>) -> wire::TxnRequest {
    let op = |request| wire::RequestOp { request: Some(request) };
    let compare = |target: CompareTarget, union| wire::Compare {
        result: CompareResult::Less.into(),
        target: target.into(),
        key: "a".into(),
        range_end: Bytes::new(),
        target_union: Some(union),
    };
    wire::TxnRequest {
        compare: vec![
            compare(CompareTarget::Mod, TargetUnion::ModRevision(9)),
            compare(CompareTarget::Value, TargetUnion::Value("x".into())),
        ],
        success: [Request::RequestPut(put()), Request::RequestDeleteRange(delete())].map(op).into(),
        failure: [op(Request::RequestRange(range()))]
            .into_iter()
            .chain(nested.map(|nested| op(Request::RequestTxn(nested))))
            .collect(),
    }
}

fn watch() -> wire::WatchRequest {
    let create = wire::WatchCreateRequest {
        key: "a".into(),
        range_end: "c".into(),
        start_revision: 1,
        progress_notify: true,
        filters: vec![1],
        prev_kv: true,
        watch_id: 7,
        fragment: true,
    };
    wire::WatchRequest { request_union: Some(wire::watch_request::RequestUnion::CreateRequest(create)) }
}

fn requests() -> Seeds {
    let compaction = wire::CompactionRequest { revision: 3, physical: true };
    let messages: [(u8, Vec<u8>); 15] = [
        (0, range().encode_to_vec()),
        (0, wire::RangeRequest { key: "a".into(), revision: -1, ..Default::default() }.encode_to_vec()),
        (1, put().encode_to_vec()),
        (2, delete().encode_to_vec()),
        (3, txn(None).encode_to_vec()),
        (4, txn(Some(txn(Some(txn(None))))).encode_to_vec()),
        (6, compaction.encode_to_vec()),
        (7, watch().encode_to_vec()),
        (8, wire::LeaseGrantRequest { ttl: 60, id: 7 }.encode_to_vec()),
        (9, wire::LeaseRevokeRequest { id: 7 }.encode_to_vec()),
        (10, wire::LeaseKeepAliveRequest { id: 7 }.encode_to_vec()),
        (11, wire::LeaseTimeToLiveRequest { id: 7, keys: true }.encode_to_vec()),
        (12, wire::AlarmRequest { action: 1, member_id: 1, alarm: 1 }.encode_to_vec()),
        (13, wire::HashKvRequest { revision: 3 }.encode_to_vec()),
        (14, wire::MemberListRequest { linearizable: true }.encode_to_vec()),
    ];
    messages.into_iter().map(|(kind, message)| [&[kind], &message[..]].concat()).collect()
}

fn api() -> Seeds {
    let leased = wire::PutRequest { lease: 7, ..put() };
    let calls: Vec<(&str, Vec<u8>)> = vec![
        ("LeaseGrant", wire::LeaseGrantRequest { ttl: 60, id: 7 }.encode_to_vec()),
        ("Put", leased.encode_to_vec()),
        ("/Watch", watch().encode_to_vec()),
        ("Txn", txn(Some(txn(None))).encode_to_vec()),
        ("KV/Range", wire::RangeRequest { sort_target: 0, ..range() }.encode_to_vec()),
        ("RangeStream", wire::RangeRequest { key: "a".into(), ..Default::default() }.encode_to_vec()),
        ("DeleteRange", delete().encode_to_vec()),
        ("LeaseKeepAlive", wire::LeaseKeepAliveRequest { id: 7 }.encode_to_vec()),
        ("LeaseTimeToLive", wire::LeaseTimeToLiveRequest { id: 7, keys: true }.encode_to_vec()),
        ("LeaseLeases", Vec::new()),
        ("Compact", wire::CompactionRequest { revision: 2, physical: true }.encode_to_vec()),
        ("HashKV", wire::HashKvRequest { revision: 3 }.encode_to_vec()),
        ("Hash", Vec::new()),
        ("LeaseRevoke", wire::LeaseRevokeRequest { id: 7 }.encode_to_vec()),
        ("Alarm", wire::AlarmRequest { action: 1, member_id: 1, alarm: 1 }.encode_to_vec()),
        ("Status", Vec::new()),
        ("MemberList", Vec::new()),
        ("Authenticate", Vec::new()),
        ("Nothing", Vec::new()),
        ("Check", Vec::new()),
        ("ServerReflectionInfo", b"\x3a\0".to_vec()),
    ];
    let encode = |framed: u8, calls: &[(&str, Vec<u8>)]| {
        let mut input = vec![framed];
        for (name, body) in calls {
            let method =
                fuzz::api::METHODS.iter().position(|method| method.ends_with(name)).unwrap_or_default();
            let body = if framed == 1 { body.clone() } else { fuzz::api::message(body).to_vec() };
            input.push(method as u8);
            input.extend_from_slice(&(body.len() as u16).to_le_bytes());
            input.extend_from_slice(&body);
        }
        input
    };
    let mut seeds: Seeds = calls.chunks(7).flat_map(|calls| [encode(1, calls), encode(0, calls)]).collect();
    seeds.push(encode(1, &calls[..12]));
    let pages = [
        "/health?exclude=NOSPACE&serializable=true",
        "/livez?verbose",
        "/readyz/data_corruption",
        "/metrics",
    ];
    let pages: Vec<_> =
        pages.iter().chain(&["/version", "/"]).map(|page| ("GET", page.as_bytes().to_vec())).collect();
    seeds.push(encode(1, &pages));
    seeds
}

fn spliced() -> Seeds {
    let header =
        Some(wire::ResponseHeader { cluster_id: 1 << 63, member_id: 1, revision: 300, raft_term: 2 });
    let range = wire::RangeResponse { header, kvs: vec![pod(), pod()], more: true, count: 3 };
    let put = wire::PutResponse { header, prev_kv: Some(pod()) };
    let delete = wire::DeleteRangeResponse { header, deleted: 2, prev_kvs: vec![pod()] };
    let event = Event { r#type: 1, kv: Some(pod()), prev_kv: Some(pod()) };
    let op = |response| wire::ResponseOp { response: Some(response) };
    let of = |responses| wire::TxnResponse { header, succeeded: true, responses };
    let inner = of(vec![op(Response::ResponseDeleteRange(delete.clone()))]);
    let txn = of(vec![
        op(Response::ResponseRange(range.clone())),
        op(Response::ResponsePut(put.clone())),
        op(Response::ResponseTxn(inner)),
    ]);
    let watch = wire::WatchResponse {
        header,
        watch_id: 7,
        canceled: true,
        compact_revision: 9,
        cancel_reason: "gone".into(),
        events: vec![event.clone(), Event::default()],
        ..wire::WatchResponse::default()
    };
    let messages = [
        range.encode_to_vec(),
        wire::RangeStreamResponse { range_response: Some(range) }.encode_to_vec(),
        put.encode_to_vec(),
        delete.encode_to_vec(),
        op(Response::ResponseTxn(txn.clone())).encode_to_vec(),
        txn.encode_to_vec(),
        watch.encode_to_vec(),
        event.encode_to_vec(),
    ];
    messages.into_iter().enumerate().map(|(kind, message)| [&[kind as u8], &message[..]].concat()).collect()
}

fn frames() -> Seeds {
    let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
    let ping = b"\0\0\x08\x06\0\0\0\0\0pingpong";
    let pong = b"\0\0\x08\x06\x01\0\0\0\0pingpong";
    let headers = b"\0\0\x02\x01\x04\0\0\0\x01\x82\x87";
    let data = b"\0\0\x05\0\x01\0\0\0\x01\0\0\0\0\0";
    let frames = [&settings[..], ping, pong, headers, data, ping].concat();
    let preface = &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..];
    [&[0][..], &[1, 1], &[3, 9, 0, 4]]
        .into_iter()
        .flat_map(|lengths| [[lengths, preface, &frames].concat(), [lengths, &frames].concat()])
        .collect()
}

fn request_body() -> Seeds {
    let message = |len: usize| fuzz::api::message(&vec![7; len]).to_vec();
    let fine = [message(3), message(0), message(300), message(1)].concat();
    let too_large = [message(3), message(301)].concat();
    [&[0][..], &[1, 1], &[3, 5, 0, 64]]
        .into_iter()
        .flat_map(|lengths| [[lengths, &fine].concat(), [lengths, &too_large].concat()])
        .collect()
}

fn config() -> Seeds {
    [
        "serve\n--name=a\n--data-dir\n./d\n-engine\nmemory",
        "--watch-progress-notify-interval=1h1m30.5s\n--max-txn-ops=65536\n--quota-backend-bytes=-1",
        "--listen-client-urls=http://[::1]:0, http://localhost:2379/,\n--log-level=TRACE\n--log-format=json",
        "--listen-client-urls=http://0.0.0.0:1\n--advertise-client-urls=http://db:2379/,https://x:1",
        "--listen-client-urls=https://127.0.0.1:1\n--key-prefix=\u{e4}\n--max-request-bytes=0\n--nme=x",
        "--config-file=c\n=name = 'x'\n=max-txn-ops = 1_000\n=listen-client-urls = ['http://127.0.0.1:1']",
        "--config-file\nc\n=engin = 'memory'\n=[table]\n=history-bytes = 1.5",
        "--config-file=c\n=name == 3",
        "$ORLOP_NAME=x\n$ORLOP_PORT_2379_TCP=tcp://10.0.0.1:2379\n$ORLOP_CACHE_BYTES=2\n$PATH=/bin",
        "$ORLOP_CONFIG_FILE=c\n=history-bytes = 0x10\n=key-prefix = \"blue/\"",
        "help",
        "--watch-progress-notify-interval=9223372036854775807ns\n--history-bytes=1099511627776",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
