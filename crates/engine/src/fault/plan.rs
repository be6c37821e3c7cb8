use std::collections::VecDeque;
use std::time::Duration;

use crate::seed::SeededNumbers;

/// A late batch of a seeded plan is applied before one of this many following calls.
const LATE_CALLS_MAX: usize = 8;

/// What a commit meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// Nothing: the engine answers.
    Pass,
    /// The engine is asked only after this time.
    Delay(Duration),
    /// Answered `Unavailable`, and the engine never sees the batch.
    Refused,
    /// Answered `NoSpace`, and the engine never sees the batch.
    NoSpace,
    /// Answered `Undetermined` after the engine has decided about the batch.
    UndeterminedApplied,
    /// Answered `Undetermined`, and the engine never sees the batch.
    UndeterminedNotApplied,
    /// Answered `Undetermined` first; the engine gets the batch before the `calls`-th commit or snapshot that
    /// begins afterwards (`None`: only when `apply_late` asks for it).
    UndeterminedAppliedLater {
        /// How many commits and snapshots begin until then.
        calls: Option<usize>,
    },
}

/// What a read meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFault {
    /// Nothing: the engine answers.
    Pass,
    /// The engine is asked only after this time.
    Delay(Duration),
    /// Answered `Unavailable`.
    Unavailable,
    /// Answered `Corrupt`.
    Corrupt,
}

/// How often which fault happens, in a thousand calls. The commit faults together stay below 1000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultRates {
    /// Commits that are refused.
    pub refused: u16,
    /// Commits that find no space.
    pub no_space: u16,
    /// Commits that are applied without their caller learning it.
    pub undetermined_applied: u16,
    /// Commits that get lost without their caller learning it.
    pub undetermined_not_applied: u16,
    /// Commits that are applied after their caller gave up.
    pub undetermined_applied_later: u16,
    /// Reads that find the engine unavailable.
    pub read_unavailable: u16,
    /// Calls of any kind, not hit by another fault, that take longer.
    pub delayed: u16,
    /// The longest such delay.
    pub delay_max: Duration,
}

/// How many faults of each kind were met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Commits answered `Unavailable`.
    pub refused: u64,
    /// Commits answered `NoSpace`.
    pub no_space: u64,
    /// Commits answered `Undetermined`, whatever became of them.
    pub undetermined: u64,
    /// Reads answered with an error.
    pub read_errors: u64,
    /// Calls that were delayed.
    pub delayed: u64,
}

/// Decides what each call meets.
#[derive(Default)]
pub(super) struct Plan {
    commits: VecDeque<CommitFault>,
    reads: VecDeque<ReadFault>,
    random: Option<(FaultRates, SeededNumbers)>,
    counts: FaultCounts,
}

impl Plan {
    pub(super) fn script_commits(&mut self, faults: impl IntoIterator<Item = CommitFault>) {
        self.commits.extend(faults);
    }

    pub(super) fn script_reads(&mut self, faults: impl IntoIterator<Item = ReadFault>) {
        self.reads.extend(faults);
    }

    pub(super) fn inject(&mut self, rates: FaultRates, seed: u64) {
        self.random = Some((rates, SeededNumbers::new(seed)));
    }

    pub(super) fn heal(&mut self) {
        self.commits.clear();
        self.reads.clear();
        self.random = None;
    }

    pub(super) fn counts(&self) -> FaultCounts {
        self.counts
    }

    pub(super) fn next_commit(&mut self) -> CommitFault {
        let fault = self.commits.pop_front().or_else(|| self.random_commit()).unwrap_or(CommitFault::Pass);
        match fault {
            CommitFault::Pass => {}
            CommitFault::Delay(_) => self.counts.delayed += 1,
            CommitFault::Refused => self.counts.refused += 1,
            CommitFault::NoSpace => self.counts.no_space += 1,
            CommitFault::UndeterminedApplied
            | CommitFault::UndeterminedNotApplied
            | CommitFault::UndeterminedAppliedLater { .. } => self.counts.undetermined += 1,
        }
        fault
    }

    pub(super) fn next_read(&mut self) -> ReadFault {
        let fault = self.reads.pop_front().or_else(|| self.random_read()).unwrap_or(ReadFault::Pass);
        match fault {
            ReadFault::Pass => {}
            ReadFault::Delay(_) => self.counts.delayed += 1,
            ReadFault::Unavailable | ReadFault::Corrupt => self.counts.read_errors += 1,
        }
        fault
    }

    fn random_commit(&mut self) -> Option<CommitFault> {
        let (rates, numbers) = self.random.as_mut()?;
        let later = CommitFault::UndeterminedAppliedLater { calls: Some(1 + numbers.below(LATE_CALLS_MAX)) };
        let mut left = numbers.below(1000);
        for (rate, fault) in [
            (rates.refused, CommitFault::Refused),
            (rates.no_space, CommitFault::NoSpace),
            (rates.undetermined_applied, CommitFault::UndeterminedApplied),
            (rates.undetermined_not_applied, CommitFault::UndeterminedNotApplied),
            (rates.undetermined_applied_later, later),
        ] {
            match left.checked_sub(usize::from(rate)) {
                Some(rest) => left = rest,
                None => return Some(fault),
            }
        }
        random_delay(rates, numbers).map(CommitFault::Delay)
    }

    fn random_read(&mut self) -> Option<ReadFault> {
        let (rates, numbers) = self.random.as_mut()?;
        if numbers.chance(rates.read_unavailable) {
            return Some(ReadFault::Unavailable);
        }
        random_delay(rates, numbers).map(ReadFault::Delay)
    }
}

fn random_delay(rates: &FaultRates, numbers: &mut SeededNumbers) -> Option<Duration> {
    let thousandths = 1 + numbers.below(1000) as u32;
    numbers.chance(rates.delayed).then(|| rates.delay_max * thousandths / 1000)
}
