/// How many expired leases are being revoked at a time. A revocation is a few commits one after another, so a
/// handful at a time leaves the disk idle; more than this gains little, because commits are grouped, and a
/// mass expiry would take the place of clients' writes in every group.
pub const REVOCATIONS_MAX: usize = 64;

/// Counts the revocations under way, so that a mass expiry stays on a narrow lane of its own.
#[derive(Debug)]
pub struct ExpiryPace {
    under_way: usize,
    max: usize,
}

impl ExpiryPace {
    /// A lane for [`REVOCATIONS_MAX`] revocations at a time.
    pub const fn new() -> ExpiryPace {
        ExpiryPace::with_max(REVOCATIONS_MAX)
    }

    /// A lane for `max` revocations at a time.
    pub const fn with_max(max: usize) -> ExpiryPace {
        ExpiryPace { under_way: 0, max }
    }

    /// How many further revocations may begin now.
    pub const fn room(&self) -> usize {
        self.max - self.under_way
    }

    /// How many revocations are under way.
    pub const fn under_way(&self) -> usize {
        self.under_way
    }

    /// Notes that `count` revocations have begun, at most as many as there is room for.
    pub fn began(&mut self, count: usize) {
        assert!(count <= self.room(), "no more revocations begin than the lane has room for");
        self.under_way += count;
    }

    /// Notes that a revocation under way has ended, well or badly.
    pub fn ended(&mut self) {
        assert!(self.under_way > 0, "only a revocation that began can end");
        self.under_way -= 1;
    }
}

impl Default for ExpiryPace {
    fn default() -> Self {
        ExpiryPace::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_lane_has_room_again_when_a_revocation_ends() {
        let mut pace = ExpiryPace::with_max(3);
        pace.began(2);
        assert_eq!(pace.room(), 1);
        pace.began(1);
        assert_eq!((pace.room(), pace.under_way()), (0, 3));
        pace.ended();
        assert_eq!((pace.room(), pace.under_way()), (1, 2));
    }
}
