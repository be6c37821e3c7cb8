//! Leases without input or output: which there are, how long each has left, and which are due to be revoked.
//!
//! [`LeaseTable`] follows the lease records of the system partition (granted, revoking, vanished) and keeps
//! what is not durable, the deadlines. It must not depend on an engine, a server, an async runtime or a
//! clock: time comes in as the duration since any fixed moment of the caller's choice, and never goes back.
//!
//! Invariants:
//! - no lease is due before its whole granted TTL has passed since it was granted, renewed, loaded or
//!   promoted;
//! - what is expired or being revoked cannot be renewed any more;
//! - a lease is handed out for revocation to one taker at a time, and again only after it was requeued;
//! - a lease that is being revoked stays in the table, so that its id cannot be granted again, until it
//!   vanished.
//!
//! Unlike etcd, which deletes all keys of a lease in one revision, revoking takes several steps that others
//! can see: first the lease is marked, then its keys go in small batches, then it vanishes.
//!
//! ```
//! use std::time::Duration;
//! use lease::{LeaseTable, Renewal};
//! use model::{LeaseId, LeaseTtl};
//!
//! let (id, ttl) = (LeaseId(7), LeaseTtl::clamped(60, 1).expect("a minute is a valid TTL"));
//! let mut table = LeaseTable::new();
//! table.granted(id, ttl, Duration::ZERO)?;
//! assert_eq!(table.renew(id, Duration::from_secs(50)), Renewal::Renewed(ttl));
//! assert_eq!(table.next_deadline(), Some(Duration::from_secs(110)));
//! assert_eq!(table.expire_due(Duration::from_secs(110), 16), [id]);
//! # Ok::<(), lease::ApplyError>(())
//! ```

mod pace;
mod table;

pub use pace::{ExpiryPace, REVOCATIONS_MAX};
pub use table::{ApplyError, LeaseState, LeaseTable, Renewal, TimeLeft};
