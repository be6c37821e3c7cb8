//! What a commit answers, whatever the cluster does to it: one test for each weakness of `tikv-client` 0.4.

use std::sync::Arc;

use bytes::Bytes;
use engine::{Batch, CommitError, Engine};

use super::cluster::{Cluster, FastClock, batch_of, values};
use crate::{Config, ConnectError, TikvEngine};

/// So many faults in a row exhaust the retries of `tikv-client` for one request.
const BEYOND_RETRIES: usize = 11;

/// A slot and a record that lie in regions of their own.
struct TwoRegions {
    cluster: Cluster,
    slot: Bytes,
    record: Bytes,
}

impl TwoRegions {
    async fn start() -> Option<TwoRegions> {
        let cluster = Cluster::with_faults()?;
        let (slot, record) = (cluster.key("a-slot"), cluster.key("m-record"));
        cluster.split(&record).await;
        Some(TwoRegions { cluster, slot, record })
    }

    fn batch(&self) -> Batch {
        batch_of(&self.slot, &[(&self.record, "1")])
    }

    async fn found(&self, engine: &dyn Engine) -> [bool; 2] {
        let found = values(engine, &[&self.slot, &self.record]).await;
        [found[0].is_some(), found[1].is_some()]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_undetermined_and_the_batch_is_whole() {
    let Some(two) = TwoRegions::start().await else { return };
    let engine = two.cluster.connect().await;
    two.cluster.inject("KvCommit", "lose", &two.slot, BEYOND_RETRIES).await;
    let answer = engine.commit(two.batch()).await;
    assert!(matches!(answer, Err(CommitError::Undetermined(_))), "{answer:?}");
    assert_eq!(two.found(&engine).await, [true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_answered_too_late_is_undetermined_and_the_batch_is_whole() {
    let Some(two) = TwoRegions::start().await else { return };
    let config = Config { clock: Arc::new(FastClock), ..two.cluster.config() };
    let engine = two.cluster.connect_with(config).await;
    two.cluster.inject("KvCommit", "hang", &two.slot, 1).await;
    let answer = engine.commit(two.batch()).await;
    assert!(matches!(answer, Err(CommitError::Undetermined(_))), "{answer:?}");
    let found = two.found(&two.cluster.connect().await).await;
    assert_eq!(found, [true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_request_that_never_arrives_is_followed_by_a_new_transaction() {
    let Some(two) = TwoRegions::start().await else { return };
    let engine = two.cluster.connect().await;
    two.cluster.inject("KvCommit", "refuse", &two.slot, BEYOND_RETRIES).await;
    assert_eq!(engine.commit(two.batch()).await, Ok(()));
    assert_eq!(two.found(&engine).await, [true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_cannot_be_prewritten_is_unavailable_and_leaves_nothing_behind() {
    let Some(two) = TwoRegions::start().await else { return };
    let config = Config { clock: Arc::new(FastClock), ..two.cluster.config() };
    let engine = two.cluster.connect_with(config).await;
    two.cluster.inject("KvPrewrite", "refuse", &two.slot, 1_000).await;
    let answer = engine.commit(two.batch()).await;
    assert!(matches!(answer, Err(CommitError::Unavailable(_))), "{answer:?}");
    two.cluster.admin("/clear").await;
    // Also the lock that was written in the other region is gone, at once.
    let other = two.cluster.connect().await;
    assert_eq!(two.found(&other).await, [false, false]);
    assert_eq!(other.commit(two.batch()).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_server_is_asked_again() {
    let Some(two) = TwoRegions::start().await else { return };
    let engine = two.cluster.connect().await;
    for method in ["KvPrewrite", "KvCommit"] {
        two.cluster.inject(method, "busy", &two.slot, 2).await;
    }
    assert_eq!(engine.commit(two.batch()).await, Ok(()));
    for method in ["KvGet", "KvBatchGet", "KvScan"] {
        two.cluster.inject(method, "busy", &two.record, 2).await;
    }
    assert_eq!(two.found(&engine).await, [true, true]);
    let got = engine.snapshot().await.unwrap().get(&two.record).await;
    assert_eq!(got, Ok(Some("1".into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_plainly_two_phase() {
    let Some(cluster) = Cluster::with_faults() else { return };
    let engine = cluster.connect().await;
    cluster.admin("/clear").await;
    let mut batch = Batch::new();
    batch.insert(cluster.key("slot"), "1");
    assert_eq!(engine.commit(batch).await, Ok(()));
    // One-phase has no commit request, and an async one would be sent after the answer.
    assert_eq!((cluster.calls("KvPrewrite").await, cluster.calls("KvCommit").await), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_loses_the_race_for_a_slot_is_told_of_a_conflict_and_leaves_nothing() {
    let cluster = Cluster::start();
    let (first, second) = (cluster.connect().await, cluster.connect().await);
    let (slot, mine, others) = (cluster.key("slot"), cluster.key("mine"), cluster.key("others"));
    assert_eq!(first.commit(batch_of(&slot, &[(&mine, "1")])).await, Ok(()));
    let answer = second.commit(batch_of(&slot, &[(&others, "1")])).await;
    assert_eq!(answer, Err(CommitError::Conflict { key: slot.clone() }));
    assert_eq!(values(&second, &[&mine, &others]).await, [Some("1".into()), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_of_the_same_key_wait_for_each_other() {
    const WRITERS: usize = 8;
    let cluster = Cluster::start();
    let engine = Arc::new(cluster.connect().await);
    let key = cluster.key("hot");
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (engine, key) = (Arc::clone(&engine), key.clone());
        writers.spawn(async move {
            let mut batch = Batch::new();
            batch.put(key, writer.to_string());
            engine.commit(batch).await
        });
    }
    while let Some(answer) = writers.join_next().await {
        assert_eq!(answer.unwrap(), Ok(()));
    }
    assert!(values(&*engine, &[&key]).await[0].is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_follows_another_whose_secondary_keys_are_still_locked() {
    let Some(two) = TwoRegions::start().await else { return };
    let engine = two.cluster.connect().await;
    // The commit of secondary keys goes on behind the answer, and here it never arrives.
    two.cluster.inject("KvCommit", "refuse", &two.record, BEYOND_RETRIES).await;
    assert_eq!(engine.commit(two.batch()).await, Ok(()));
    let next = two.cluster.key("b-slot");
    assert_eq!(engine.commit(batch_of(&next, &[(&two.record, "2")])).await, Ok(()));
    assert_eq!(values(&engine, &[&two.record]).await, [Some("2".into())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn regions_that_split_and_move_under_a_batch_do_not_divide_it() {
    let Some(two) = TwoRegions::start().await else { return };
    let engine = two.cluster.connect().await;
    for round in 0..20 {
        let slot = two.cluster.key(&format!("a-slot{round:02}"));
        let record = two.cluster.key(&format!("m-record{round:02}"));
        let trouble = async {
            two.cluster.split(&record).await;
            let region = two.cluster.admin(&format!("/region?key={}", super::cluster::text(&slot))).await;
            two.cluster.admin(&format!("/transfer?region={region}")).await;
        };
        let (answer, ()) = tokio::join!(engine.commit(batch_of(&slot, &[(&record, "1")])), trouble);
        assert_eq!(answer, Ok(()), "round {round}");
        assert!(values(&engine, &[&slot, &record]).await.iter().all(Option::is_some), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pd_that_is_not_there_is_named() {
    // A port that was free a moment ago, and that nobody else is given while it is held here.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = taken.local_addr().unwrap().to_string();
    drop(taken);
    let refused = TikvEngine::connect(Config::new(vec![endpoint.clone()])).await.err().unwrap();
    assert!(matches!(refused, ConnectError::Unreachable { .. }), "{refused}");
    assert!(refused.to_string().contains(&endpoint), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_members_of_pd_one_is_enough() {
    let cluster = Cluster::start();
    let endpoints = vec!["127.0.0.1:1".to_owned(), cluster.pd().to_owned()];
    let engine = cluster.connect_with(Config { pd_endpoints: endpoints, ..cluster.config() }).await;
    assert_eq!(engine.commit(batch_of(&cluster.key("slot"), &[])).await, Ok(()));
}
