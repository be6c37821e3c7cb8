use std::time::Duration;

use proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, PutRequest, RangeRequest,
};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::harness::{PATIENCE, TestServer, all, eventually, put_of, range_of, refused};

async fn grant(server: &TestServer, id: i64, ttl: i64) -> i64 {
    server.lease().lease_grant(LeaseGrantRequest { ttl, id }).await.unwrap().into_inner().id
}

async fn put_on(server: &TestServer, lease: i64, key: &str) {
    server.try_put(PutRequest { lease, ..put_of(key, "x") }).await.unwrap();
}

async fn time_to_live(server: &TestServer, id: i64) -> LeaseTimeToLiveResponse {
    let request = LeaseTimeToLiveRequest { id, keys: true };
    server.lease().lease_time_to_live(request).await.unwrap().into_inner()
}

async fn keys_left(server: &TestServer) -> i64 {
    server.range(RangeRequest { count_only: true, ..all() }).await.unwrap().count
}

#[tokio::test]
async fn a_lease_is_granted_with_a_random_id_or_the_one_asked_for() {
    let server = TestServer::start().await;
    let random = grant(&server, 0, 60).await;
    assert!(random > 0);
    assert_eq!(grant(&server, 7, 60).await, 7);
    let again = server.lease().lease_grant(LeaseGrantRequest { ttl: 60, id: 7 }).await;
    assert_eq!(refused(again), (Code::FailedPrecondition, "etcdserver: lease already exists".to_owned()));
    let too_long = server.lease().lease_grant(LeaseGrantRequest { ttl: 9_000_000_001, id: 8 }).await;
    assert_eq!(refused(too_long), (Code::OutOfRange, "etcdserver: too large lease TTL".to_owned()));
    let short = server.lease().lease_grant(LeaseGrantRequest { ttl: -5, id: 9 }).await.unwrap().into_inner();
    assert_eq!(short.ttl, 2, "a short one is raised, as by etcd");
    let leases = server.lease().lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner().leases;
    assert_eq!(leases.len(), 3);
    assert_eq!(leases[0].id, 9, "the one with the least time left first");
    server.stop().await;
}

#[tokio::test]
async fn an_expired_lease_takes_its_keys_with_it_in_steps_of_128() {
    let server = TestServer::start().await;
    let lease = grant(&server, 0, 10).await;
    for key in 0..300 {
        put_on(&server, lease, &format!("k{key}")).await;
    }
    server.put("stays", "x").await;
    let before = server.revision().await;
    server.clock.advance(Duration::from_millis(9_999));
    assert_eq!(time_to_live(&server, lease).await.keys.len(), 300);
    server.clock.advance(Duration::from_millis(1));
    eventually(|| async { (time_to_live(&server, lease).await.ttl == -1).then_some(()) }).await;
    assert_eq!(keys_left(&server).await, 1);
    assert_eq!(server.revision().await, before + 3, "one revision for each step");
    server.stop().await;
}

#[tokio::test]
async fn leases_that_expire_together_all_end() {
    let server = TestServer::start().await;
    for n in 1..=200 {
        let lease = grant(&server, n, 10).await;
        put_on(&server, lease, &format!("k{n}")).await;
    }
    server.clock.advance(Duration::from_secs(11));
    eventually(|| async { (keys_left(&server).await == 0).then_some(()) }).await;
    let gone = || async {
        let leases = server.lease().lease_leases(LeaseLeasesRequest {}).await.unwrap().into_inner().leases;
        leases.is_empty().then_some(())
    };
    eventually(gone).await;
    server.stop().await;
}

#[tokio::test]
async fn a_revoked_lease_is_gone_with_its_keys_when_the_answer_comes() {
    let server = TestServer::start().await;
    let lease = grant(&server, 0, 60).await;
    put_on(&server, lease, "a").await;
    put_on(&server, lease, "detached").await;
    put_on(&server, 0, "detached").await;
    let revoked = server.lease().lease_revoke(LeaseRevokeRequest { id: lease }).await.unwrap().into_inner();
    assert_eq!(revoked.header.unwrap().revision, 5);
    assert_eq!(server.pairs(all()).await, [("detached".into(), "x".into())]);
    let unknown = (Code::NotFound, "etcdserver: requested lease not found".to_owned());
    let again = server.lease().lease_revoke(LeaseRevokeRequest { id: lease }).await;
    assert_eq!(refused(again), unknown);
    let put = server.try_put(PutRequest { lease, ..put_of("b", "x") }).await;
    assert_eq!(refused(put), unknown);
    assert_eq!(grant(&server, lease, 60).await, lease, "its id is free again");
    server.stop().await;
}

#[tokio::test]
async fn of_many_who_revoke_a_lease_one_is_told_that_it_did() {
    let server = TestServer::start().await;
    let lease = grant(&server, 0, 60).await;
    for key in 0..300 {
        put_on(&server, lease, &format!("k{key}")).await;
    }
    let revoke = || async { server.lease().lease_revoke(LeaseRevokeRequest { id: lease }).await };
    let (a, b, c) = tokio::join!(revoke(), revoke(), revoke());
    let done = [a, b, c].into_iter().filter(|answer| answer.is_ok()).count();
    assert_eq!((done, keys_left(&server).await), (1, 0));
    server.stop().await;
}

#[tokio::test]
async fn time_to_live_tells_what_is_left_and_which_keys_hang_on_it() {
    let server = TestServer::start().await;
    let lease = grant(&server, 5, 60).await;
    put_on(&server, lease, "b").await;
    put_on(&server, lease, "a").await;
    server.clock.advance(Duration::from_millis(10_500));
    let told = time_to_live(&server, lease).await;
    assert_eq!((told.id, told.ttl, told.granted_ttl), (5, 49, 60));
    assert_eq!(told.keys, ["a", "b"]);
    let unknown = time_to_live(&server, 6).await;
    assert_eq!((unknown.id, unknown.ttl, unknown.granted_ttl), (6, -1, 0));
    server.stop().await;
}

#[tokio::test]
async fn a_keepalive_gives_the_full_time_again_and_tells_of_the_end_only_when_no_key_is_left() {
    let server = TestServer::start().await;
    let lease = grant(&server, 0, 10).await;
    put_on(&server, lease, "a").await;
    let (requests, stream) = mpsc::channel(4);
    let mut answers =
        server.lease().lease_keep_alive(ReceiverStream::new(stream)).await.unwrap().into_inner();
    for _ in 0..3 {
        server.clock.advance(Duration::from_secs(9));
        requests.send(LeaseKeepAliveRequest { id: lease }).await.unwrap();
        let answer = answers.next().await.unwrap().unwrap();
        assert_eq!((answer.id, answer.ttl), (lease, 10));
        assert!(answer.header.unwrap().revision >= 2);
    }
    assert_eq!(keys_left(&server).await, 1);
    server.clock.advance(Duration::from_secs(10));
    requests.send(LeaseKeepAliveRequest { id: lease }).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, answers.next()).await.unwrap().unwrap().unwrap();
    assert_eq!((answer.id, answer.ttl), (lease, 0));
    assert_eq!(keys_left(&server).await, 0);
    requests.send(LeaseKeepAliveRequest { id: 404 }).await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap().ttl, 0, "an unknown lease is no error");
    drop(requests);
    assert!(answers.next().await.is_none());
    server.stop().await;
}

#[tokio::test]
async fn a_restart_gives_a_live_lease_its_full_time_again() {
    let server = TestServer::start().await;
    let lease = grant(&server, 0, 60).await;
    put_on(&server, lease, "a").await;
    server.clock.advance(Duration::from_secs(50));
    assert_eq!(time_to_live(&server, lease).await.ttl, 10);
    let server = server.restart().await;
    let told = time_to_live(&server, lease).await;
    assert_eq!((told.ttl, told.granted_ttl, told.keys.len()), (60, 60, 1));
    server.clock.advance(Duration::from_secs(59));
    assert_eq!(server.range(range_of("a", "")).await.unwrap().count, 1);
    server.clock.advance(Duration::from_secs(1));
    eventually(|| async { (keys_left(&server).await == 0).then_some(()) }).await;
    server.stop().await;
}
