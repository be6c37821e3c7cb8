//! What the clients of a run do.

use super::set::Set;

/// What the clients of a run do, each in its own time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) writes: Vec<WriteOp>,
    /// The places that each read covers.
    pub(crate) reads: Vec<Set>,
}

/// One transaction that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WriteOp {
    /// Where it writes.
    pub(crate) writes: Set,
    /// Where it only compares.
    pub(crate) compares: Set,
}

impl WriteOp {
    pub(crate) const fn to(places: &[u8]) -> Self {
        Self { writes: Set::of(places), compares: Set::of(&[]) }
    }

    pub(crate) fn touches(&self) -> Set {
        self.writes.or(self.compares)
    }

    /// The place, if it is only one.
    pub(crate) fn single(&self) -> Option<usize> {
        let mut places = self.touches().iter();
        places.next().filter(|_| places.next().is_none())
    }
}
