use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{
    AlarmRequest, AuthEnableRequest, AuthStatusRequest, AuthenticateRequest, CompactionRequest,
    DefragmentRequest, DeleteRangeRequest, HashKvRequest, HashRequest, LeaseGrantRequest, MemberAddRequest,
    MemberListRequest, MoveLeaderRequest, StatusRequest,
};
use server::Config;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{TestServer, all, put_of, range_of, refused};

const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

fn alarm(action: AlarmAction, alarm: i32) -> AlarmRequest {
    AlarmRequest { action: action.into(), member_id: 1, alarm }
}

#[tokio::test]
async fn the_status_tells_what_kubernetes_and_operators_decide_by() {
    let server = TestServer::start().await;
    server.put("a", "1").await;
    let status = server.maintenance().status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.version.as_str(), status.storage_version.as_str()), ("3.7.3", "3.7.0"));
    assert_eq!((status.leader, status.is_learner, status.errors.len()), (1, false, 0));
    assert_eq!((status.raft_index, status.raft_applied_index), (2, 2));
    assert_eq!(status.raft_term, status.header.unwrap().raft_term);
    assert!(status.db_size >= status.db_size_in_use && status.db_size_in_use > 0);
    assert_eq!(status.db_size_quota, 0, "there is no quota");
    server.stop().await;
}

#[tokio::test]
async fn there_is_no_status_without_an_engine() {
    let server = TestServer::start().await;
    server.engine.close().await;
    let status = server.maintenance().status(StatusRequest {}).await;
    assert_eq!(refused(status).0, Code::Unavailable);
    let (status, body) = server.get("/readyz?verbose").await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert!(body.contains("[-]linearizable_read failed: the engine is closed"), "{body}");
    assert_eq!(server.get("/livez").await.0, "HTTP/1.1 200 OK", "a restart would not help");
    let (status, body) = server.get("/health").await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert!(body.starts_with(r#"{"health":"false","reason":"RANGE ERROR:"#), "{body}");
    server.stop().await;
}

#[tokio::test]
async fn a_quota_that_is_used_up_stops_new_data_and_nothing_else() {
    let server = TestServer::start_with(Config { quota_backend_bytes: 20_000, ..Config::default() }).await;
    let mut taken = 0;
    let refusal = loop {
        match server.try_put(put_of(&format!("k{taken}"), &"v".repeat(1000))).await {
            Ok(_) => taken += 1,
            Err(status) => break status,
        }
    };
    assert_eq!((refusal.code(), refusal.message()), (Code::ResourceExhausted, NO_SPACE));
    assert!((3..20).contains(&taken), "{taken}");
    let raised = server.maintenance().alarm(alarm(AlarmAction::Get, 0)).await.unwrap().into_inner().alarms;
    assert_eq!((raised.len(), raised[0].member_id, raised[0].alarm), (1, 1, 1));
    // The alarm is durable, and refuses whatever would add data, however small.
    let server = server.restart().await;
    assert_eq!(refused(server.try_put(put_of("k", "")).await).1, NO_SPACE);
    let grant = server.lease().lease_grant(LeaseGrantRequest { ttl: 60, id: 0 }).await;
    assert_eq!(refused(grant).1, NO_SPACE);
    let (status, body) = server.get("/health").await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(body, "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n");
    assert_eq!(server.get("/health?exclude=NOSPACE").await.0, "HTTP/1.1 200 OK");
    let status = server.maintenance().status(StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.errors, ["memberID:1 alarm:NOSPACE"]);
    // What frees space goes on.
    let everything =
        DeleteRangeRequest { key: "\0".into(), range_end: "\0".into(), ..DeleteRangeRequest::default() };
    let deleted = server.kv().delete_range(everything).await.unwrap().into_inner();
    let revision = deleted.header.unwrap().revision;
    assert_eq!(deleted.deleted, taken);
    server.kv().compact(CompactionRequest { revision, physical: true }).await.unwrap();
    server.maintenance().defragment(DefragmentRequest {}).await.unwrap();
    let cleared = server.maintenance().alarm(alarm(AlarmAction::Deactivate, 1)).await.unwrap().into_inner();
    assert_eq!(cleared.alarms.len(), 1);
    server.put("k", "fits again").await;
    server.stop().await;
}

#[tokio::test]
async fn alarms_are_raised_and_cleared_by_hand() {
    let server = TestServer::start().await;
    let mut maintenance = server.maintenance();
    let mut call = async |request| maintenance.alarm(request).await.unwrap().into_inner().alarms.len();
    assert_eq!(call(alarm(AlarmAction::Deactivate, 2)).await, 0, "there is none to clear");
    assert_eq!(call(alarm(AlarmAction::Activate, 2)).await, 1);
    assert_eq!(call(alarm(AlarmAction::Get, 2)).await, 1);
    assert_eq!(call(alarm(AlarmAction::Get, 1)).await, 0);
    assert_eq!(
        refused(server.try_put(put_of("a", "")).await),
        (Code::DataLoss, "etcdserver: corrupt cluster".into())
    );
    assert!(server.get("/readyz").await.1.contains("[-]data_corruption failed: alarm activated: CORRUPT"));
    assert_eq!(call(alarm(AlarmAction::Deactivate, 2)).await, 1);
    server.put("a", "").await;
    server.stop().await;
}

#[tokio::test]
async fn equal_contents_have_equal_hashes_also_after_compaction_and_restart() {
    let (one, other) = (TestServer::start().await, TestServer::start().await);
    for server in [&one, &other] {
        for n in 0..600 {
            server.put(&format!("k{}", n % 200), &n.to_string()).await;
        }
    }
    let hash = async |server: &TestServer, revision| {
        server.maintenance().hash_kv(HashKvRequest { revision }).await.unwrap().into_inner()
    };
    let (first, second) = (hash(&one, 0).await, hash(&other, 0).await);
    assert_eq!((first.hash, first.hash_revision, first.compact_revision), (second.hash, 601, -1));
    let older = hash(&one, 500).await;
    assert_ne!(older.hash, first.hash);
    other.kv().compact(CompactionRequest { revision: 500, physical: true }).await.unwrap();
    let other = other.restart().await;
    let compacted = hash(&other, 500).await;
    assert_eq!((compacted.hash, compacted.compact_revision), (older.hash, 500));
    assert_eq!(compacted.header.unwrap().revision, 601);
    let lost = other.maintenance().hash_kv(HashKvRequest { revision: 499 }).await;
    assert_eq!(refused(lost).1, "etcdserver: mvcc: required revision has been compacted");
    let future = other.maintenance().hash_kv(HashKvRequest { revision: 9999 }).await;
    assert_eq!(refused(future).1, "etcdserver: mvcc: required revision is a future revision");
    let (whole, changed) = {
        let before = one.maintenance().hash(HashRequest {}).await.unwrap().into_inner().hash;
        one.lease().lease_grant(LeaseGrantRequest { ttl: 60, id: 9 }).await.unwrap();
        (before, one.maintenance().hash(HashRequest {}).await.unwrap().into_inner().hash)
    };
    assert_ne!(whole, changed, "the hash of everything covers leases");
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn the_one_member_is_listed_and_members_are_not_managed() {
    let config = Config {
        name: "front".to_owned(),
        advertise_client_urls: vec!["http://a:1".to_owned(), "http://b:2".to_owned()],
        ..Config::default()
    };
    let server = TestServer::start_with(config).await;
    let list =
        server.cluster().member_list(MemberListRequest { linearizable: true }).await.unwrap().into_inner();
    let [member] = list.members.as_slice() else { panic!("one member") };
    assert_eq!((member.id, member.name.as_str(), member.is_learner), (1, "front", false));
    assert_eq!(member.client_ur_ls, ["http://a:1", "http://b:2"]);
    let add = server.cluster().member_add(MemberAddRequest::default()).await;
    assert_eq!(refused(add).0, Code::Unimplemented);
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_supported_says_so() {
    let server = TestServer::start().await;
    let moved = server.maintenance().move_leader(MoveLeaderRequest { target_id: 2 }).await;
    assert_eq!(refused(moved).0, Code::Unimplemented);
    assert_eq!(refused(server.auth().auth_enable(AuthEnableRequest {}).await).0, Code::Unimplemented);
    let status = server.auth().auth_status(AuthStatusRequest {}).await.unwrap().into_inner();
    assert!(!status.enabled);
    let token = server.auth().authenticate(AuthenticateRequest::default()).await;
    let text = "etcdserver: authentication is not enabled".to_owned();
    assert_eq!(refused(token), (Code::FailedPrecondition, text), "clients go on without a token");
    server.stop().await;
}

#[tokio::test]
async fn grpc_health_and_reflection_are_served() {
    use tokio_stream::StreamExt;
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

    let server = TestServer::start().await;
    let check = HealthCheckRequest { service: String::new() };
    let health = HealthClient::new(server.channel()).check(check).await.unwrap().into_inner();
    assert_eq!(health.status, 1);
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(server.channel());
    let mut answers = client.server_reflection_info(tokio_stream::once(list)).await.unwrap().into_inner();
    let answer = format!("{:?}", answers.next().await.unwrap().unwrap());
    assert!(answer.contains("etcdserverpb.KV") && answer.contains("grpc.health.v1.Health"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn reads_go_on_below_a_full_engine() {
    let engine = std::sync::Arc::new(engine::MemoryEngine::with_capacity_bytes(10_000));
    let server = TestServer::start_on(engine, Config::default()).await;
    let mut taken = 0;
    let refusal = loop {
        match server.try_put(put_of(&format!("k{taken}"), &"v".repeat(1000))).await {
            Ok(_) => taken += 1,
            Err(status) => break status,
        }
    };
    assert_eq!((refusal.code(), refusal.message()), (Code::ResourceExhausted, NO_SPACE));
    assert_eq!(server.range(all()).await.unwrap().count, taken);
    let delete = DeleteRangeRequest { key: "k0".into(), ..DeleteRangeRequest::default() };
    assert_eq!(server.kv().delete_range(delete).await.unwrap().into_inner().deleted, 1);
    assert_eq!(server.range(range_of("k0", "")).await.unwrap().count, 0);
    server.stop().await;
}
