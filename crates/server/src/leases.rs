//! Leases: the table of deadlines, fed by the system partition, and the task that ends what has expired.

mod driver;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Failure, Shutdown};
use layout::log::SystemChange;
use layout::system::LeaseRecord;
use lease::{LeaseState, LeaseTable, Renewal, TimeLeft};
use model::{LeaseId, LeaseTtl};
use parking_lot::Mutex;
use partition::{Store, System, SystemFollower};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tonic::Status;
use tracing::warn;

use crate::error::EtcdError;
use crate::failure;
use crate::metrics::Metrics;
use driver::Driver;

/// The shortest TTL granted, in seconds: etcd's at its default timing (one and a half election time-outs, rounded
/// up). A shorter one is raised to it.
pub(crate) const TTL_SECS_MIN: i64 = 2;
/// How many revocations that clients asked for may wait for the driver; who comes later waits to wait.
const REQUESTS_MAX: usize = 1024;

/// A client's wish that a lease ends, and where to tell how it went.
struct Request {
    lease: LeaseId,
    answer: oneshot::Sender<Result<(), Status>>,
}

/// The handle on the leases. Cheap to clone.
#[derive(Clone)]
pub struct Leases {
    shared: Arc<Shared>,
    system: System,
    requests: mpsc::Sender<Request>,
}

struct Shared {
    book: Mutex<Book>,
    /// Wakes the driver: something may be due earlier than it knows.
    woken: Notify,
    loaded: watch::Sender<bool>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

#[derive(Default)]
struct Book {
    table: LeaseTable,
    /// Who waits for a lease to vanish holds a receiver; it is told by the sender's end.
    ends: HashMap<LeaseId, watch::Sender<()>>,
}

impl Leases {
    /// Follows the leases of `store` from when this process leads it; those that it has then get their full TTL again.
    /// The future drives expiry, until `shutdown`.
    pub fn start(
        store: &Store,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        shutdown: Shutdown,
    ) -> (Leases, impl Future<Output = Result<(), Failure>> + use<>) {
        let (requests, requested) = mpsc::channel(REQUESTS_MAX);
        let loaded = watch::Sender::new(false);
        let shared =
            Arc::new(Shared { book: Mutex::default(), woken: Notify::new(), loaded, clock, metrics });
        store.system.follow(shared.clone());
        let mut leading = store.leading();
        if *leading.borrow_and_update() {
            shared.load(store);
        }
        let driver = Driver::new(shared.clone(), store.clone(), requested);
        let (led, store_led) = (shared.clone(), store.clone());
        let driven = async move {
            let leads = async {
                // The sender goes with the store, whose end is nobody's begin.
                if leading.wait_for(|leads| *leads).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            if shutdown.or(leads).await.is_err() {
                return Ok(());
            }
            led.load(&store_led);
            drop((led, store_led));
            driver.run(shutdown).await
        };
        (Leases { shared, system: store.system.clone(), requests }, driven)
    }

    /// Whether the leases are known here, which they are from when this process leads. It may have been deposed since.
    pub(crate) fn loaded(&self) -> watch::Receiver<bool> {
        self.shared.loaded.subscribe()
    }

    /// Gives a lease its full TTL again. While it is being revoked this waits until it has vanished, at most
    /// `patience`, so that a client that knows of the end sees no key of it; `None` then, and for an unknown lease.
    pub async fn renew(&self, lease: LeaseId, patience: Duration) -> Result<Option<LeaseTtl>, Status> {
        let clock = &self.shared.clock;
        let (renewal, ended) = {
            let mut book = self.shared.book.lock();
            let renewal = book.table.renew(lease, clock.now());
            let ended =
                (renewal == Renewal::Revoking).then(|| book.ends.entry(lease).or_default().subscribe());
            (renewal, ended)
        };
        // After the renewal: whoever takes over later gives the lease its full time.
        self.confirm().await?;
        let mut ended = match (renewal, ended) {
            (Renewal::Renewed(ttl), _) => {
                self.shared.metrics.leases.renewed.inc();
                return Ok(Some(ttl));
            }
            (Renewal::Revoking, Some(ended)) => ended,
            (Renewal::Unknown | Renewal::Revoking, _) => return Ok(None),
        };
        self.shared.woken.notify_one();
        tokio::select! {
            biased;
            _ = ended.changed() => Ok(None),
            () = clock.sleep_until(clock.now() + patience) => Err(EtcdError::Timeout.into()),
        }
    }

    /// Ends a lease; its keys are gone when this returns. Once begun it is carried out, whatever becomes of the
    /// caller.
    pub async fn revoke(&self, lease: LeaseId) -> Result<(), Status> {
        if !self.exists(lease) {
            self.confirm().await?;
            return Err(EtcdError::LeaseNotFound.into());
        }
        let (answer, answered) = oneshot::channel();
        if self.requests.send(Request { lease, answer }).await.is_err() {
            return Err(EtcdError::Stopped.into());
        }
        // Handed over, it may have been begun: that is not for certain "no".
        answered.await.unwrap_or_else(|_| Err(EtcdError::Timeout.into()))
    }

    /// Whether there is such a lease, be it that it is being revoked.
    pub(crate) fn exists(&self, lease: LeaseId) -> bool {
        self.shared.book.lock().table.exists(lease)
    }

    /// What is left of a lease.
    pub(crate) async fn remaining(&self, lease: LeaseId) -> Result<Option<TimeLeft>, Status> {
        self.confirm().await?;
        Ok(self.shared.book.lock().table.remaining(lease, self.shared.clock.now()))
    }

    /// All leases, those with the least time left first.
    pub(crate) async fn list(&self) -> Result<Vec<LeaseId>, Status> {
        self.confirm().await?;
        Ok(self.shared.book.lock().table.list())
    }

    /// Makes sure that what is known here of leases is not another process's past.
    async fn confirm(&self) -> Result<(), Status> {
        self.system.confirm().await.map_err(|error| failure::read(error.into()))
    }
}

impl Shared {
    /// Takes in the leases that there are, once.
    fn load(&self, store: &Store) {
        if *self.loaded.borrow() {
            return;
        }
        {
            // Loaded after following, and changes wait for the lock meanwhile: what is in both is seen twice, which
            // does no harm, and nothing is missed.
            let mut book = self.book.lock();
            let entries = store.system.leases().into_iter().filter_map(|(lease, record)| {
                let state = if record.revoking { LeaseState::Revoking } else { LeaseState::Live };
                Some((lease, ttl_of(record)?, state))
            });
            book.table = LeaseTable::load(entries, self.clock.now());
        }
        self.loaded.send_replace(true);
    }
}

impl SystemFollower for Shared {
    fn applied(&self, changes: &[SystemChange]) {
        let now = self.clock.now();
        let mut book = self.book.lock();
        for change in changes {
            match *change {
                SystemChange::LeaseGranted(lease, ttl_secs) => {
                    if let Some(ttl) = ttl_of(LeaseRecord { ttl_secs, revoking: false }) {
                        // One that was loaded already exists; it is the same.
                        let _ = book.table.granted(lease, ttl, now);
                        self.metrics.leases.granted.inc();
                    }
                }
                SystemChange::LeaseRevoking(lease) => {
                    let _ = book.table.revoking(lease);
                }
                SystemChange::LeaseRevoked(lease) => {
                    let _ = book.table.vanished(lease);
                    book.ends.remove(&lease);
                    self.metrics.leases.revoked.inc();
                }
                SystemChange::AlarmRaised(_) | SystemChange::AlarmCleared(_) | SystemChange::Compacted(_) => {
                }
            }
        }
        drop(book);
        self.woken.notify_one();
    }
}

/// The TTL of a stored lease, which was within the limits when it was granted.
fn ttl_of(record: LeaseRecord) -> Option<LeaseTtl> {
    let ttl = LeaseTtl::clamped(record.ttl_secs, 1);
    if ttl.is_none() {
        warn!(ttl_secs = record.ttl_secs, "a lease has a longer TTL than can be granted: it never expires");
    }
    ttl
}
