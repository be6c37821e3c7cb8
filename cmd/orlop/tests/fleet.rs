//! Several servers on one TiKV cluster, any of which serves any client.
//! `cargo xtask test --only tikv-server,tikv` runs this.

#![cfg(feature = "cluster-tests")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "clients are tasks of the test, which waits for them")]

mod authority;
mod clients;
mod cluster;
mod members;
mod program;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use authority::Authority;
use base::{Clock, SystemClock};
use clients::{connect, events_until, get, http, pause, put, try_get, watch, watched};
use cluster::Cluster;
use members::{Member, members};
use proto::etcdserverpb::cluster_client::ClusterClient;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::kv_client::KvClient;
use proto::etcdserverpb::lease_client::LeaseClient;
use proto::etcdserverpb::maintenance_client::MaintenanceClient;
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
    LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, MemberListRequest, PutRequest,
    RangeRequest, RequestOp, TxnRequest,
};
use rustix::process::Signal;
use tonic::transport::Channel;
use tonic::{Code, Status};

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_written_through_one_is_read_through_another_at_once() {
    let cluster = Cluster::start();
    let members = members(&cluster, ["a", "b", "c"]).await;
    let channels = [members[0].connect().await, members[1].connect().await, members[2].connect().await];
    let mut last = 0;
    for number in 0..60 {
        let (writer, reader) = (&channels[number % 3], &channels[(number / 3) % 3]);
        let value = number.to_string();
        let revision = put(writer, "k", &value).await.unwrap();
        assert!(revision > last, "revisions of all of them are one sequence");
        last = revision;
        assert_eq!(get(reader, "k").await, Some(value), "through {} after {}", number / 3 % 3, number % 3);
    }
    for channel in &channels {
        let history: Vec<String> = (0..60).map(|number| number.to_string()).collect();
        assert_eq!(watched(channel, "k", last - 59, 60).await, history);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_change_works_through_one_that_does_not_lead() {
    let cluster = Cluster::start();
    let [leader, follower] = members(&cluster, ["a", "b"]).await;
    let (there, here) = (leader.connect().await, follower.connect().await);

    // A transaction, and a deletion.
    let created = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: b"t".to_vec().into(),
        target_union: Some(TargetUnion::CreateRevision(0)),
        ..Compare::default()
    };
    let put_t =
        PutRequest { key: b"t".to_vec().into(), value: b"1".to_vec().into(), ..PutRequest::default() };
    let success = vec![RequestOp { request: Some(Op::RequestPut(put_t)) }];
    let txn = TxnRequest { compare: vec![created], success, failure: Vec::new() };
    let mut kv = KvClient::new(here.clone());
    assert!(kv.txn(txn.clone()).await.unwrap().into_inner().succeeded);
    assert!(!kv.txn(txn).await.unwrap().into_inner().succeeded, "it is there now");
    assert_eq!(get(&there, "t").await.as_deref(), Some("1"));
    let delete = DeleteRangeRequest { key: b"t".to_vec().into(), prev_kv: true, ..Default::default() };
    let deleted = kv.delete_range(delete).await.unwrap().into_inner();
    assert_eq!((deleted.deleted, deleted.prev_kvs[0].value.as_ref()), (1, &b"1"[..]));
    assert_eq!(get(&here, "t").await, None);

    // A lease, from its grant to its end.
    let mut leases = LeaseClient::new(here.clone());
    let granted = leases.lease_grant(LeaseGrantRequest { ttl: 100, id: 7 }).await.unwrap().into_inner();
    assert_eq!((granted.id, granted.ttl), (7, 100));
    let twice = leases.lease_grant(LeaseGrantRequest { ttl: 100, id: 7 }).await.unwrap_err();
    assert_eq!(
        (twice.code(), twice.message()),
        (Code::FailedPrecondition, "etcdserver: lease already exists")
    );
    let attached = PutRequest { key: b"l".to_vec().into(), lease: 7, ..PutRequest::default() };
    kv.put(attached).await.unwrap();
    let beats = tokio_stream::iter([7, 7, 8].map(|id| LeaseKeepAliveRequest { id }));
    let mut renewed = leases.lease_keep_alive(beats).await.unwrap().into_inner();
    let mut ttls = Vec::new();
    while let Some(answer) = renewed.message().await.unwrap() {
        ttls.push((answer.id, answer.ttl));
    }
    assert_eq!(ttls, [(7, 100), (7, 100), (8, 0)], "each is answered in turn, an unknown one with 0");
    let left = LeaseTimeToLiveRequest { id: 7, keys: true };
    let left = leases.lease_time_to_live(left).await.unwrap().into_inner();
    assert_eq!((left.granted_ttl, left.keys), (100, vec![b"l".to_vec().into()]));
    let listed = leases.lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner().leases;
    assert_eq!(listed.iter().map(|lease| lease.id).collect::<Vec<_>>(), [7]);
    leases.lease_revoke(LeaseRevokeRequest { id: 7 }).await.unwrap();
    assert_eq!(get(&here, "l").await, None, "its keys are gone when the answer comes");

    // An alarm, and a compaction that waits until space is free.
    let mut maintenance = MaintenanceClient::new(here.clone());
    let raise = AlarmRequest { action: 1, member_id: 0, alarm: 1 };
    maintenance.alarm(raise).await.unwrap();
    let refused = put(&here, "x", "1").await.unwrap_err();
    assert_eq!(refused.message(), "etcdserver: mvcc: database space exceeded");
    assert!(follower.status().await.db_size > 0, "etcdctl divides by it");
    // It hears of them with its next heartbeat.
    let told = async || {
        let errors = follower.status().await.errors;
        errors.iter().any(|error| error.ends_with("alarm:NOSPACE"))
    };
    while !told().await {
        pause().await;
    }
    maintenance.alarm(AlarmRequest { action: 2, ..raise }).await.unwrap();
    let revision = put(&here, "x", "1").await.unwrap();
    put(&here, "x", "2").await.unwrap();
    kv.compact(CompactionRequest { revision, physical: true }).await.unwrap();
    for channel in [&here, &there] {
        let below = RangeRequest { key: b"x".to_vec().into(), revision: revision - 1, ..Default::default() };
        let gone = KvClient::new(channel.clone()).range(below).await.unwrap_err();
        assert_eq!(gone.message(), "etcdserver: mvcc: required revision has been compacted");
        assert_eq!(get(channel, "x").await.as_deref(), Some("2"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_names_all_and_who_leads() {
    let cluster = Cluster::start();
    let members = members(&cluster, ["a", "b", "c"]).await;
    let mut statuses = Vec::new();
    for member in &members {
        let mut client = ClusterClient::new(member.connect().await);
        let listed = loop {
            // Each is listed from its first word to the leader on.
            let listed = client.member_list(MemberListRequest { linearizable: true }).await.unwrap();
            let listed = listed.into_inner().members;
            if listed.len() == 3 {
                break listed;
            }
            pause().await;
        };
        for (listed, member) in listed.iter().zip(&members) {
            assert_eq!(listed.name, member.name);
            assert_eq!(listed.client_ur_ls, [format!("http://{}", member.address)]);
            assert_eq!(listed.peer_ur_ls, [format!("http://{}", member.peer)]);
        }
        let status = member.status().await;
        let header = status.header.unwrap();
        assert_eq!(listed.iter().filter(|listed| listed.id == header.member_id).count(), 1);
        assert!(status.errors.is_empty() && status.raft_term == header.raft_term, "{status:?}");
        statuses.push((header.cluster_id, status.leader, status.raft_term, header.member_id));
    }
    let leader = statuses[0].3;
    assert!(
        statuses
            .iter()
            .all(|status| (status.0, status.1, status.2) == (statuses[0].0, leader, statuses[0].2))
    );
    assert_eq!(statuses.iter().map(|status| status.3).collect::<HashSet<_>>().len(), 3);
    for member in &members {
        let peers_port = connect(&member.peer).await;
        let refused = try_get(&peers_port, "k").await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented, "the members' port is not for clients: {refused}");
        let refused = put(&peers_port, "k", "v").await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "nobody's member: {refused}");
    }
}

/// Writes numbers, one after the other, until it is told to stop: which were acknowledged, at which revisions.
///
/// An error is nobody's acknowledgement: `excuse` says whether it may come.
async fn write_on(
    channel: Channel,
    key: String,
    stop: Arc<AtomicBool>,
    excuse: impl Fn(&Status) -> bool,
) -> Vec<(i64, String)> {
    let mut acknowledged = Vec::new();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let value = number.to_string();
        match put(&channel, &key, &value).await {
            Ok(revision) => acknowledged.push((revision, value)),
            Err(error) if excuse(&error) => pause().await,
            Err(error) => panic!("write {number} of {key}: {error}"),
        }
        number += 1;
    }
    acknowledged
}

/// The watch saw everything that was acknowledged, in order, each once.
fn check_watch(seen: &[(i64, String)], acknowledged: &[(i64, String)]) {
    assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0), "in order, none twice: {seen:?}");
    let seen: HashSet<_> = seen.iter().collect();
    for write in acknowledged {
        assert!(seen.contains(write), "{write:?} was acknowledged and not seen");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_over_the_death_of_the_leader_and_misses_nothing() {
    let cluster = Cluster::start();
    let [leader, second, third] = members(&cluster, ["a", "b", "c"]).await;
    let (to_second, to_third) = (second.connect().await, third.connect().await);
    let start = put(&to_second, "k", "start").await.unwrap();
    let mut watch_here = watch(&to_third, "k", start).await;
    let stop = Arc::new(AtomicBool::new(false));
    // What was on its way to the leader may have happened or not.
    let unknown = |error: &Status| error.code() == Code::Unavailable;
    let writer = tokio::task::spawn(write_on(to_second.clone(), "k".to_owned(), stop.clone(), unknown));
    let mut seen = events_until(&mut watch_here, |value| value == "30").await;
    leader.program.signal(Signal::KILL);
    let killed = SystemClock.now();
    leader.program.end();
    // Taken by whoever leads next: the writer's next ones are as well.
    while put(&to_third, "other", "1").await.is_err() {
        pause().await;
    }
    println!("writes went on {:?} after the kill", SystemClock.now() - killed);
    let mut left = 50;
    let go_on = events_until(&mut watch_here, |_| {
        left -= 1;
        left == 0
    });
    seen.extend(go_on.await);
    stop.store(true, Ordering::SeqCst);
    let acknowledged = writer.await.unwrap();
    put(&to_second, "k", "end").await.unwrap();
    seen.extend(events_until(&mut watch_here, |value| value == "end").await);
    check_watch(&seen, &acknowledged);
    // And it is what the log says.
    let history = events_until(&mut watch(&to_second, "k", start).await, |value| value == "end").await;
    assert_eq!(seen, history);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_request_but_those_of_the_one_that_goes() {
    let cluster = Cluster::start();
    let mut members = members(&cluster, ["a", "b", "c"]).await;
    let keeper = members[0].connect().await;
    let start = put(&keeper, "0", "start").await.unwrap();
    for going in 0..3 {
        let led = members[going].leads().await;
        let stop = Arc::new(AtomicBool::new(false));
        let others: Vec<_> = (0..3).filter(|&other| other != going).collect();
        let mut writers = Vec::new();
        for &other in &others {
            let channel = members[other].connect().await;
            let key = format!("{going}-{other}");
            let none = |_: &Status| false;
            writers.push(tokio::task::spawn(write_on(channel, key, stop.clone(), none)));
        }
        // Through the one that goes: what it took it has done, and the rest never reached it.
        let its_own = {
            let channel = members[going].connect().await;
            let unreached = |error: &Status| {
                let text = error.message();
                !text.starts_with("etcdserver: ") || text.starts_with("etcdserver: not ready")
            };
            tokio::task::spawn(write_on(channel, format!("{going}-{going}"), stop.clone(), unreached))
        };
        let channel = members[others[0]].connect().await;
        // Reads of the newest go on as well.
        let reader = {
            let (channel, stop) = (channel.clone(), stop.clone());
            tokio::task::spawn(async move {
                let (mut reads, mut longest) = (0, Duration::ZERO);
                while !stop.load(Ordering::SeqCst) {
                    let begun = SystemClock.now();
                    try_get(&channel, "0").await.expect("a read");
                    longest = longest.max(SystemClock.now() - begun);
                    reads += 1;
                }
                (reads, longest)
            })
        };
        let some = format!("{going}-{}", others[0]);
        events_until(&mut watch(&channel, &some, start).await, |value| value == "10").await;
        members[going].program.signal(Signal::TERM);
        let asked = SystemClock.now();
        if led {
            let heir = &members[others[0]];
            let second = &members[others[1]];
            while !heir.leads().await && !second.leads().await {
                pause().await;
            }
            println!("another one led {:?} after SIGTERM", SystemClock.now() - asked);
        }
        members[going].start_again_after_end();
        members[going].ready().await;
        stop.store(true, Ordering::SeqCst);
        let (reads, longest) = reader.await.unwrap();
        println!("{reads} reads, the longest {longest:?}");
        let acknowledged = its_own.await.unwrap();
        let key = format!("{going}-{going}");
        let last = acknowledged.last().unwrap().1.clone();
        let seen = events_until(&mut watch(&channel, &key, start).await, |value| value == last).await;
        check_watch(&seen, &acknowledged);
        for (writer, other) in writers.into_iter().zip(others) {
            let acknowledged = writer.await.unwrap();
            assert!(acknowledged.len() > 10);
            let key = format!("{going}-{other}");
            let last = acknowledged.last().unwrap().1.clone();
            // Through the one that has just come back.
            let channel = members[going].connect().await;
            let seen = events_until(&mut watch(&channel, &key, start).await, |value| value == last).await;
            assert_eq!(seen, acknowledged, "nothing else was written: no request was sent twice");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_through_its_lease_answers_nothing_stale_and_comes_back() {
    let cluster = Cluster::start();
    let [first, second] = members(&cluster, ["a", "b"]).await;
    let (to_first, to_second) = (first.connect().await, second.connect().await);
    put(&to_first, "a", "old").await.unwrap();
    first.program.signal(Signal::STOP);
    // It reaches the sleeper's socket, and may still be carried out: it is not sent to anybody else.
    let unknown = put(&to_second, "a", "lost").await.unwrap_err();
    assert_eq!((unknown.code(), unknown.message()), (Code::Unavailable, "etcdserver: request timed out"));
    // This one waits for the next leader.
    let next = put(&to_second, "a", "new").await.unwrap();
    assert!(second.leads().await);

    // They are sent after the new value was acknowledged, and wait in the sleeper's socket.
    let reads = futures_util::future::join_all((0..16).map(|_| try_get(&to_first, "a")));
    let wake = async { first.program.signal(Signal::CONT) };
    let (reads, ()) = tokio::join!(reads, wake);
    for read in reads {
        match read {
            Ok(value) => assert_eq!(value.as_deref(), Some("new"), "it must not answer with the past"),
            // Or the connection's end, as this client puts it.
            Err(refused) => {
                assert!(matches!(refused.code(), Code::Unavailable | Code::Internal), "{refused}");
            }
        }
    }
    // Nobody has to start it again.
    let value = loop {
        match try_get(&first.connect_again().await, "a").await {
            Ok(value) => break value,
            Err(_) => pause().await,
        }
    };
    assert_eq!(value.as_deref(), Some("new"));
    first.ready().await;
    assert!(!first.leads().await && second.leads().await, "it follows now");
    assert_eq!(
        put(&first.connect_again().await, "a", "newest").await.unwrap(),
        next + 1,
        "nothing in between"
    );
    assert_eq!(get(&to_second, "a").await.as_deref(), Some("newest"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hears_from_too_few_resigns_and_leads_again_when_nobody_else_does() {
    let cluster = Cluster::start();
    let [mut leader, second, third] = members(&cluster, ["a", "b", "c"]).await;
    put(&leader.connect().await, "k", "1").await.unwrap();
    let mut client = ClusterClient::new(leader.connect().await);
    while client.member_list(MemberListRequest::default()).await.unwrap().into_inner().members.len() < 3 {
        pause().await;
    }
    second.program.signal(Signal::STOP);
    third.program.signal(Signal::STOP);
    leader.program.log_line("fewer than half of the members");
    leader.program.log_line("this server comes back");
    leader.program.log_line("this server leads the store");
    leader.ready().await;
    // Alone, it is the whole fleet.
    assert_eq!(get(&leader.connect_again().await, "k").await.as_deref(), Some("1"));
    put(&leader.connect_again().await, "k", "2").await.unwrap();
    second.program.signal(Signal::CONT);
    third.program.signal(Signal::CONT);
    for member in [&second, &third] {
        member.ready().await;
        assert_eq!(get(&member.connect().await, "k").await.as_deref(), Some("2"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_lost_the_leaders_stream_finds_all_of_it_in_the_log() {
    let cluster = Cluster::start();
    let [leader, follower] = members(&cluster, ["a", "b"]).await;
    let (to_leader, to_follower) = (leader.connect().await, follower.connect().await);
    let start = put(&to_leader, "k", "start").await.unwrap();
    let mut watch_here = watch(&to_follower, "k", start).await;
    let mut seen = events_until(&mut watch_here, |value| value == "start").await;
    follower.program.signal(Signal::STOP);
    let mut written = seen.clone();
    // The leader gives the sleeper's stream up when no sign of life comes from it for a while.
    let asleep = SystemClock.now();
    let mut number = 0;
    while SystemClock.now() - asleep < Duration::from_secs(5) || number < 50 {
        let value = number.to_string();
        written.push((put(&to_leader, "k", &value).await.unwrap(), value));
        number += 1;
    }
    follower.program.signal(Signal::CONT);
    written.push((put(&to_leader, "k", "end").await.unwrap(), "end".to_owned()));
    seen.extend(events_until(&mut watch_here, |value| value == "end").await);
    assert_eq!(seen, written);
    assert_eq!(get(&to_follower, "k").await.as_deref(), Some("end"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_with_one_name_the_first_one_stops_and_says_what_to_do() {
    let cluster = Cluster::start();
    let [leader, twin] = members(&cluster, ["a", "twin"]).await;
    let second = Member::start(&cluster, "twin");
    let (code, log) = twin.program.end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("orlop: ") && log.contains("\"twin\"") && log.contains("--name"), "{log}");
    second.ready().await;
    assert!(leader.leads().await);
    put(&second.connect().await, "k", "v").await.unwrap();

    // The leader as well: the other one takes its place.
    let usurper = Member::start(&cluster, "a");
    let (code, log) = leader.program.end();
    assert!(code == Some(1) && log.contains("--name"), "{log}");
    usurper.ready().await;
    assert_eq!(get(&usurper.connect().await, "k").await.as_deref(), Some("v"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_address_belongs_to_another_cluster_is_named() {
    let (cluster, other) = (Cluster::start(), Cluster::start());
    let lease = "--leader-lease=500ms";
    let stranger = Member::start_with(&other, "stranger", &[lease]);
    stranger.ready().await;
    put(&stranger.connect().await, "k", "theirs").await.unwrap();
    let wrong = format!("--advertise-peer-urls=http://{}", stranger.peer);
    let leader = Member::start_with(&cluster, "a", &[lease, &wrong]);
    leader.ready().await;
    let lost = Member::start_with(&cluster, "b", &[lease]);
    let (status, body) = http(&lost.address, "/readyz");
    assert_eq!(status, 503, "{body}");
    let refused = put(&lost.connect().await, "k", "ours").await;
    assert!(refused.is_err(), "nothing is written into another cluster");
    let (code, log) = lost.program.end();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("--advertise-peer-urls") && log.contains(&stranger.peer), "{log}");
    assert_eq!(get(&stranger.connect().await, "k").await.as_deref(), Some("theirs"));
    put(&leader.connect().await, "k", "ours").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_certificates_only_servers_of_the_authority_are_let_in_and_believed() {
    let cluster = Cluster::start();
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new(&dir.path().join("ours"));
    let theirs = Authority::new(&dir.path().join("theirs"));
    let start = |name: &str, flags: [String; 3]| {
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        Member::start_with(&cluster, name, &flags)
    };
    let leader = start("a", ours.flags("a", &ours));
    leader.ready().await;
    let follower = start("b", ours.flags("b", &ours));
    follower.ready().await;
    let (to_leader, to_follower) = (leader.connect().await, follower.connect().await);
    put(&to_follower, "k", "1").await.unwrap();
    assert_eq!(get(&to_leader, "k").await.as_deref(), Some("1"));

    // One that believes the leader and is not believed, one that does not believe it, and one without a certificate.
    let not_believed = start("c", theirs.flags("c", &ours));
    let unbelieving = start("d", ours.flags("d", &theirs));
    let without = Member::start(&cluster, "e");
    for mut stranger in [not_believed, unbelieving, without] {
        stranger.program.log_line("the leader a at https://");
        let refused = put(&stranger.connect().await, "k", "theirs").await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        assert_eq!(http(&stranger.address, "/readyz").0, 503);
    }
    assert_eq!(get(&to_follower, "k").await.as_deref(), Some("1"));
}
