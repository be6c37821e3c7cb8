use std::io::Write as _;

use model::{LeaseId, Revision};
use proto::etcdserverpb::SnapshotResponse;
use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, SnapshotRequest,
};
use snapshot::Snapshot;
use tokio_stream::StreamExt;
use tonic::{Code, Status, Streaming};

use crate::harness::{TestServer, put_of};

async fn begin(server: &TestServer) -> Result<Streaming<SnapshotResponse>, Status> {
    Ok(server.maintenance().snapshot(SnapshotRequest {}).await?.into_inner())
}

/// Takes what is left of a snapshot.
async fn file(mut pieces: Streaming<SnapshotResponse>) -> Result<Vec<u8>, Status> {
    let mut file = Vec::new();
    let mut remaining = None;
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        file.extend_from_slice(&piece.blob);
        assert_eq!(piece.version, "3.7.0");
        if let Some(before) = remaining.replace(piece.remaining_bytes) {
            let all_but_the_checksum = (piece.remaining_bytes, before) != (0, 0);
            assert!(!all_but_the_checksum || before - piece.remaining_bytes == piece.blob.len() as u64);
        }
    }
    assert_eq!(remaining, Some(0));
    Ok(file)
}

fn open(bytes: &[u8]) -> Snapshot {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Snapshot::open(file).unwrap()
}

/// Key, revision, and version or `None` for a deletion.
fn listed(snapshot: &Snapshot) -> Vec<(String, i64, Option<i64>)> {
    let records = snapshot.records().unwrap().map(Result::unwrap);
    let listed = records.map(|record| {
        let key = record.key.unwrap().to_string();
        (key, record.revision.get(), record.version.map(|version| version.meta.version))
    });
    listed.collect()
}

#[tokio::test]
async fn a_snapshot_holds_each_live_key_its_leases_and_what_the_newest_revision_deleted() {
    let server = TestServer::start().await;
    server.lease().lease_grant(LeaseGrantRequest { id: 77, ttl: 60 }).await.unwrap();
    for key in ["a", "b", "a", "gone", "c", "d"] {
        server.put(key, "value").await;
    }
    let on_lease = PutRequest { lease: 77, ..put_of("leased", &"v".repeat(20_000)) };
    server.try_put(on_lease).await.unwrap();
    for key in ["gone", "c"] {
        let delete = DeleteRangeRequest { key: key.into(), ..DeleteRangeRequest::default() };
        server.kv().delete_range(delete).await.unwrap();
    }
    let snapshot = open(&file(begin(&server).await.unwrap()).await.unwrap());
    let expected =
        [("b", 3, Some(1)), ("a", 4, Some(2)), ("d", 7, Some(1)), ("leased", 8, Some(1)), ("c", 10, None)];
    let expected = expected.map(|(key, revision, version)| (key.to_owned(), revision, version));
    assert_eq!(listed(&snapshot), expected);
    assert_eq!(snapshot.leases().unwrap(), [(LeaseId(77), 60)]);
    assert_eq!(snapshot.compacted().unwrap(), Some(Revision::new(10)));
    server.stop().await;
}

/// More than a connection takes while nobody reads.
async fn large(keys: usize) -> TestServer {
    let server = TestServer::start().await;
    for key in 0..keys {
        server.put(&format!("key-{key:03}"), &"v".repeat(1 << 20)).await;
    }
    server
}

#[tokio::test]
async fn what_happens_while_a_snapshot_is_taken_is_not_in_it() {
    let server = large(24).await;
    let pieces = begin(&server).await.unwrap();
    for key in 0..24 {
        server.put(&format!("key-{key:03}"), "new").await;
    }
    let compact = CompactionRequest { revision: 49, physical: false };
    server.kv().compact(compact).await.unwrap();
    let snapshot = open(&file(pieces).await.unwrap());
    let expected: Vec<_> = (0..24).map(|key| (format!("key-{key:03}"), key + 2, Some(1))).collect();
    assert_eq!(listed(&snapshot), expected);
    server.stop().await;
}

#[tokio::test]
async fn who_reads_nothing_for_a_minute_is_cut_off_and_others_can_take_their_turn() {
    let server = large(24).await;
    let (first, second) = (begin(&server).await.unwrap(), begin(&server).await.unwrap());
    let third = begin(&server).await.unwrap_err();
    assert_eq!(third.code(), Code::ResourceExhausted);
    // Until both wait for their readers, as the clock stands still. Their connection may be cut as well.
    while begin(&server).await.is_err() {
        server.clock.advance(std::time::Duration::from_secs(61));
        tokio::task::yield_now().await;
    }
    let ends = [file(first).await, file(second).await];
    assert!(ends.into_iter().any(|end| end.is_err()), "who was cut off is told so");
    server.stop().await;
}
