//! The rules of the protocol that can be taken out, each by its name.

use super::violation::Promise::{self, *};

/// Which rules a model keeps: all, or all but one.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) without: Option<Rule>,
}

impl Rules {
    pub(crate) fn keeps(self, rule: Rule) -> bool {
        self.without != Some(rule)
    }
}

/// What is known of a rule.
struct Entry {
    rule: Rule,
    name: &'static str,
    number: &'static str,
    says: &'static str,
    shown_in: &'static str,
    breaks: Promise,
}

/// One list for the enum and what is known of each: its name on the command line, its number in `docs/protocol.md`,
/// what it says, and in which configuration its absence breaks which promise.
macro_rules! rules {
    ($($rule:ident $name:literal $number:literal $says:literal, $shown_in:literal => $breaks:ident;)*) => {
        /// A rule that the models can do without, to show what it is for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Rule { $(#[doc = $says] $rule,)* }

        const ENTRIES: &[Entry] = &[$(Entry {
            rule: Rule::$rule, name: $name, number: $number, says: $says, shown_in: $shown_in, breaks: $breaks,
        },)*];
    };
}

rules! {
    SlotIsInserted "slot-is-inserted" "inv. 2"
        "A batch inserts its slot; it does not put it.",
        "one-partition" => NothingAcknowledgedIsLost;
    EpochIsConfirmed "epoch-is-confirmed" "inv. 11"
        "An owner answers a read only if the leader confirmed its epoch together with the revision.",
        "one-partition" => ResolvedStaysResolved;
    ObserverNeedsProof "observer-needs-proof" "R1"
        "A transaction that changes nothing is answered like a read, with proof of ownership.",
        "one-partition" => ReadsAreFresh;
    TakeoverComparesEpochs "takeover-compares-epochs" "R2"
        "A takeover is given up if the log has its epoch or a later one.",
        "moves" => ResolvedStaysResolved;
    TakeoverLooksAgain "takeover-looks-again" "R4"
        "A takeover serves only if its record is the last slot once it is durable.",
        "trims" => ReadsAreExact;
    OneEpochHasOneProcess "one-epoch-has-one-process" "R5"
        "A process owns nothing until it has taken over at an epoch of its own.",
        "crashes" => ResolvedStaysResolved;
    ReassignedOwnerReloads "reassigned-owner-reloads" "R5"
        "An owner that is assigned its partition again takes over and loads it again.",
        "moves" => ResolvedStaysResolved;
    OneRevisionForAllPartitions "one-revision-for-all-partitions" "R6"
        "A read over several partitions has one revision in all of them.",
        "two-partitions" => ReadsAreExact;
    ResolveThenSnapshot "resolve-then-snapshot" "R6"
        "Who reads the engine for a revision waits until the partition is resolved to it.",
        "one-partition" => ResolvedStaysResolved;
    FencingSlotsAreKept "fencing-slots-are-kept" "R7"
        "Takeovers, the slot before each, fillers and the newest slot are never trimmed.",
        "trims" => TrimmedStaysTrimmed;
    CommitHasADeadline "commit-has-a-deadline" "R7"
        "No batch can arrive any more when the slot that it was sent to is trimmed.",
        "trims-transaction" => TrimmedStaysTrimmed;
    TrimmedSlotIsUnknown "trimmed-slot-is-unknown" "R7"
        "An empty slot that may have been trimmed says nothing about what was in it.",
        "trims-transaction" => TrimmedStaysTrimmed;
    AskServesOnlyThoseBefore "ask-serves-only-those-before" "R11"
        "An ask for a revision serves only who waited before it was sent.",
        "one-partition" => ReadsAreFresh;
    NoRevisionIsFetchedAhead "no-revision-is-fetched-ahead" "R11"
        "A revision is asked for after the transaction that gets it has come.",
        "two-writes" => RevisionsFollowRealTime;
    RevisionIsAskedByTheOwner "revision-is-asked-by-the-owner" "R11"
        "An owner asks for revisions only when its takeover is known to be durable.",
        "one-partition" => ResolvedStaysResolved;
    OldEpochIsNotConfirmed "old-epoch-is-not-confirmed" "R12"
        "The leader stops confirming an epoch before it proposes the next.",
        "one-partition" => ResolvedStaysResolved;
    AssignmentIsToldWhenDurable "assignment-is-told-when-durable" "R12"
        "A frontend acts on an assignment only when it is durable.",
        "one-partition" => ResolvedStaysResolved;
    OpenAskBlocksResolving "open-ask-blocks-resolving" "R14"
        "An owner that waits for a revision does not resolve.",
        "one-partition" => ResolvedStaysResolved;
    AbsentSlotIsFilled "absent-slot-is-filled" "R21"
        "A batch has failed only when something else is in its slot.",
        "one-partition" => FailedNeverHappened;
    NewLeaderStartsAboveTheCeiling "new-leader-starts-above-the-ceiling" "inv. 3"
        "A new leader hands out revisions above its forerunner's ceiling.",
        "one-partition" => ReadsAreFresh;
    CeilingIsDurableFirst "ceiling-is-durable-first" "inv. 3"
        "The leader hands out a revision only below a ceiling that is durable.",
        "ceiling" => RevisionsIncrease;
    LeaderFollowsSilence "leader-follows-silence" "inv. 12"
        "A takeover of partition 0 follows a whole lease without a new slot.",
        "lease-clock" => OneLeader;
    LeaderStopsBeforeItReleases "leader-stops-before-it-releases" "inv. 12"
        "A leader that gives partition 0 up answers nothing from before it sends that on.",
        "lease-clock" => OneLeader;
    ConflictWaitsAgain "conflict-waits-again" "R3"
        "A candidate whose takeover meets a taken slot waits a whole lease again.",
        "lease-clock" => OneLeader;
    SilenceIsTimedFromThePollsEnd "silence-is-timed-from-the-polls-end" "R3"
        "A candidate's timer starts at the end of the poll that first showed the last slot.",
        "lease-clock" => OneLeader;
    LeaseRunsFromTheStart "lease-runs-from-the-start" "R3"
        "A lease runs from the moment at which its heartbeat was sent.",
        "lease-clock" => OneLeader;
    ClocksRunThroughSuspends "clocks-run-through-suspends" "R17"
        "A process's clock runs also while its machine is stopped.",
        "lease-clock" => OneLeader;
    LeaseIsCheckedAtTheAnswer "lease-is-checked-at-the-answer" "R11"
        "The leader checks its lease after the asks that it answers have come.",
        "leaders" => ReadsAreFresh;
    RevisionFollowsTheLastHold "revision-follows-the-last-hold" "R16"
        "The revision of a transaction over several partitions is asked for after the last hold.",
        "two-transactions" => RevisionsIncrease;
    EveryPartitionGetsASlot "every-partition-gets-a-slot" "R16"
        "A partition that a transaction only compares gets a slot too.",
        "compare" => TransactionsAreSerial;
    HolderDoesNotResolve "holder-does-not-resolve" "R16"
        "A holder resolves nothing until it has read its own next slot.",
        "transaction" => ResolvedStaysResolved;
    ChildrenAreFencedFromTheParent "children-are-fenced-from-the-parent" "R16"
        "A split takes the parent's next slot in the same batch in which the children begin.",
        "split" => ReadsAreExact;
    ChildLoadsAfterTheSplit "child-loads-after-the-split" "R25"
        "A child's owner loads from one snapshot, taken after the split is durable.",
        "split" => ReadsAreExact;
    MapChangesWithTheSplit "map-changes-with-the-split" "R16"
        "A split takes partition 0's next slot, and so changes the map, in the same batch.",
        "split" => ClientsCanBeAnswered;
    ResumeFollowsTheLineage "resume-follows-the-lineage" "R24"
        "A watch that resumes before a split is told from the parent's log first.",
        "split-watch" => WatchesMissNothing;
    LeaseVanishesAfterTheWalk "lease-vanishes-after-the-walk" "R13"
        "A lease vanishes only when every owner has answered the walk.",
        "lease" => NoKeyOutlivesItsLease;
    OwnerAttachesNothingAfterItsAnswer "owner-attaches-nothing-after-its-answer" "R13"
        "An owner answers the walk only when it has followed the revocation, and so refuses the lease.",
        "lease" => NoKeyOutlivesItsLease;
    AnswerFollowsPutsOnTheirWay "answer-follows-puts-on-their-way" "R13"
        "An owner answers the walk only when no put with the lease is on its way.",
        "lease" => NoKeyOutlivesItsLease;
    OwnerReachesItsAssignment "owner-reaches-its-assignment" "R13"
        "A takeover accepts writes only when it has followed the slot of its own assignment.",
        "lease" => NoKeyOutlivesItsLease;
    WalkCoversTheCurrentMap "walk-covers-the-current-map" "R13"
        "The walk is over the partitions of the current map, again if it changed.",
        "lease-split" => NoKeyOutlivesItsLease;
    OnlyWhatStillHangsIsDeleted "only-what-still-hangs-is-deleted" "R13"
        "The walk deletes a key only if it still hangs on the lease.",
        "lease-detach" => OnlyLeasedKeysExpire;
    RevokingIsNotGrantedAgain "revoking-is-not-granted-again" "R13"
        "A lease that is being revoked cannot be granted again.",
        "lease-again" => GrantedLeasesAreThere;
    UnknownLeaseIsAskedOfTheLeader "unknown-lease-is-asked-of-the-leader" "R13"
        "An owner refuses a lease as unknown only after it has asked the leader.",
        "lease" => GrantedLeasesAreThere;
    NewLeaderGivesTheFullTime "new-leader-gives-the-full-time" "R13"
        "A new leader gives every live lease its full time to live, from its own takeover.",
        "expiry" => KeptLeasesLive;
    LeadIsCheckedAfterRenewing "lead-is-checked-after-renewing" "R13"
        "A keep-alive is acknowledged only by who leads after the lease was renewed.",
        "expiry" => KeptLeasesLive;
}

impl Rule {
    /// Every rule.
    pub fn all() -> impl Iterator<Item = Self> {
        ENTRIES.iter().map(|entry| entry.rule)
    }

    /// The rule with this name.
    pub fn named(name: &str) -> Option<Self> {
        ENTRIES.iter().find(|entry| entry.name == name).map(|entry| entry.rule)
    }

    fn entry(self) -> &'static Entry {
        ENTRIES.iter().find(|entry| entry.rule == self).expect("the list has every rule")
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// Its number in `docs/protocol.md`.
    pub fn number(self) -> &'static str {
        self.entry().number
    }

    /// What it says, in a sentence.
    pub fn says(self) -> &'static str {
        self.entry().says
    }

    /// The configuration in which its absence shows.
    pub fn shown_in(self) -> &'static str {
        self.entry().shown_in
    }

    /// The promise that is broken first in that configuration without it.
    pub fn breaks(self) -> Promise {
        self.entry().breaks
    }
}
