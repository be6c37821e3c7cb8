//! The suite that every engine passes, on a cluster at rest and on one in trouble.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use engine::Engine;
use engine::conformance::Factory;
use tokio::task::JoinSet;

use super::cluster::Cluster;

/// TiKV takes 8 MiB in one entry of its log, with all that is around the value; the one of the tests 6 MiB.
const VALUE_BYTES_MAX: usize = 5 << 20;

struct OnCluster {
    cluster: Cluster,
}

#[async_trait]
impl Factory for OnCluster {
    async fn open(&self, name: &str) -> Arc<dyn Engine> {
        self.cluster.store(name).await
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn value_bytes_max(&self) -> usize {
        VALUE_BYTES_MAX
    }
}

mod at_rest {
    use super::*;

    engine::conformance_tests!(OnCluster { cluster: Cluster::start() });
}

/// What the trouble consists of: every fault that must not be seen above the engine. A lost answer to a commit is not among
/// them: with a second fault behind it nobody can say any more than "perhaps", which the suite does not take; it has tests
/// of its own.
const FAULTS: [(&str, &str); 29] = [
    ("KvPrewrite", "notleader"),
    ("KvPrewrite", "epoch"),
    ("KvPrewrite", "regionnotfound"),
    ("KvPrewrite", "refuse"),
    ("KvPrewrite", "lose"),
    ("KvPrewrite", "delay"),
    ("KvCommit", "notleader"),
    ("KvCommit", "epoch"),
    ("KvCommit", "regionnotfound"),
    ("KvCommit", "refuse"),
    ("KvCommit", "busy"),
    ("KvCommit", "delay"),
    ("KvGet", "busy"),
    ("KvGet", "notleader"),
    ("KvGet", "refuse"),
    ("KvBatchGet", "busy"),
    ("KvBatchGet", "epoch"),
    ("KvBatchGet", "lose"),
    ("KvScan", "busy"),
    ("KvScan", "regionnotfound"),
    ("KvScan", "refuse"),
    ("KvScan", "delay"),
    ("KvBatchRollback", "notleader"),
    ("KvBatchRollback", "lose"),
    ("KvCheckTxnStatus", "notleader"),
    ("KvCheckTxnStatus", "refuse"),
    ("KvResolveLock", "busy"),
    ("KvResolveLock", "refuse"),
    ("KvScanLock", "refuse"),
];
/// And rarely, because `tikv-client` waits for a second after each: what PD refuses.
const FAULTS_OF_PD: [&str; 3] = ["GetRegion", "ScanRegions", "GetStore"];
const STEPS_PER_FAULT_OF_PD: usize = 250;
/// Between two steps of the trouble.
const PACE: Duration = Duration::from_millis(25);

/// A cluster that meets one fault after the other, and whose regions split and move, for as long as it is used.
struct InTrouble {
    cluster: Arc<Cluster>,
    /// The one that makes it. Ends when this is dropped.
    _trouble: JoinSet<()>,
    steps: Arc<AtomicUsize>,
}

impl InTrouble {
    fn start(cluster: Cluster) -> InTrouble {
        let (cluster, steps) = (Arc::new(cluster), Arc::new(AtomicUsize::new(0)));
        let mut trouble = JoinSet::new();
        trouble.spawn(make_trouble(cluster.clone(), steps.clone()));
        InTrouble { cluster, _trouble: trouble, steps }
    }
}

async fn make_trouble(cluster: Arc<Cluster>, steps: Arc<AtomicUsize>) {
    for step in 0_usize.. {
        if step.is_multiple_of(4) {
            // What nothing has met yet: faults that pile up for a rare call are not trouble but an outage.
            cluster.admin("/clear").await;
        }
        let (method, kind) = FAULTS[step * 7 % FAULTS.len()];
        cluster.admin(&format!("/inject?method={method}&kind={kind}&ms=5")).await;
        if step % STEPS_PER_FAULT_OF_PD == 1 {
            let method = FAULTS_OF_PD[step / STEPS_PER_FAULT_OF_PD % FAULTS_OF_PD.len()];
            cluster.admin(&format!("/inject?method={method}&kind=refuse")).await;
        }
        if step.is_multiple_of(5) {
            // Among the keys of several checks, and no more than a few dozen regions.
            let stores = ["put/", "order/", "race/", "parallel/k0", "random 1/a", "random 2/b", "slots 11/s"];
            let store = stores[step / 5 % stores.len()].replace(' ', "%20");
            let key = cluster.key(&format!("{store}{:02}", step / 5 % 6));
            cluster.split(&key).await;
            let region = cluster.admin(&format!("/region?key={}", super::cluster::text(&key))).await;
            cluster.admin(&format!("/transfer?region={region}")).await;
        }
        steps.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PACE).await;
    }
}

impl Drop for InTrouble {
    fn drop(&mut self) {
        assert!(
            std::thread::panicking() || self.steps.load(Ordering::Relaxed) > 0,
            "there was no trouble at all"
        );
    }
}

#[async_trait]
impl Factory for InTrouble {
    async fn open(&self, name: &str) -> Arc<dyn Engine> {
        self.cluster.marking_store(name).await
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn value_bytes_max(&self) -> usize {
        VALUE_BYTES_MAX
    }
}

/// Every check of the suite, one after another, on a cluster in trouble.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_on_a_cluster_in_trouble() {
    let Some(cluster) = Cluster::with_faults() else { return };
    let cluster = InTrouble::start(cluster);
    if let Err(broken) = engine::conformance::run(&cluster).await {
        panic!("after {} steps of trouble: {broken}", cluster.steps.load(Ordering::Relaxed));
    }
}
