use std::sync::Arc;
use std::time::Duration;

use engine::MemoryEngine;
use engine::fault::{CommitFault, FaultEngine, ReadFault};
use proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest};
use server::Config;
use tonic::Code;

use crate::harness::{PATIENCE, TestServer, eventually, put_of, range_of, refused};

async fn faulty() -> (TestServer, Arc<FaultEngine>) {
    let engine = Arc::new(FaultEngine::new(Arc::new(MemoryEngine::new())));
    (TestServer::start_on(engine.clone(), Config::default()).await, engine)
}

/// A lease of 10 seconds with a key on it.
async fn leased(server: &TestServer) -> i64 {
    let grant = LeaseGrantRequest { ttl: 10, id: 0 };
    let lease = server.lease().lease_grant(grant).await.unwrap().into_inner().id;
    server.try_put(PutRequest { lease, ..put_of("leased", "x") }).await.unwrap();
    lease
}

/// Waits until a lease is gone, with its key, while time passes.
async fn vanished(server: &TestServer, id: i64, passing: Duration) {
    eventually(|| async {
        server.clock.advance(passing);
        let request = LeaseTimeToLiveRequest { id, keys: true };
        let told = server.lease().lease_time_to_live(request).await.unwrap().into_inner();
        (told.ttl == -1).then_some(())
    })
    .await;
    assert_eq!(server.range(range_of("leased", "")).await.unwrap().count, 0);
}

/// Commits pass so often, and are then refused until the engine is healed.
fn refuse_after(engine: &FaultEngine, passed: usize) {
    let passed = std::iter::repeat_n(CommitFault::Pass, passed);
    engine.script_commits(passed.chain([CommitFault::Refused; 1000]));
}

/// Waits for `work` while time passes: the store offers a refused batch a few more times.
async fn while_time_passes<T>(server: &TestServer, work: impl Future<Output = T>) -> T {
    let passing = async {
        loop {
            server.clock.advance(Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        answer = tokio::time::timeout(PATIENCE, work) => answer.unwrap(),
        () = passing => unreachable!("time does not end"),
    }
}

#[tokio::test]
async fn a_write_that_the_engine_refuses_has_not_happened() {
    let (server, engine) = faulty().await;
    refuse_after(&engine, 0);
    let answer = refused(while_time_passes(&server, server.try_put(put_of("a", "1"))).await);
    engine.heal();
    assert_eq!(answer, (Code::Unavailable, "etcdserver: unhealthy cluster".to_owned()));
    assert_eq!(server.put("a", "2").await.header.unwrap().revision, 2);
    assert_eq!(server.range(range_of("a", "")).await.unwrap().kvs[0].version, 1);
    server.stop().await;
}

#[tokio::test]
async fn a_write_that_takes_too_long_times_out_and_may_happen_later() {
    let (server, engine) = faulty().await;
    let held = engine.hold_next_commit();
    let answer = while_time_passes(&server, server.try_put(put_of("a", "1"))).await;
    assert_eq!(refused(answer), (Code::Unavailable, "etcdserver: request timed out".to_owned()));
    assert_eq!(server.range(range_of("a", "")).await.unwrap().count, 0);
    held.release();
    eventually(|| async { (server.range(range_of("a", "")).await.unwrap().count == 1).then_some(()) }).await;
    server.stop().await;
}

#[tokio::test]
async fn damaged_data_is_named_and_never_guessed() {
    let (server, engine) = faulty().await;
    server.put("a", "1").await;
    let server = server.restart().await;
    engine.script_reads([ReadFault::Pass, ReadFault::Corrupt]);
    let (code, text) = refused(server.range(range_of("a", "")).await);
    assert_eq!(code, Code::DataLoss);
    assert!(text.starts_with("etcdserver: corrupt cluster: "), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn an_expiry_that_fails_is_tried_again_whichever_step_it_is() {
    for passed in 0..3 {
        let (server, engine) = faulty().await;
        let lease = leased(&server).await;
        refuse_after(&engine, passed);
        server.clock.advance(Duration::from_secs(10));
        eventually(|| async {
            server.clock.advance(Duration::from_millis(100));
            (engine.counts().refused > 20).then_some(())
        })
        .await;
        engine.heal();
        vanished(&server, lease, Duration::from_millis(100)).await;
        server.stop().await;
    }
}

/// A server with a lease whose revocation was begun, and then met an engine that refuses; it works again.
async fn revocation_begun() -> (TestServer, i64) {
    let (server, engine) = faulty().await;
    let lease = leased(&server).await;
    refuse_after(&engine, 1);
    let mut client = server.lease();
    let revoke = client.lease_revoke(LeaseRevokeRequest { id: lease });
    assert_eq!(refused(while_time_passes(&server, revoke).await).0, Code::Unavailable);
    engine.heal();
    (server, lease)
}

#[tokio::test]
async fn a_revocation_that_was_begun_is_finished_later() {
    let (server, lease) = revocation_begun().await;
    let put = server.try_put(PutRequest { lease, ..put_of("b", "x") }).await;
    assert_eq!(refused(put).0, Code::NotFound, "nothing can be attached any more");
    vanished(&server, lease, Duration::from_millis(100)).await;
    server.stop().await;
}

#[tokio::test]
async fn a_revocation_that_was_begun_is_finished_after_a_restart() {
    let (server, lease) = revocation_begun().await;
    let server = server.restart().await;
    vanished(&server, lease, Duration::ZERO).await;
    server.stop().await;
}
