//! Clients with leases: they are granted some, renew them or not, and sometimes end one.

use std::time::Duration;

use model::{LeaseId, LeaseTtl};
use partition::SystemFailure;

use super::{Answered, Client};

/// The text with which the driver of leases says that there is no such lease.
const NOT_FOUND: &str = "etcdserver: requested lease not found";
/// The TTLs granted, in seconds.
const TTLS_SECS: [i64; 3] = [2, 5, 30];
/// How long a renewal waits for a lease to vanish.
const PATIENCE: Duration = Duration::from_secs(5);

impl Client {
    pub(super) async fn hold_lease(&self, number: u64) {
        let held: Vec<LeaseId> = self.leases.lock().clone();
        match self.world.below(4) {
            0 if !held.is_empty() => self.end_lease(*self.world.pick(&held)).await,
            1..3 if !held.is_empty() => self.renew(*self.world.pick(&held)).await,
            _ => self.grant(number).await,
        }
    }

    async fn grant(&self, number: u64) {
        let lease = LeaseId((self.number * 1_000 + number + 1).cast_signed());
        let Some(ttl) = LeaseTtl::clamped(*self.world.pick(&TTLS_SECS), 1) else { return };
        let granted =
            self.change(|process| async move { process.store.system.grant(lease, ttl).await }).await;
        let Ok(Answered { answer, begun, .. }) = granted else { return };
        match answer {
            Ok(()) => {
                self.promise(lease, begun, ttl);
                self.leases.lock().push(lease);
            }
            Err(SystemFailure::LeaseExists | SystemFailure::LeaseNotFound) => {
                self.world.violated(format!("lease {lease} was never granted before"));
            }
            Err(_) => {}
        }
    }

    fn promise(&self, lease: LeaseId, begun: Duration, ttl: LeaseTtl) {
        let until = begun + Duration::from_secs(ttl.secs().unsigned_abs());
        let mut known = self.oracle.known();
        let promised = known.promised.entry(lease).or_default();
        *promised = (*promised).max(until);
    }

    async fn renew(&self, lease: LeaseId) {
        let live_before = self.oracle.known().leases.get(&lease) == Some(&false);
        let renewed =
            self.change(|process| async move { process.leases()?.renew(lease, PATIENCE).await }).await;
        let Ok(Answered { answer, begun, .. }) = renewed else { return };
        match answer {
            Ok(Some(ttl)) => self.promise(lease, begun, ttl),
            Ok(None) => {
                let live_after = self.oracle.known().leases.get(&lease) == Some(&false);
                self.world.check(!(live_before && live_after), || format!("lease {lease} lives"));
            }
            Err(_) => {}
        }
    }

    async fn end_lease(&self, lease: LeaseId) {
        self.oracle.known().unwanted.insert(lease);
        let ended = self.change(|process| async move { process.leases()?.revoke(lease).await }).await;
        let Ok(Answered { answer, .. }) = ended else { return };
        let gone = match &answer {
            Ok(()) => true,
            Err(status) => status.message() == NOT_FOUND,
        };
        let known = self.oracle.known();
        let (exists, attached) = (
            known.leases.contains_key(&lease),
            known.history.newest().values().any(|version| version.lease == lease),
        );
        drop(known);
        self.world.check(!gone || !exists, || format!("lease {lease} was told to be gone"));
        self.world.check(answer.is_err() || !attached, || format!("keys of the ended lease {lease} live"));
    }
}
