use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use proto::etcdserverpb::{CompactionRequest, RangeRequest, RangeResponse};
use tokio_stream::StreamExt;
use tonic::{Code, Status};

use crate::harness::{TestServer, all, put_of, range_of};

async fn pieces(server: &TestServer, request: RangeRequest) -> Result<Vec<RangeResponse>, Status> {
    let mut stream = server.kv().range_stream(request).await?.into_inner();
    let mut pieces = Vec::new();
    while let Some(piece) = stream.next().await {
        pieces.push(piece?.range_response.unwrap());
    }
    Ok(pieces)
}

async fn filled(keys: usize, value_len: usize) -> TestServer {
    let server = TestServer::start().await;
    for key in 0..keys {
        let put = put_of(&format!("key-{key:05}"), &"v".repeat(value_len));
        server.try_put(put).await.unwrap();
    }
    server
}

#[tokio::test]
async fn only_the_last_piece_says_who_answers_and_how_many_keys_there_are() {
    let server = filled(45, 10).await;
    let pieces = pieces(&server, all()).await.unwrap();
    let (last, others) = pieces.split_last().unwrap();
    assert_eq!(others[0].kvs.len(), 10, "the first piece is small");
    assert!(others.iter().all(|piece| piece.header.is_none() && piece.count == 0 && !piece.more));
    let header = last.header.unwrap();
    assert_eq!((header.revision, last.count, last.more), (46, 45, false));
    assert!(header.cluster_id != 0 && header.member_id == 1);
    let keys: Vec<_> = pieces.iter().flat_map(|piece| &piece.kvs).map(|kv| kv.key.clone()).collect();
    assert_eq!(keys.len(), 45);
    assert!(keys.is_sorted());
    server.stop().await;
}

#[tokio::test]
async fn a_limit_cuts_and_the_count_is_of_the_whole_range() {
    let server = filled(45, 10).await;
    for (limit, sent, more) in
        [(3, 3, true), (10, 10, true), (31, 31, true), (45, 45, false), (99, 45, false)]
    {
        let pieces = pieces(&server, RangeRequest { limit, ..all() }).await.unwrap();
        let last = pieces.last().unwrap();
        assert_eq!(pieces.iter().map(|piece| piece.kvs.len()).sum::<usize>(), sent, "limit {limit}");
        assert_eq!((last.count, last.more), (45, more), "limit {limit}");
    }
    server.stop().await;
}

#[tokio::test]
async fn large_values_come_in_pieces_of_about_the_largest_request() {
    let server = filled(60, 100_000).await;
    let pieces = pieces(&server, all()).await.unwrap();
    let sizes: Vec<usize> =
        pieces.iter().map(|piece| piece.kvs.iter().map(|kv| kv.value.len()).sum()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 6_000_000);
    assert!(sizes.iter().all(|&size| size <= server.config.max_request_bytes + 100_000), "{sizes:?}");
    server.stop().await;
}

#[tokio::test]
async fn every_piece_shows_the_revision_at_which_the_stream_began() {
    let server = filled(300, 10).await;
    let mut stream = server.kv().range_stream(all()).await.unwrap().into_inner();
    let mut kvs = stream.next().await.unwrap().unwrap().range_response.unwrap().kvs;
    for key in 0..300 {
        server.put(&format!("key-{key:05}"), "later").await;
    }
    server.put("zzz", "later").await;
    let mut last = RangeResponse::default();
    while let Some(piece) = stream.next().await {
        last = piece.unwrap().range_response.unwrap();
        kvs.extend(last.kvs.clone());
    }
    assert_eq!(kvs.len(), 300);
    assert!(kvs.iter().all(|kv| kv.version == 1 && kv.value == "v".repeat(10)));
    assert_eq!((last.header.unwrap().revision, last.count), (301, 300));
    server.stop().await;
}

#[tokio::test]
async fn nothing_in_the_range_is_one_piece_and_a_count_alone_too() {
    let server = filled(20, 1).await;
    let nothing = pieces(&server, range_of("x", "y")).await.unwrap();
    assert_eq!((nothing.len(), nothing[0].count, nothing[0].header.unwrap().revision), (1, 0, 21));
    let count = pieces(&server, RangeRequest { count_only: true, ..all() }).await.unwrap();
    assert_eq!((count.len(), count[0].count, count[0].kvs.len()), (1, 20, 0));
    let keys = pieces(&server, RangeRequest { keys_only: true, ..all() }).await.unwrap();
    assert!(keys.iter().flat_map(|piece| &piece.kvs).all(|kv| kv.value.is_empty() && kv.mod_revision > 1));
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_streamed_is_unimplemented_and_old_revisions_are_compacted() {
    let server = filled(20, 1).await;
    let sorted =
        RangeRequest { sort_order: SortOrder::Descend.into(), sort_target: SortTarget::Mod.into(), ..all() };
    let status = pieces(&server, sorted).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(status.message(), "RangeStream does not support custom sort orders");
    let filtered = pieces(&server, RangeRequest { min_mod_revision: 3, ..all() }).await.unwrap_err();
    assert_eq!(filtered.message(), "RangeStream does not support revision filters");
    server.kv().compact(CompactionRequest { revision: 10, physical: false }).await.unwrap();
    let compacted = pieces(&server, RangeRequest { revision: 9, ..all() }).await.unwrap_err();
    assert_eq!(compacted.message(), "etcdserver: mvcc: required revision has been compacted");
    let pinned = pieces(&server, RangeRequest { revision: 11, ..all() }).await.unwrap();
    let last = pinned.last().unwrap();
    assert_eq!((last.count, last.header.unwrap().revision), (10, 21), "a pinned stream tells the newest");
    server.stop().await;
}
