//! Bugs planted on purpose, so that the test suites can show that they would catch them.
//!
//! They are compiled in with the feature `planted` alone, which no build that is meant to serve has: without it
//! [`is_planted`] is a constant, and the bugs are not in the program. With it a test plants them on its own thread; only
//! the feature `planted-by-environment` lets a whole process have one.

/// A bug that stands in the code behind [`is_planted`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlantedBug {
    /// The embedded engine answers before the fsync that it promised.
    AckBeforeFsync,
    /// A watch stream says how far it is before it has sent what lies below.
    ProgressBeforeEvent,
    /// The owner of a partition leaves a slot of its log empty now and then.
    SkippedSlot,
    /// An owner answers what only looked without making sure that it still is the owner.
    UnprovedAnswer,
    /// A candidate takes over without waiting for silence.
    ImpatientCandidate,
    /// A lease runs from when its heartbeat was known to be durable, not from when it was begun.
    LeaseFromTheEnd,
    /// A takeover of user keys does not look at the epoch before it.
    EpochIgnored,
    /// A batch whose slot is still empty is called failed, and its slot is left to it.
    NoFiller,
    /// Reclaiming goes through the compacted revision instead of ending below it.
    ReclaimsTooMuch,
    /// A process that follows shows what is in the log, whether its owner has published it or not.
    UnpublishedShown,
    /// A batch becomes visible while one with lower revisions is on its way in another partition.
    AheadOfOthers,
    /// An owner beside the leader answers before the leader knows what it has written.
    OwnerAnswersFirst,
    /// A leader that takes a partition back does not look in its log for what its owner had not told.
    TakenBackUnread,
    /// An owner puts keys on a lease without having asked the leader for it.
    LeaseUnasked,
}

impl PlantedBug {
    /// Every bug.
    pub const ALL: [PlantedBug; 14] = [
        PlantedBug::AckBeforeFsync,
        PlantedBug::ProgressBeforeEvent,
        PlantedBug::SkippedSlot,
        PlantedBug::UnprovedAnswer,
        PlantedBug::ImpatientCandidate,
        PlantedBug::LeaseFromTheEnd,
        PlantedBug::EpochIgnored,
        PlantedBug::NoFiller,
        PlantedBug::ReclaimsTooMuch,
        PlantedBug::UnpublishedShown,
        PlantedBug::AheadOfOthers,
        PlantedBug::OwnerAnswersFirst,
        PlantedBug::TakenBackUnread,
        PlantedBug::LeaseUnasked,
    ];

    /// What it is called where words are typed.
    pub const fn name(self) -> &'static str {
        match self {
            PlantedBug::AckBeforeFsync => "ack-before-fsync",
            PlantedBug::ProgressBeforeEvent => "progress-before-event",
            PlantedBug::SkippedSlot => "skipped-slot",
            PlantedBug::UnprovedAnswer => "unproved-answer",
            PlantedBug::ImpatientCandidate => "impatient-candidate",
            PlantedBug::LeaseFromTheEnd => "lease-from-the-end",
            PlantedBug::EpochIgnored => "epoch-ignored",
            PlantedBug::NoFiller => "no-filler",
            PlantedBug::ReclaimsTooMuch => "reclaims-too-much",
            PlantedBug::UnpublishedShown => "unpublished-shown",
            PlantedBug::AheadOfOthers => "ahead-of-others",
            PlantedBug::OwnerAnswersFirst => "owner-answers-first",
            PlantedBug::TakenBackUnread => "taken-back-unread",
            PlantedBug::LeaseUnasked => "lease-unasked",
        }
    }

    /// The bug of this name.
    pub fn named(name: &str) -> Option<PlantedBug> {
        PlantedBug::ALL.into_iter().find(|bug| bug.name() == name)
    }
}

/// Whether the bug is to happen here: the test of this thread has planted it, or, with the feature
/// `planted-by-environment`, the variable `PLANTED_BUG` has its name.
#[cfg(feature = "planted")]
pub fn is_planted(bug: PlantedBug) -> bool {
    here::BUG.get() == Some(bug) || here::of_process() == Some(bug)
}

/// Whether the bug is to happen here: never, in a build without the feature `planted`.
#[cfg(not(feature = "planted"))]
pub const fn is_planted(_bug: PlantedBug) -> bool {
    false
}

/// Plants a bug in what this thread runs, until the answer is dropped.
#[cfg(feature = "planted")]
#[must_use = "the bug is gone when the answer is dropped"]
pub fn plant(bug: PlantedBug) -> Planted {
    here::BUG.set(Some(bug));
    Planted(())
}

/// A planted bug; see [`plant`].
#[cfg(feature = "planted")]
#[derive(Debug)]
pub struct Planted(());

#[cfg(feature = "planted")]
impl Drop for Planted {
    fn drop(&mut self) {
        here::BUG.set(None);
    }
}

#[cfg(feature = "planted")]
mod here {
    use std::cell::Cell;

    use super::PlantedBug;

    thread_local! {
        pub(super) static BUG: Cell<Option<PlantedBug>> = const { Cell::new(None) };
    }

    #[cfg(feature = "planted-by-environment")]
    pub(super) fn of_process() -> Option<PlantedBug> {
        static OF_PROCESS: std::sync::LazyLock<Option<PlantedBug>> =
            std::sync::LazyLock::new(|| PlantedBug::named(&std::env::var("PLANTED_BUG").ok()?));
        *OF_PROCESS
    }

    #[cfg(not(feature = "planted-by-environment"))]
    pub(super) const fn of_process() -> Option<PlantedBug> {
        None
    }
}

#[cfg(all(test, feature = "planted"))]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_there_on_this_thread_until_it_is_taken_out() {
        assert!(!is_planted(PlantedBug::SkippedSlot));
        let planted = plant(PlantedBug::SkippedSlot);
        assert!(is_planted(PlantedBug::SkippedSlot) && !is_planted(PlantedBug::AckBeforeFsync));
        let elsewhere =
            std::thread::scope(|scope| scope.spawn(|| is_planted(PlantedBug::SkippedSlot)).join());
        assert!(!elsewhere.expect("the other thread"));
        drop(planted);
        assert!(!is_planted(PlantedBug::SkippedSlot));
    }
}
