//! The clock that all processes share.

use std::time::Duration;

use engine::{Engine, ReadError};

use super::cluster::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn all_engines_on_a_cluster_go_by_one_clock_that_never_goes_back() {
    let cluster = Cluster::start();
    let engines = [cluster.connect().await, cluster.connect().await];
    let mut last = Duration::ZERO;
    for round in 0..100 {
        let now = engines[round % 2].time().await.unwrap();
        assert!(now >= last, "{now:?} after {last:?}");
        last = now;
    }
    engines[0].close().await;
    assert!(matches!(engines[0].time().await, Err(ReadError::Closed(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_pds_clock_and_not_the_machines() {
    let Some(cluster) = Cluster::with_faults() else { return };
    let engine = cluster.connect().await;
    let before = engine.time().await.unwrap();
    cluster.admin("/advance?ms=3600000").await;
    let after = engine.time().await.unwrap();
    assert!(after - before >= Duration::from_secs(3_600), "{:?}", after - before);
}
