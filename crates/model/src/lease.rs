use std::fmt;

/// The identity of a lease. Zero is "no lease": a key that hangs on no lease has [`LeaseId::NONE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// "No lease".
    pub const NONE: LeaseId = LeaseId(0);

    /// Whether this is [`LeaseId::NONE`].
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for LeaseId {
    /// Sixteen hexadecimal digits, as `etcdctl` prints a lease.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A lease's time to live, in whole seconds, as it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseTtl(i64);

impl LeaseTtl {
    /// etcd's upper limit, in seconds (about 285 years): above it a grant is refused.
    pub const SECS_MAX: i64 = 9_000_000_000;

    /// A TTL of `secs`; `None` above [`LeaseTtl::SECS_MAX`]. Anything shorter than `secs_min` becomes `secs_min`,
    /// which is what etcd does too.
    pub const fn clamped(secs: i64, secs_min: i64) -> Option<LeaseTtl> {
        if secs > Self::SECS_MAX {
            None
        } else if secs < secs_min {
            Some(LeaseTtl(secs_min))
        } else {
            Some(LeaseTtl(secs))
        }
    }

    /// The length in seconds.
    pub const fn secs(self) -> i64 {
        self.0
    }
}
