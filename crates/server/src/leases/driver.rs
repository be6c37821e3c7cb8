use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::{Failure, Shutdown};
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use lease::ExpiryPace;
use model::LeaseId;
use partition::{Store, SystemFailure};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use tracing::{debug, warn};

use super::{Request, Shared};
use crate::error::EtcdError;
use crate::failure;

/// One step of a revocation deletes at most this many keys, at one revision: as many as a transaction may have
/// operations, so that a lease with very many keys holds nobody up.
const KEYS_PER_STEP: usize = 128;
/// How many revocations that clients asked for are under way at a time, beside those of expired leases.
const REQUESTED_MAX: usize = 256;
/// How long to wait before a failed revocation is tried again: doubled each time, up to the maximum.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(500);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// How a revocation went.
enum End {
    /// The lease is gone.
    Vanished,
    /// It was gone when the revocation began.
    Unknown,
    /// It may be under way and has to be tried again.
    Failed(Status),
}

/// Ends leases: every revocation, of expired leases and on request, is carried out here, so that there is one at a
/// time for each lease and it is finished whatever becomes of who asked for it.
pub(super) struct Driver {
    shared: Arc<Shared>,
    store: Store,
    requests: mpsc::Receiver<Request>,
    pace: ExpiryPace,
    work: FuturesUnordered<BoxFuture<'static, (LeaseId, End)>>,
    under_way: HashMap<LeaseId, UnderWay>,
    /// How often in a row the revocation of a lease has failed.
    failures: HashMap<LeaseId, u32>,
}

/// A revocation that is being carried out.
struct UnderWay {
    /// Whether it counts towards the pace of expiry.
    expired: bool,
    /// Whoever asked for it, if it was begun on request.
    by: Option<oneshot::Sender<Result<(), Status>>>,
    /// Others who asked since: for them the lease is gone when it is done.
    joined: Vec<oneshot::Sender<Result<(), Status>>>,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, store: Store, requests: mpsc::Receiver<Request>) -> Driver {
        Driver {
            shared,
            store,
            requests,
            pace: ExpiryPace::new(),
            work: FuturesUnordered::new(),
            under_way: HashMap::new(),
            failures: HashMap::new(),
        }
    }

    /// Runs until `shutdown`, or until nobody can ask any more. What is under way then is finished by the next
    /// start.
    pub(super) async fn run(mut self, shutdown: Shutdown) -> Result<(), Failure> {
        loop {
            let deadline = self.expire();
            let requested = self.under_way.values().filter(|under_way| !under_way.expired).count();
            let clock = self.shared.clock.clone();
            let due = async {
                match deadline {
                    Some(deadline) => clock.sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Ends before beginnings: they make room.
                biased;
                () = shutdown.begun() => return Ok(()),
                Some((lease, end)) = self.work.next() => self.ended(lease, end),
                request = self.requests.recv(), if requested < REQUESTED_MAX => match request {
                    Some(request) => self.requested(request),
                    None => return Ok(()),
                },
                () = self.shared.woken.notified() => {}
                () = due => {}
            }
        }
    }

    /// Begins to revoke what is due, as far as the pace permits. Returns when the next lease is due; none while
    /// there is no room for it.
    fn expire(&mut self) -> Option<Duration> {
        let now = self.shared.clock.now();
        let (due, next) = {
            let mut book = self.shared.book.lock();
            let due = book.table.expire_due(now, self.pace.room());
            (due, book.table.next_deadline())
        };
        for lease in due {
            // On request already: that revocation takes it in.
            if self.under_way.contains_key(&lease) {
                continue;
            }
            debug!(lease_id = %lease, "lease expired");
            self.pace.began(1);
            self.shared.metrics.leases.expired.inc();
            self.begin(lease, UnderWay { expired: true, by: None, joined: Vec::new() });
        }
        next.filter(|_| self.pace.room() > 0)
    }

    fn requested(&mut self, Request { lease, answer }: Request) {
        match self.under_way.get_mut(&lease) {
            Some(under_way) => under_way.joined.push(answer),
            None => self.begin(lease, UnderWay { expired: false, by: Some(answer), joined: Vec::new() }),
        }
    }

    fn begin(&mut self, lease: LeaseId, under_way: UnderWay) {
        self.under_way.insert(lease, under_way);
        let store = self.store.clone();
        self.work.push(async move { (lease, revoke(&store, lease).await) }.boxed());
    }

    fn ended(&mut self, lease: LeaseId, end: End) {
        let Some(UnderWay { expired, by, joined }) = self.under_way.remove(&lease) else { return };
        if expired {
            self.pace.ended();
        }
        let gone = || Err(EtcdError::LeaseNotFound.into());
        let (first, others) = match end {
            End::Vanished => (Ok(()), gone()),
            End::Unknown => (gone(), gone()),
            End::Failed(status) => {
                self.retry_later(lease, &status);
                (Err(status.clone()), Err(status))
            }
        };
        if !self.shared.book.lock().table.exists(lease) {
            self.failures.remove(&lease);
        }
        // Whoever has gone away hears nothing.
        if let Some(by) = by {
            let _ = by.send(first);
        }
        for joined in joined {
            let _ = joined.send(others.clone());
        }
    }

    fn retry_later(&mut self, lease: LeaseId, status: &Status) {
        let failures = self.failures.entry(lease).or_default();
        let wait = RETRY_AFTER_MIN.saturating_mul(1 << (*failures).min(16)).min(RETRY_AFTER_MAX);
        *failures = failures.saturating_add(1);
        let error = status.message();
        warn!(lease_id = %lease, error, retry_after = ?wait, "a lease could not be revoked");
        let again = self.shared.clock.now() + wait;
        self.shared.book.lock().table.requeue(lease, again);
    }
}

/// Marks the lease, deletes its keys in steps, then lets it vanish. May be done again from any point.
async fn revoke(store: &Store, lease: LeaseId) -> End {
    match store.system.begin_revoke(lease).await {
        Ok(()) => {}
        Err(SystemFailure::LeaseNotFound) => return End::Unknown,
        Err(failure) => return End::Failed(failure::system(failure)),
    }
    loop {
        match store.keys.delete_attached(lease, KEYS_PER_STEP).await {
            Ok(detached) if detached.left == 0 => break,
            // Nothing can be attached any more, so that the steps come to an end.
            Ok(_) => tokio::task::yield_now().await,
            Err(failure) => return End::Failed(failure::txn(failure)),
        }
    }
    match store.system.finish_revoke(lease).await {
        Ok(()) => End::Vanished,
        Err(SystemFailure::LeaseNotFound) => End::Unknown,
        Err(failure) => End::Failed(failure::system(failure)),
    }
}
