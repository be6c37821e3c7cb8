//! The engine: batches arrive at any time, or never, and insert their slots all or not at all.

use super::log::{Commit, Kind, Partition};
use super::state::{PARTITIONS, State};
use super::{Core, Steps};
use crate::protocol::rule::Rule;
use crate::protocol::violation::{Promise, Violation};

impl Core {
    /// Forgets batches that can never be applied: a slot of theirs is taken. It may be trimmed later, but not before
    /// their deadline. So a batch that goes to a trimmed slot was sent after that slot was trimmed.
    pub(crate) fn forget_dead(&self, state: &mut State) {
        if self.keeps(Rule::SlotIsInserted) && self.keeps(Rule::CommitHasADeadline) {
            let State { flying, partitions, .. } = state;
            flying.retain(|commit| {
                (0..PARTITIONS)
                    .all(|p| commit.slots[p] == 0 || partitions[p].occupant(commit.slots[p]).is_none())
            });
        }
        state.flying.sort_unstable();
        state.flying.dedup();
    }

    pub(crate) fn engine_steps(&self, state: &State, steps: &mut Steps<State>) {
        for (index, commit) in state.flying.iter().enumerate() {
            let is_refused = (0..PARTITIONS)
                .any(|p| commit.slots[p] > 0 && state.partitions[p].occupant(commit.slots[p]).is_some());
            if is_refused && self.keeps(Rule::SlotIsInserted) {
                continue;
            }
            let mut next = state.clone();
            if self.keeps(Rule::CommitHasADeadline) {
                next.flying.remove(index);
            } // Else it may arrive once more, at any time.
            let violation = self.apply(&mut next, commit);
            steps.add_checked(next, violation, || format!("the engine applies {}", told(commit)));
        }
        self.trim_steps(state, steps);
    }

    fn apply(&self, state: &mut State, commit: &Commit) -> Option<Violation> {
        let mut violation = None;
        for p in 0..PARTITIONS {
            if commit.slots[p] > 0 {
                violation = violation.or(self.insert(&mut state.partitions[p], commit.slots[p], p, commit));
            }
        }
        let record = commit.record;
        if record.kind == Kind::Batch {
            let write = &mut state.clients.writes[usize::from(record.write)];
            write.revision = record.revision;
        }
        violation
    }

    fn insert(
        &self,
        partition: &mut Partition,
        slot: u8,
        place: usize,
        commit: &Commit,
    ) -> Option<Violation> {
        let record = commit.record;
        let breach = |promise, particulars| Some(Violation::new(promise, particulars));
        let name = place + 1;
        if partition.is_gone(slot) {
            // A takeover or a filler there is harmless by itself: its writer looks at the end of the log again.
            partition.stray = Some((slot, record));
            let particulars = format!("slot {slot} of P{name} was trimmed, and takes {}", told(commit));
            return (record.kind == Kind::Batch)
                .then(|| Violation::new(Promise::TrimmedStaysTrimmed, particulars));
        }
        if slot <= partition.end() {
            partition.log[usize::from(slot) - 1] = record; // only without R7's insert
            return None;
        }
        let (revision, epoch) = (partition.last_revision(), partition.last_epoch());
        let is_next = slot == partition.end() + 1;
        partition.log.push(record);
        if !is_next {
            return breach(Promise::SlotsAreDense, format!("slot {slot} of P{name} leaves a hole"));
        }
        if record.revision > 0 && record.revision <= revision {
            let particulars = format!("revision {} follows {revision} in P{name}", record.revision);
            return breach(Promise::RevisionsIncrease, particulars);
        }
        if record.revision > 0 && record.revision <= partition.resolved {
            let particulars =
                format!("revision {} in P{name}, resolved to {}", record.revision, partition.resolved);
            return breach(Promise::ResolvedStaysResolved, particulars);
        }
        if record.epoch > 0 && record.epoch < epoch && self.keeps(Rule::TakeoverComparesEpochs) {
            // Without the rule this is what happens, and the search looks for what comes of it.
            let particulars = format!("epoch {} follows {epoch} in P{name}", record.epoch);
            return breach(Promise::EpochsIncrease, particulars);
        }
        None
    }

    /// Trimming takes everything at once that may go.
    fn trim_steps(&self, state: &State, steps: &mut Steps<State>) {
        for p in 0..PARTITIONS {
            let partition = &state.partitions[p];
            let gone = self.may_go(partition);
            if state.budget.trims == 0 || gone & !partition.gone == 0 {
                continue;
            }
            let mut next = state.clone();
            next.budget.trims -= 1;
            next.partitions[p].gone |= gone;
            let through = next.partitions[p].trimmed_through();
            steps.add(next, || format!("the log of P{} is trimmed through slot {through}", p + 1));
        }
    }

    /// The slots that may be trimmed: all but the newest, fillers, takeovers, and the slot before each takeover.
    fn may_go(&self, partition: &Partition) -> u16 {
        let end = partition.end();
        let is_kept = |slot: u8| {
            let kind = |slot: u8| partition.log[usize::from(slot) - 1].kind;
            kind(slot) != Kind::Batch || kind(slot + 1) == Kind::Takeover
        };
        (1..end)
            .filter(|&slot| !(is_kept(slot) && self.keeps(Rule::FencingSlotsAreKept)))
            .fold(0, |bits, slot| bits | 1 << slot)
    }
}

/// A batch, in words.
pub(crate) fn told(commit: &Commit) -> String {
    let record = commit.record;
    let what = match record.kind {
        Kind::Takeover => format!("F{}'s takeover at epoch {}", record.by, record.epoch),
        Kind::Filler => format!("F{}'s filler of epoch {}", record.by, record.epoch),
        Kind::Batch => format!("the batch of w{} at revision {}", record.write, record.revision),
    };
    let slots: Vec<_> = (0..PARTITIONS)
        .filter(|&p| commit.slots[p] > 0)
        .map(|p| format!("slot {} of P{}", commit.slots[p], p + 1))
        .collect();
    format!("{what} to {}", slots.join(" and "))
}
