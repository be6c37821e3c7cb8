//! Several servers on one TiKV cluster, each of which owns some of the partitions.
//! `cargo xtask test --only tikv-server,tikv` runs this.

#![cfg(feature = "cluster-tests")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "clients are tasks of the test, which waits for them")]

mod clients;
mod cluster;
mod members;
mod program;
mod proxy;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::{Clock, SystemClock};
use clients::{free_address, get, http, pause, put, try_get, watch_range};
use cluster::Cluster;
use members::Member;
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::{
    DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RequestOp, TxnRequest,
    WatchResponse,
};
use proxy::Proxy;
use rustix::process::Signal;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// Keys below `/b`, from there to `/c`, and so on.
const SPLITS: &str = "--initial-partition-splits=/b,/c,/d,/e,/f";
/// One key of each partition.
const KEYS: [&str; 6] = ["/a", "/b", "/c", "/d", "/e", "/f"];

/// Three servers, the first of which leads, and the six partitions are spread over them.
async fn spread(cluster: &Cluster) -> [Member; 3] {
    spread_with(cluster, &[SPLITS]).await
}

/// As [`spread`], where nobody is taken for dead because the machine is slow.
async fn spread_for_long(cluster: &Cluster) -> [Member; 3] {
    spread_with(cluster, &[SPLITS, "--leader-lease=20s"]).await
}

async fn spread_with(cluster: &Cluster, arguments: &[&str]) -> [Member; 3] {
    let mut started = Vec::new();
    for name in ["a", "b", "c"] {
        let member = Member::start_with(cluster, name, arguments);
        member.ready().await;
        started.push(member);
    }
    owns(&started.iter().collect::<Vec<_>>(), &[2, 2, 2]).await;
    started.try_into().unwrap_or_else(|_| unreachable!("three were started"))
}

/// Waits until the members own so many partitions each.
async fn owns(members: &[&Member], counts: &[u64]) {
    while members.iter().map(|member| owned(member)).collect::<Vec<_>>() != counts {
        pause().await;
    }
}

fn owned(member: &Member) -> u64 {
    metric(member, "orlop_partitions_owned").unwrap_or(u64::MAX)
}

/// The value of a metric; none where the server does not show it.
fn metric(member: &Member, name: &str) -> Option<u64> {
    let (_, metrics) = http(&member.address, "/metrics");
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|count| count.parse().unwrap())
}

/// What was acknowledged, and what may have happened, of one key.
#[derive(Default)]
struct Written {
    acknowledged: Vec<(i64, String)>,
    unknown: Vec<String>,
}

/// Writes numbers to a key, one after the other, until it is told to stop. `excuse` says which errors may come.
async fn write_on(
    channel: Channel,
    key: &'static str,
    tag: &'static str,
    stop: Arc<AtomicBool>,
    excuse: impl Fn(&Status) -> bool,
) -> (&'static str, Written) {
    let mut written = Written::default();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let value = format!("{tag}{number}");
        match put(&channel, key, &value).await {
            Ok(revision) => written.acknowledged.push((revision, value)),
            Err(error) if excuse(&error) => {
                written.unknown.push(value);
                pause().await;
            }
            Err(error) => panic!("write {number} of {key}: {error}"),
        }
        number += 1;
    }
    (key, written)
}

/// A writer of each partition, through this server.
fn writers(
    channel: &Channel,
    tag: &'static str,
    stop: &Arc<AtomicBool>,
    excuse: fn(&Status) -> bool,
) -> Vec<tokio::task::JoinHandle<(&'static str, Written)>> {
    let write = |key| write_on(channel.clone(), key, tag, stop.clone(), excuse);
    KEYS.into_iter().map(|key| tokio::task::spawn(write(key))).collect()
}

/// Everything that a watch of all keys brings, until it has brought the value `end` of the key `/end`.
async fn all_events(watch: &mut Streaming<WatchResponse>) -> Vec<(i64, String, String)> {
    let mut events = Vec::new();
    loop {
        let response = watch.message().await.unwrap().expect("the watch goes on");
        assert!(!response.canceled, "{response:?}");
        for event in response.events {
            let kv = event.kv.unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            events.push((kv.mod_revision, text(&kv.key), text(&kv.value)));
        }
        if events.last().is_some_and(|(_, key, _)| key == "/end") {
            return events;
        }
    }
}

/// The watch saw each write that was acknowledged, at its revision, none that nobody asked for, all in order and none twice.
/// Writes of nothing are not counted.
async fn check(channel: &Channel, start: i64, written: Vec<(&'static str, Written)>) {
    put(channel, "/end", "end").await.unwrap();
    let events = all_events(&mut watch_range(channel, "/", "0", start).await).await;
    assert!(events.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order, none twice: {events:?}");
    let mut seen: HashMap<(String, String), i64> = HashMap::new();
    for (revision, key, value) in events.into_iter().filter(|(_, _, value)| !value.is_empty()) {
        assert_eq!(seen.insert((key, value), revision), None, "written twice");
    }
    for (key, Written { acknowledged, unknown }) in written {
        assert!(acknowledged.len() > 2, "{key} was written {} times", acknowledged.len());
        for (revision, value) in acknowledged {
            assert_eq!(seen.remove(&(key.to_owned(), value.clone())), Some(revision), "{key} = {value}");
        }
        for value in unknown {
            seen.remove(&(key.to_owned(), value));
        }
    }
    seen.remove(&("/end".to_owned(), "end".to_owned()));
    assert!(seen.is_empty(), "nobody wrote {seen:?}");
}

fn unknown(error: &Status) -> bool {
    error.code() == Code::Unavailable
}

fn never(_: &Status) -> bool {
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_writes_its_share_and_all_of_them_serve_every_key() {
    let cluster = Cluster::start();
    let members = spread(&cluster).await;
    let channels = [members[0].connect().await, members[1].connect().await, members[2].connect().await];
    let mut last = 0;
    for number in 0..60 {
        let key = KEYS[number % KEYS.len()];
        let value = number.to_string();
        let revision = put(&channels[number / 6 % 3], key, &value).await.unwrap();
        assert!(revision > last, "revisions of all partitions are one sequence: {revision} after {last}");
        last = revision;
        assert_eq!(
            get(&channels[number / 2 % 3], key).await,
            Some(value),
            "read at once through another one"
        );
    }
    owns(&members.iter().collect::<Vec<_>>(), &[2, 2, 2]).await;

    // What touches several partitions is written as one, and the partitions are spread again some time later.
    let put_of = |key: &str| {
        let put = PutRequest {
            key: key.as_bytes().to_vec().into(),
            value: b"txn".to_vec().into(),
            ..Default::default()
        };
        RequestOp { request: Some(Op::RequestPut(put)) }
    };
    let success = KEYS.map(put_of).to_vec();
    let txn = TxnRequest { success, ..TxnRequest::default() };
    let mut kv = KvClient::new(channels[1].clone());
    let written = kv.txn(txn).await.unwrap().into_inner();
    assert_eq!(written.header.unwrap().revision, last + 1);
    for key in KEYS {
        assert_eq!(get(&channels[2], key).await.as_deref(), Some("txn"));
    }
    let range = DeleteRangeRequest {
        key: b"/".to_vec().into(),
        range_end: b"0".to_vec().into(),
        ..DeleteRangeRequest::default()
    };
    assert_eq!(kv.delete_range(range).await.unwrap().into_inner().deleted, 6);
    owns(&[&members[0]], &[6]).await;
    owns(&members.iter().collect::<Vec<_>>(), &[2, 2, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_server_carries_out_its_share_with_one_commit_for_a_batch() {
    const ROUNDS: u64 = 50;
    let cluster = Cluster::start();
    let members = spread_for_long(&cluster).await;
    // All clients are at one server.
    let channel = members[0].connect().await;
    let count = |name: &str| members.iter().map(|member| metric(member, name).unwrap()).collect::<Vec<_>>();
    let (puts, commits) = ("etcd_mvcc_put_total", "orlop_engine_commits_total{outcome=\"committed\"}");
    let before = (count(puts), count(commits));
    for round in 0..ROUNDS {
        let value = round.to_string();
        let writes = KEYS.map(|key| put(&channel, key, &value));
        for written in futures_util::future::join_all(writes).await {
            written.unwrap();
        }
    }
    let after = (count(puts), count(commits));
    let carried_out: Vec<_> = after.0.iter().zip(&before.0).map(|(after, before)| after - before).collect();
    let share = ROUNDS * KEYS.len() as u64 / 3;
    assert_eq!(carried_out, [share; 3], "each the writes to its own partitions");
    for ((after, before), name) in after.1.iter().zip(&before.1).zip(["a", "b", "c"]) {
        // Of its own, heartbeats of the leader left out: it writes some in a second.
        let commits = after - before;
        println!("{name}: {commits} commits for {share} writes");
        assert!(name == "a" || commits <= share, "{name} committed {commits} times for {share} writes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_a_lease_go_with_it_wherever_they_are_owned() {
    let cluster = Cluster::start();
    let members = spread(&cluster).await;
    let channel = members[1].connect().await;
    let mut leases = LeaseClient::new(members[2].connect().await);
    leases.lease_grant(LeaseGrantRequest { ttl: 100, id: 7 }).await.unwrap();
    let mut kv = KvClient::new(channel.clone());
    for key in KEYS {
        let put = PutRequest { key: key.as_bytes().to_vec().into(), lease: 7, ..PutRequest::default() };
        kv.put(put).await.unwrap();
        let put = PutRequest { key: key.as_bytes().to_vec().into(), lease: 8, ..PutRequest::default() };
        let refused = kv.put(put).await.unwrap_err();
        assert_eq!(refused.message(), "etcdserver: requested lease not found");
    }
    leases.lease_revoke(LeaseRevokeRequest { id: 7 }).await.unwrap();
    for key in KEYS {
        assert_eq!(get(&channel, key).await, None, "{key} is gone when the answer comes");
    }
    owns(&members.iter().collect::<Vec<_>>(), &[2, 2, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_dies_is_replaced_and_nothing_is_lost() {
    let cluster = Cluster::start();
    let [leader, mut owner, other] = spread(&cluster).await;
    let channel = other.connect().await;
    let start = put(&channel, "/a", "start-").await.unwrap() + 1;
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = writers(&channel, "", &stop, unknown);
    let its_own = writers(&owner.connect().await, "own-", &stop, |_| true);
    // While they write.
    while get(&channel, "/f").await.is_none_or(|value| value.len() < 2) {
        pause().await;
    }
    owner.program.signal(Signal::KILL);
    let killed = SystemClock.now();
    for key in KEYS {
        while put(&channel, key, "").await.is_err() {
            pause().await;
        }
    }
    println!("writes to all partitions went on {:?} after the kill", SystemClock.now() - killed);
    owns(&[&leader, &other], &[3, 3]).await;
    owner.start_again();
    owner.ready().await;
    owns(&[&leader, &owner, &other], &[2, 2, 2]).await;
    stop.store(true, Ordering::SeqCst);
    tasks.extend(its_own);
    let written = futures_util::future::join_all(tasks).await;
    check(&channel, start, written.into_iter().map(Result::unwrap).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_and_an_owner_die_at_once_and_nothing_is_lost() {
    let cluster = Cluster::start();
    let [leader, owner, other] = spread(&cluster).await;
    let channel = other.connect().await;
    let start = put(&channel, "/a", "start-").await.unwrap() + 1;
    let stop = Arc::new(AtomicBool::new(false));
    let tasks = writers(&channel, "", &stop, unknown);
    while get(&channel, "/f").await.is_none_or(|value| value.len() < 2) {
        pause().await;
    }
    let killed = SystemClock.now();
    leader.program.signal(Signal::KILL);
    owner.program.signal(Signal::KILL);
    leader.program.end();
    owner.program.end();
    owns(&[&other], &[6]).await;
    while put(&channel, "0", "1").await.is_err() {
        pause().await;
    }
    println!("writes went on {:?} after the kill", SystemClock.now() - killed);
    let before = get(&channel, "/f").await;
    while get(&channel, "/f").await == before {
        pause().await;
    }
    stop.store(true, Ordering::SeqCst);
    let written = futures_util::future::join_all(tasks).await;
    check(&channel, start, written.into_iter().map(Result::unwrap).collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_slept_commits_nothing_and_answers_nothing_stale() {
    let cluster = Cluster::start();
    let [leader, owner, other] = spread(&cluster).await;
    let (to_owner, to_other) = (owner.connect().await, other.connect().await);
    for key in KEYS {
        put(&to_other, key, "old").await.unwrap();
    }
    owner.program.signal(Signal::STOP);
    let asleep = SystemClock.now();
    // They are sent while it sleeps, and wait in its socket.
    let late: Vec<_> = KEYS
        .into_iter()
        .map(|key| {
            let channel = to_owner.clone();
            tokio::task::spawn(async move { (key, put(&channel, key, "late").await) })
        })
        .collect();
    owns(&[&leader, &other], &[3, 3]).await;
    println!("its partitions had other owners {:?} after it fell asleep", SystemClock.now() - asleep);
    let mut new = HashMap::new();
    for key in KEYS {
        // A call that is in the sleeper's socket is not sent to anybody else.
        let revision = loop {
            if let Ok(revision) = put(&to_other, key, "new").await {
                break revision;
            }
        };
        new.insert(key, revision);
    }
    let reads = futures_util::future::join_all(KEYS.map(|key| try_get(&to_owner, key)));
    let wake = async { owner.program.signal(Signal::CONT) };
    let (reads, ()) = tokio::join!(reads, wake);
    for value in reads.into_iter().flatten() {
        let value = value.unwrap();
        assert!(value == "new" || value == "late", "it must not answer with the past: {value}");
    }
    // What it was asked meanwhile may have happened before it slept, or by another one when it woke.
    for task in late {
        let (key, answer) = task.await.unwrap();
        let now = get(&to_other, key).await;
        match answer {
            Ok(revision) if revision > new[key] => assert_eq!(now.as_deref(), Some("late"), "{key}"),
            Ok(_) => assert_eq!(now.as_deref(), Some("new"), "{key}"),
            Err(_) => {}
        }
    }
    owner.ready().await;
    owns(&[&leader, &owner, &other], &[2, 2, 2]).await;
    for key in KEYS {
        put(&owner.connect_again().await, key, "newest").await.unwrap();
        assert_eq!(get(&to_other, key).await.as_deref(), Some("newest"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_is_cut_off_from_the_leader_loses_its_partitions_though_both_reach_tikv() {
    let cluster = Cluster::start();
    let (mut started, mut proxies) = (Vec::new(), Vec::new());
    for name in ["a", "b"] {
        let peer = free_address();
        let proxy = Proxy::start(peer.clone()).await;
        let advertised = format!("--advertise-peer-urls=http://{}", proxy.address);
        let member = Member::start_at(&cluster, (name, "http"), peer, &[SPLITS, &advertised]);
        member.ready().await;
        started.push(member);
        proxies.push(proxy);
    }
    let [leader, owner]: [Member; 2] =
        started.try_into().unwrap_or_else(|_| unreachable!("two were started"));
    owns(&[&leader, &owner], &[3, 3]).await;
    let (here, there) = (leader.connect().await, owner.connect().await);
    let start = put(&here, "/a", "start").await.unwrap() + 1;
    let mut watch_there = watch_range(&there, "/", "0", start).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = writers(&here, "", &stop, unknown);
    tasks.extend(writers(&there, "cut-", &stop, unknown));
    while get(&here, "/f").await.is_none_or(|value| value.len() < 2) {
        pause().await;
    }
    proxies.iter().for_each(Proxy::cut);
    let cut = SystemClock.now();
    owns(&[&leader], &[6]).await;
    println!("the leader had its partitions {:?} after the cut", SystemClock.now() - cut);
    // Everything goes on at the leader; at the other one nothing that is asked for the newest is answered with the past.
    for key in KEYS {
        while put(&here, key, "").await.is_err() {
            pause().await;
        }
    }
    for read in futures_util::future::join_all(KEYS.map(|key| try_get(&there, key))).await {
        assert_eq!(read.unwrap_err().code(), Code::Unavailable, "it cannot know what is the newest");
    }
    owns(&[&leader, &owner], &[6, 0]).await;
    proxies.iter().for_each(|proxy| proxy.heal(1));
    owns(&[&leader, &owner], &[3, 3]).await;
    for key in KEYS {
        while put(&there, key, "").await.is_err() {
            pause().await;
        }
    }
    stop.store(true, Ordering::SeqCst);
    let mut written: HashMap<&'static str, Written> = HashMap::new();
    for task in tasks {
        let (key, more) = task.await.unwrap();
        let of_key = written.entry(key).or_default();
        of_key.acknowledged.extend(more.acknowledged);
        of_key.unknown.extend(more.unknown);
    }
    check(&here, start, written.into_iter().collect()).await;
    // And a watch at the one that was cut off has brought the same.
    let seen = all_events(&mut watch_there).await;
    let told = all_events(&mut watch_range(&here, "/", "0", start).await).await;
    assert_eq!(seen, told);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_owners_fails_no_request_of_the_others() {
    let cluster = Cluster::start();
    let mut members = spread_for_long(&cluster).await;
    for going in 0..3 {
        let channel = members[(going + 1) % 3].connect().await;
        let start = put(&channel, "/a", &format!("start-{going}")).await.unwrap() + 1;
        let stop = Arc::new(AtomicBool::new(false));
        let tags = ["0-", "1-", "2-"];
        let tasks = writers(&channel, tags[going], &stop, never);
        let wrote = |value: Option<String>| value.is_some_and(|value| value.starts_with(tags[going]));
        while !wrote(get(&channel, "/f").await) {
            pause().await;
        }
        members[going].program.signal(Signal::TERM);
        members[going].start_again_after_end();
        members[going].ready().await;
        let everybody: Vec<_> = members.iter().collect();
        owns(&everybody, &[2, 2, 2]).await;
        stop.store(true, Ordering::SeqCst);
        let written = futures_util::future::join_all(tasks).await;
        check(&channel, start, written.into_iter().map(Result::unwrap).collect()).await;
        let delete = DeleteRangeRequest { key: b"/end".to_vec().into(), ..DeleteRangeRequest::default() };
        KvClient::new(channel).delete_range(delete).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_told_to_owns_everything() {
    let cluster = Cluster::start();
    let leader = Member::start_with(&cluster, "a", &[SPLITS, "--partition-owners=leader"]);
    leader.ready().await;
    let other = Member::start_with(&cluster, "b", &[SPLITS]);
    other.ready().await;
    let channel = other.connect().await;
    for key in KEYS {
        put(&channel, key, "1").await.unwrap();
    }
    owns(&[&leader, &other], &[6, 0]).await;
}
