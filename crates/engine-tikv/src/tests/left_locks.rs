//! Locks of owners that are gone.

use std::time::Duration;

use bytes::Bytes;
use engine::{Engine, KeySpan};
use tikv_client::{CheckLevel, Transaction, TransactionClient, TransactionOptions};

use super::cluster::{Cluster, batch_of, values};
use crate::TikvEngine;
use crate::locks::span_range;

/// Longer than any lock lives that nobody renews.
const LONG: &str = "/advance?ms=60000";

/// The keys of this test, from the first to behind the last.
fn all(cluster: &Cluster) -> KeySpan {
    KeySpan { start: cluster.key(""), end: Some(cluster.key("~")) }
}

async fn lock_count(engine: &TikvEngine, cluster: &Cluster) -> usize {
    let now = engine.shared().timestamp().await.unwrap();
    let range = span_range(&all(cluster));
    engine.shared().client.scan_locks(&now, range, 1_000).await.unwrap().len()
}

/// A transaction on these keys, the first of them primary.
async fn transaction(cluster: &Cluster, keys: [&Bytes; 2]) -> Transaction {
    let client = TransactionClient::new(vec![cluster.pd().to_owned()]).await.unwrap();
    let options = TransactionOptions::new_optimistic().drop_check(CheckLevel::None).no_resolve_regions();
    let mut txn = client.begin_with_options(options).await.unwrap();
    for key in keys {
        txn.put(key.to_vec(), b"of the dead".to_vec()).await.unwrap();
    }
    txn
}

/// Leaves a lock on `secondary` whose primary key was never written: its owner died in between.
async fn leave_orphan(cluster: &Cluster, primary: &Bytes, secondary: &Bytes) {
    cluster.split(secondary).await;
    cluster.inject("KvPrewrite", "refuse", primary, 1_000).await;
    let mut txn = transaction(cluster, [primary, secondary]).await;
    txn.commit().await.expect_err("its primary key is refused");
    drop(txn);
    cluster.admin("/clear").await;
}

/// Leaves locks on both keys, of a transaction that was not committed.
async fn leave_uncommitted(cluster: &Cluster, primary: &Bytes, secondary: &Bytes) {
    cluster.split(secondary).await;
    cluster.inject("KvCommit", "refuse", primary, 1_000).await;
    let mut txn = transaction(cluster, [primary, secondary]).await;
    txn.commit().await.expect_err("its commit is refused");
    drop(txn);
    cluster.admin("/clear").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphaned_secondary_lock_stops_no_read_after_its_time() {
    let Some(cluster) = Cluster::with_faults() else { return };
    let (primary, secondary) = (cluster.key("a"), cluster.key("m"));
    let engine = cluster.connect().await;
    assert_eq!(engine.commit(batch_of(&cluster.key("slot"), &[(&secondary, "1")])).await, Ok(()));
    leave_orphan(&cluster, &primary, &secondary).await;
    assert_eq!(lock_count(&engine, &cluster).await, 1);
    cluster.admin(LONG).await;
    assert_eq!(values(&engine, &[&secondary]).await, [Some("1".into())]);
    assert_eq!(lock_count(&engine, &cluster).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphaned_secondary_lock_stops_no_commit_after_its_time() {
    let Some(cluster) = Cluster::with_faults() else { return };
    let (primary, secondary) = (cluster.key("a"), cluster.key("m"));
    let engine = cluster.connect().await;
    leave_orphan(&cluster, &primary, &secondary).await;
    cluster.admin(LONG).await;
    assert_eq!(engine.commit(batch_of(&cluster.key("slot"), &[(&secondary, "2")])).await, Ok(()));
    assert_eq!(values(&engine, &[&secondary]).await, [Some("2".into())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settling_a_span_ends_what_the_dead_have_begun_at_once() {
    let Some(cluster) = Cluster::with_faults() else { return };
    let (primary, secondary) = (cluster.key("a"), cluster.key("m"));
    let engine = cluster.connect().await;
    leave_uncommitted(&cluster, &primary, &secondary).await;
    leave_orphan(&cluster, &cluster.key("b"), &cluster.key("n")).await;
    assert_eq!(lock_count(&engine, &cluster).await, 3);
    // PD's clock stands where it stood: all of these locks are still alive.
    engine.settle(&[all(&cluster)]).await.unwrap();
    assert_eq!(lock_count(&engine, &cluster).await, 0);
    assert_eq!(values(&engine, &[&primary, &secondary]).await, [None, None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settling_leaves_alone_what_is_elsewhere_and_keeps_what_is_committed() {
    let Some(cluster) = Cluster::with_faults() else { return };
    let (slot, record) = (cluster.key("a"), cluster.key("m"));
    cluster.split(&record).await;
    let engine = cluster.connect().await;
    cluster.inject("KvCommit", "refuse", &record, 11).await;
    assert_eq!(engine.commit(batch_of(&slot, &[(&record, "1")])).await, Ok(()));
    leave_uncommitted(&cluster, &cluster.key("x"), &cluster.key("y")).await;
    engine.settle(&[KeySpan { start: cluster.key("m"), end: Some(cluster.key("n")) }]).await.unwrap();
    assert_eq!(lock_count(&engine, &cluster).await, 2, "those of x and y");
    assert_eq!(values(&engine, &[&slot, &record]).await, [Some("slot".into()), Some("1".into())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_settled_under_its_feet_fails_or_succeeds_as_a_whole() {
    let Some(cluster) = Cluster::with_faults() else { return };
    let record = cluster.key("m");
    cluster.split(&record).await;
    let (owner, successor) = (cluster.connect().await, cluster.connect().await);
    for round in 0..10 {
        let slot = cluster.key(&format!("a{round}"));
        cluster.admin("/inject?method=KvCommit&kind=delay&ms=20").await;
        let spans = [all(&cluster)];
        let (answer, settled) =
            tokio::join!(owner.commit(batch_of(&slot, &[(&record, "1")])), successor.settle(&spans));
        settled.unwrap();
        let there = values(&successor, &[&slot]).await[0].is_some();
        // Rolled back, it is tried again; committed, the answer may only be that it is unclear.
        assert!(answer.is_ok() && there || answer.is_err(), "round {round}: {answer:?}, there: {there}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_waits_for_a_commit_whose_primary_key_is_not_written_yet() {
    let Some(cluster) = Cluster::with_faults() else { return };
    let (slot, record) = (cluster.key("a"), cluster.key("m"));
    cluster.split(&record).await;
    let (writer, reader) = (cluster.connect().await, cluster.connect().await);
    let region = cluster.admin(&format!("/region?key={}", super::cluster::text(&slot))).await;
    cluster.admin(&format!("/inject?method=KvPrewrite&kind=delay&ms=300&region={region}")).await;
    let reading = async {
        // From when the secondary key is locked; the primary one is then most likely not.
        while lock_count(&reader, &cluster).await == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        values(&reader, &[&slot, &record]).await
    };
    let batch = batch_of(&slot, &[(&record, "1")]);
    let (answer, seen) = tokio::join!(writer.commit(batch), reading);
    assert_eq!(answer, Ok(()));
    assert_eq!(seen[0].is_some(), seen[1].is_some(), "a snapshot shows a batch as a whole");
}
