//! Reading over regions.

use bytes::Bytes;
use engine::{Batch, Direction, Engine, KeySpan, Scan};

use super::cluster::Cluster;

const RECORDS: usize = 3_000;

async fn filled(cluster: &Cluster) -> crate::TikvEngine {
    let engine = cluster.connect().await;
    let mut batch = Batch::new();
    for number in 0..RECORDS {
        batch.put(key(cluster, number), vec![number as u8; 200]);
    }
    engine.commit(batch).await.unwrap();
    engine
}

fn key(cluster: &Cluster, number: usize) -> Bytes {
    cluster.key(&format!("k{number:06}"))
}

fn span(cluster: &Cluster) -> KeySpan {
    KeySpan { start: cluster.key("k"), end: Some(cluster.key("l")) }
}

async fn scanned(engine: &dyn Engine, mut scan: Scan) -> Vec<Bytes> {
    let snapshot = engine.snapshot().await.unwrap();
    let mut keys = Vec::new();
    loop {
        let page = snapshot.scan(&scan).await.unwrap();
        keys.extend(page.records.into_iter().map(|(key, _)| key));
        let Some(next) = page.next else { return keys };
        scan.span = next;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_over_many_regions_gives_each_record_once_and_in_order() {
    let Some(cluster) = Cluster::with_faults() else { return };
    let engine = filled(&cluster).await;
    for number in (0..RECORDS).step_by(100) {
        cluster.split(&key(&cluster, number)).await;
    }
    let want: Vec<Bytes> = (0..RECORDS).map(|number| key(&cluster, number)).collect();
    for direction in [Direction::Forward, Direction::Backward] {
        for records_max in [1_000, 70] {
            let scan =
                Scan { span: span(&cluster), direction, records_max, bytes_max: 1 << 20, values: true };
            let mut keys = scanned(&engine, scan).await;
            if direction == Direction::Backward {
                keys.reverse();
            }
            assert!(keys == want, "{direction:?} in pages of {records_max}: {} records", keys.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_asks_only_the_regions_that_it_needs() {
    let Some(cluster) = Cluster::with_faults() else { return };
    let engine = filled(&cluster).await;
    for number in (0..RECORDS).step_by(100) {
        cluster.split(&key(&cluster, number)).await;
    }
    let scan = Scan {
        span: span(&cluster),
        direction: Direction::Forward,
        records_max: 50,
        bytes_max: 1 << 20,
        values: true,
    };
    let snapshot = engine.snapshot().await.unwrap();
    snapshot.scan(&scan).await.unwrap();
    cluster.admin("/clear").await;
    assert_eq!(snapshot.scan(&scan).await.unwrap().records.len(), 50);
    // The piece before the first border holds nothing; then one region fills the page.
    let asked = cluster.calls("KvScan").await;
    assert!(asked <= 4, "{asked} requests for 50 records of 30 regions");
}

#[tokio::test(flavor = "multi_thread")]
async fn split_points_are_the_borders_of_regions() {
    let Some(cluster) = Cluster::with_faults() else { return };
    let engine = cluster.connect().await;
    let borders: Vec<Bytes> = (1..10).map(|number| key(&cluster, number)).collect();
    for border in &borders {
        cluster.split(border).await;
    }
    assert_eq!(engine.split_points(span(&cluster), 100).await, Ok(borders.clone()));
    let some = engine.split_points(span(&cluster), 4).await.unwrap();
    assert!(some.len() == 3 && some.iter().all(|point| borders.contains(point)), "{some:?}");
    assert_eq!(engine.split_points(span(&cluster), 1).await, Ok(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_do_not_fit_into_one_message_come_in_several() {
    let cluster = Cluster::start();
    let engine = cluster.connect().await;
    let keys: Vec<Bytes> = (0..12).map(|number| key(&cluster, number)).collect();
    for key in &keys {
        let mut batch = Batch::new();
        batch.put(key.clone(), vec![7; 3 << 20]);
        engine.commit(batch).await.unwrap();
    }
    // An engine that has seen nothing yet expects smaller records: more than fits would come at once.
    let engine = cluster.connect().await;
    let values = engine.snapshot().await.unwrap().get_many(&keys).await.unwrap();
    assert!(values.iter().all(|value| value.as_ref().is_some_and(|value| value.len() == 3 << 20)));
    let engine = cluster.connect().await;
    let scan = Scan {
        span: span(&cluster),
        direction: Direction::Forward,
        records_max: 1_000,
        bytes_max: 1 << 30,
        values: true,
    };
    assert_eq!(scanned(&engine, scan).await, keys);
}
