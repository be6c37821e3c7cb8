use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use tokio_stream::StreamExt;

use crate::harness::{TestServer, all, put_of};

const OK: &str = "HTTP/1.1 200 OK";

#[tokio::test]
async fn health_checks_answer_as_etcds() {
    let server = TestServer::start().await;
    let (status, headers, body) = server.http("GET", "/health", "").await;
    assert_eq!((status.as_str(), body.as_str()), (OK, r#"{"health":"true","reason":""}"#));
    assert!(headers.contains("text/plain"), "{headers}");
    assert_eq!(server.get("/health?serializable=true").await.0, OK);
    assert_eq!(server.get("/livez").await, (OK.to_owned(), "ok\n".to_owned()));
    let (_, body) = server.get("/readyz?verbose").await;
    let all_well =
        "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n";
    assert_eq!(body, all_well);
    let (_, body) = server.get("/readyz?verbose&exclude=non_learner&exclude=linearizable_read").await;
    assert_eq!(body, "[+]data_corruption ok\n[+]serializable_read ok\nok\n");
    assert_eq!(server.get("/livez/serializable_read?verbose").await.1, "[+]serializable_read ok\nok\n");
    server.stop().await;
}

#[tokio::test]
async fn the_version_is_the_one_that_kubeadm_wants() {
    let server = TestServer::start().await;
    let (status, headers, body) = server.http("GET", "/version", "").await;
    assert_eq!(status, OK);
    assert!(headers.contains("application/json"), "{headers}");
    assert_eq!(body, r#"{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}"#);
    server.stop().await;
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let server = TestServer::start().await;
    let missing = ("HTTP/1.1 404 Not Found".to_owned(), "404 page not found\n".to_owned());
    for path in ["/", "/healthz", "/livez/linearizable_read", "/v2/keys"] {
        assert_eq!(server.get(path).await, missing, "{path}");
    }
    let (status, headers, _) = server.http("POST", "/health", "content-length: 0\r\n").await;
    assert_eq!(status, "HTTP/1.1 405 Method Not Allowed");
    assert!(headers.contains("allow: GET"), "{headers}");
    server.stop().await;
}

#[tokio::test]
async fn it_is_measured_how_late_a_watcher_hears() {
    let server = TestServer::start().await;
    let create = WatchCreateRequest { key: b"a".to_vec().into(), ..WatchCreateRequest::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = tokio_stream::iter([request]).chain(tokio_stream::pending());
    let mut responses = server.watch().watch(requests).await.unwrap().into_inner();
    assert!(responses.message().await.unwrap().unwrap().created);
    server.put("a", "1").await;
    assert_eq!(responses.message().await.unwrap().unwrap().events.len(), 1);
    let (_, metrics) = server.get("/metrics").await;
    let line = "orlop_watch_delivery_seconds_count 1";
    assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
    drop(responses);
    server.stop().await;
}

#[tokio::test]
async fn metrics_have_etcds_names() {
    let server = TestServer::start().await;
    server.put("a", "1").await;
    server.range(all()).await.unwrap();
    server.try_put(put_of("", "")).await.unwrap_err();
    let (status, metrics) = server.get("/metrics").await;
    assert_eq!(status, OK);
    for line in [
        "etcd_server_has_leader 1",
        "etcd_server_is_leader 1",
        "etcd_server_leader_changes_seen_total 0",
        "etcd_server_proposals_committed_total 2",
        "etcd_server_proposals_applied_total 2",
        "etcd_server_proposals_pending 0",
        "etcd_server_proposals_failed_total 0",
        "etcd_server_quota_backend_bytes 0",
        "etcd_server_version{server_version=\"3.7.3\"} 1",
        "etcd_mvcc_put_total 1",
        "etcd_mvcc_delete_total 0",
        "etcd_mvcc_txn_total 0",
        "etcd_mvcc_range_total 1",
        "etcd_debugging_mvcc_keys_total 1",
        "etcd_debugging_mvcc_current_revision 2",
        "etcd_debugging_mvcc_compact_revision -1",
        "etcd_debugging_mvcc_watch_stream_total 0",
        "etcd_debugging_mvcc_watcher_total 0",
        "etcd_debugging_mvcc_slow_watcher_total 0",
        "etcd_debugging_mvcc_events_total 0",
        "etcd_debugging_lease_granted_total 0",
        "etcd_debugging_lease_revoked_total 0",
        "etcd_debugging_lease_renewed_total 0",
        "etcd_disk_wal_fsync_duration_seconds_count 0",
        "etcd_disk_backend_commit_duration_seconds_count 0",
        "grpc_server_started_total{grpc_type=\"unary\",grpc_service=\"etcdserverpb.KV\",grpc_method=\"Put\"} 2",
        "grpc_server_handled_total{grpc_type=\"unary\",grpc_service=\"etcdserverpb.KV\",grpc_method=\"Put\",\
         grpc_code=\"OK\"} 1",
        "grpc_server_handled_total{grpc_type=\"unary\",grpc_service=\"etcdserverpb.KV\",grpc_method=\"Put\",\
         grpc_code=\"InvalidArgument\"} 1",
        "grpc_server_handling_seconds_count{grpc_type=\"unary\",grpc_service=\"etcdserverpb.KV\",\
         grpc_method=\"Range\"} 1",
        "grpc_server_started_total{grpc_type=\"bidi_stream\",grpc_service=\"etcdserverpb.Watch\",\
         grpc_method=\"Watch\"} 0",
        "# TYPE etcd_mvcc_put_total counter",
        "etcd_cluster_version{cluster_version=\"3.7\"} 1",
        "orlop_partition_batch_revisions_count{partition=\"1\"} 1",
        "orlop_partition_owned{partition=\"0\"} 1",
        "orlop_partition_queue_transactions{partition=\"1\"} 0",
        "orlop_writes_undetermined_total 0",
        "orlop_members 1",
        "orlop_runtime_workers 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
    }
    for name in [
        "etcd_mvcc_db_total_size_in_bytes ",
        "etcd_mvcc_db_total_size_in_use_in_bytes ",
        "etcd_network_client_grpc_sent_bytes_total ",
        "etcd_network_client_grpc_received_bytes_total ",
        "etcd_debugging_mvcc_db_compaction_last ",
        "process_resident_memory_bytes ",
        "process_cpu_seconds_total ",
        "process_open_fds ",
        "process_start_time_seconds ",
        "process_network_receive_bytes_total ",
        "os_fd_limit ",
        "orlop_runtime_busy_seconds_total{worker=\"0\"} ",
    ] {
        assert!(metrics.lines().any(|found| found.starts_with(name)), "{name} is missing");
    }
    assert!(!metrics.contains("# EOF"));
    let (_, headers, newer) =
        server.http("GET", "/metrics", "accept: application/openmetrics-text; version=1.0.0\r\n").await;
    assert!(headers.contains("application/openmetrics-text") && newer.ends_with("# EOF\n"));
    server.stop().await;
}
