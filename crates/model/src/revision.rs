use std::fmt;

/// A point in the store's history: every mutating transaction gets the next one, over the whole cluster.
///
/// An empty store is at [`Revision::FIRST`] (1), and its first write gets 2, as in etcd. Zero means "none" where
/// a record needs such a value (the previous revision of a key that did not exist).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(i64);

impl Revision {
    /// "No revision": below every real one.
    pub const NONE: Revision = Revision(0);
    /// The revision of a store that nobody has written to.
    pub const FIRST: Revision = Revision(1);
    /// Above every revision that can be allocated.
    pub const MAX: Revision = Revision(i64::MAX);

    /// A revision from its number.
    ///
    /// # Panics
    /// When `number` is negative: revisions are counted up from zero, so a negative one is a programming error
    /// (the server refuses negative numbers from clients before they get here).
    pub const fn new(number: i64) -> Revision {
        assert!(number >= 0, "a revision is never negative");
        Revision(number)
    }

    /// The number that clients see.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The revision after this one.
    pub const fn next(self) -> Revision {
        Revision(self.0 + 1)
    }

    /// The revision before this one; [`Revision::NONE`] stays what it is.
    pub const fn previous(self) -> Revision {
        if self.0 == 0 { self } else { Revision(self.0 - 1) }
    }

    /// Whether this is [`Revision::NONE`].
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
