//! Forgetting old versions.

use std::time::Duration;

use engine::{Batch, Direction, Engine, KeySpan, ReadError, Scan};
use tikv_client::TimestampExt;

use super::cluster::{Cluster, batch_of, values};
use crate::{Collecting, Config};

const LIFETIME: Duration = Duration::from_secs(100);

fn config(cluster: &Cluster) -> Config {
    Config { gc_lifetime: LIFETIME, ..cluster.config() }
}

fn put(cluster: &Cluster, key: &str, value: &'static str) -> Batch {
    let mut batch = Batch::new();
    batch.put(cluster.key(key), value);
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_more_than_half_the_lifetime_fails_instead_of_missing_keys() {
    let Some(cluster) = Cluster::with_faults() else { return };
    let engine = cluster.connect_with(config(&cluster)).await;
    engine.commit(put(&cluster, "a", "old")).await.unwrap();
    let snapshot = engine.snapshot().await.unwrap();
    engine.commit(put(&cluster, "a", "new")).await.unwrap();
    cluster.admin("/advance?ms=49000").await;
    assert_eq!(snapshot.get(&cluster.key("a")).await, Ok(Some("old".into())));
    cluster.admin("/advance?ms=2000").await;
    let scan = Scan {
        span: KeySpan { start: cluster.key(""), end: None },
        direction: Direction::Forward,
        records_max: 10,
        bytes_max: 1_000,
        values: true,
    };
    let too_old = [
        snapshot.get(&cluster.key("a")).await.map(drop),
        snapshot.get_many(&[cluster.key("a")]).await.map(drop),
        snapshot.scan(&scan).await.map(drop),
    ];
    for answer in too_old {
        assert!(
            matches!(&answer, Err(ReadError::Unavailable(why)) if why.contains("can be read for 50s")),
            "{answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_older_than_the_lifetime_go_and_no_others() {
    let Some(cluster) = Cluster::with_faults() else { return };
    let engine = cluster.connect_with(config(&cluster)).await;
    let shared = engine.shared();
    engine.commit(put(&cluster, "a", "first")).await.unwrap();
    let at_first = shared.timestamp().await.unwrap();
    engine.commit(put(&cluster, "a", "second")).await.unwrap();
    let at_second = shared.timestamp().await.unwrap();
    cluster.admin("/advance?ms=60000").await;
    engine.commit(put(&cluster, "a", "third")).await.unwrap();
    engine.reclaim().await.unwrap();
    assert_eq!(shared.read_key(&at_first, &cluster.key("a")).await, Ok(Some("first".into())), "60 s old");
    cluster.admin("/advance?ms=60000").await;
    engine.reclaim().await.unwrap();
    assert_eq!(shared.read_key(&at_first, &cluster.key("a")).await, Ok(None), "this is what R8 is about");
    assert_eq!(
        shared.read_key(&at_second, &cluster.key("a")).await,
        Ok(Some("second".into())),
        "the newest then"
    );
    assert_eq!(values(&engine, &[&cluster.key("a")]).await, [Some("third".into())]);
}

/// The primary key is gone, and with it all that was known of the transaction: whoever meets the lock then would roll
/// back what was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_committed_record_survives_that_its_slot_is_forgotten() {
    let Some(cluster) = Cluster::with_faults() else { return };
    let (slot, record) = (cluster.key("a-slot"), cluster.key("m-record"));
    cluster.split(&record).await;
    let engine = cluster.connect_with(config(&cluster)).await;
    cluster.inject("KvCommit", "refuse", &record, 11).await;
    assert_eq!(engine.commit(batch_of(&slot, &[(&record, "1")])).await, Ok(()));
    let mut trim = Batch::new();
    trim.delete(slot.clone());
    engine.commit(trim).await.unwrap();
    cluster.admin("/advance?ms=120000").await;
    engine.reclaim().await.unwrap();
    assert_eq!(values(&engine, &[&slot, &record]).await, [None, Some("1".into())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_service_holds_on_to_is_kept() {
    let Some(cluster) = Cluster::with_faults() else { return };
    let engine = cluster.connect_with(config(&cluster)).await;
    let shared = engine.shared();
    let old = shared.timestamp().await.unwrap();
    shared.pd.hold_safe_point("backup", old.version(), Some(Duration::from_secs(3_600))).await.unwrap();
    cluster.admin("/advance?ms=600000").await;
    let collected = engine.advance_gc(u64::MAX >> 1).await.unwrap();
    assert_eq!(collected.safe_point, old.version());
    assert_eq!(collected.held_by.as_deref(), Some("backup"));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_stores_on_the_cluster_keep_what_they_need() {
    let Some(cluster) = Cluster::with_faults() else { return };
    let short = cluster.connect_with(config(&cluster)).await;
    let long = Config {
        gc_lifetime: Duration::from_secs(1_000),
        service: "another".to_owned(),
        collecting: Collecting::Elsewhere,
        ..cluster.config()
    };
    let long = cluster.connect_with(long).await;
    cluster.admin("/advance?ms=500000").await;
    long.reclaim().await.unwrap();
    let collected = short.advance_gc(u64::MAX >> 1).await.unwrap();
    assert_eq!(collected.held_by.as_deref(), Some("another"));
    let now = short.shared().timestamp().await.unwrap();
    let kept = crate::shared::age(&crate::shared::numbered(collected.safe_point), &now);
    assert!(kept > Duration::from_secs(990), "{kept:?}");
}
