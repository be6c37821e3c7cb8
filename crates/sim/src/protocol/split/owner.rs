//! The owners of the parent and of the children.

use super::state::{Belief, CHILDREN, Commit, OWNERS, Owner, PARENT, PARTITIONS, Phase, Record, State};
use super::{Split, Steps};
use crate::protocol::clients::{Answer, Fate, Progress};
use crate::protocol::rule::Rule;
use crate::protocol::set::Set;
use crate::protocol::violation::{Promise, Violation};

impl Split {
    pub(crate) fn owner_steps(&self, state: &State, partition: usize, steps: &mut Steps<State>) {
        let Some(owner) = state.owners[partition] else {
            self.take_over_child(state, partition, steps);
            return;
        };
        let who = OWNERS[partition];
        match owner.phase {
            Phase::Idle => self.take_write(state, (partition, owner), steps),
            Phase::Asked { write } => {
                let mut next = state.clone();
                let revision = next.leader.allocate();
                let phase = Phase::Allocated { write, revision };
                next.owners[partition] = Some(Owner { phase, ..owner });
                steps.add(next, || format!("the leader gives {who} revision {revision}"));
            }
            Phase::Allocated { write, revision } => {
                let phase = Phase::Committing { write, revision };
                let next = sent(state, (partition, owner), phase, Record::Batch { write, revision });
                steps.add(next, || format!("{who} sends w{write} at {revision} to slot {}", owner.tail + 1));
            }
            Phase::Committing { write, revision } | Phase::Filling { write, revision } => {
                settle(state, (partition, owner), (write, revision), steps);
            }
            Phase::Held | Phase::Breaking => break_hold(state, owner, steps),
        }
        self.answer(state, (partition, owner), steps);
        self.resume_watch(state, (partition, owner), steps);
    }

    /// A child's owner hears of the split in partition 0's map, takes over and loads what the parent had.
    fn take_over_child(&self, state: &State, partition: usize, steps: &mut Steps<State>) {
        if partition == PARENT {
            return;
        }
        let is_asked = matches!(state.leader.belief, Belief::Asking | Belief::Holding { .. });
        if !self.keeps(Rule::ChildLoadsAfterTheSplit) && is_asked && state.preloaded.is_none() {
            let mut next = state.clone();
            next.preloaded = Some(state.batches(PARENT).map(|batch| batch.0).collect());
            steps.add(next, || "the children's owners load the parent's keys ahead".to_owned());
        }
        if !state.map_is_split {
            return;
        }
        let mut next = state.clone();
        next.logs[partition].push(Record::Takeover);
        let all: Set = state.batches(PARENT).map(|batch| batch.0).collect();
        let known = state.preloaded.unwrap_or(all).and(self.writes_of(partition));
        let published = state.batches(PARENT).map(|batch| batch.1).max().unwrap_or(0);
        let tail = next.end(partition);
        next.owners[partition] = Some(Owner { tail, known, published, phase: Phase::Idle });
        steps.add(next, || format!("{} takes over, and knows the writes {known}", OWNERS[partition]));
    }

    /// The writes that go to a partition.
    fn writes_of(&self, partition: usize) -> Set {
        let script = self.config.script.writes.iter().enumerate();
        script
            .filter(|(_, op)| partition == PARENT || op.writes.iter().any(|k| CHILDREN[k] == partition))
            .map(|(write, _)| write)
            .collect()
    }

    fn take_write(&self, state: &State, (partition, owner): (usize, Owner), steps: &mut Steps<State>) {
        for number in self.writes_of(partition).iter() {
            if state.clients.writes[number].fate == Fate::Invoked {
                let write = u8::try_from(number).expect("there are few writes");
                let mut next = state.clone();
                next.clients.writes[number].fate = Fate::Taken;
                next.owners[partition] = Some(Owner { phase: Phase::Asked { write }, ..owner });
                steps.add(next, || format!("{} takes w{number}", OWNERS[partition]));
            }
        }
    }

    fn answer(&self, state: &State, (partition, owner): (usize, Owner), steps: &mut Steps<State>) {
        let script = &self.config.script;
        let epoch = if partition == PARENT { 1 } else { 2 };
        for read in 0..script.reads.len() {
            let granted = state.clients.reads[read];
            if granted.progress != Progress::Granted || granted.epochs[0] != epoch {
                continue;
            }
            if !is_resolved(owner, granted.revision) {
                continue;
            }
            for place in (0..CHILDREN.len()).filter(|&k| partition == PARENT || CHILDREN[k] == partition) {
                if !state.clients.is_owed(script, read, place) {
                    continue;
                }
                let header = granted.revision;
                let shown = owner.known.iter().filter(|&w| script.writes[w].writes.has(place));
                let shown = shown.filter(|&w| state.clients.writes[w].revision <= header).collect();
                let mut next = state.clone();
                let content = |place, revision| self.content(state, place, revision);
                let answer = Answer { read, place, header, shown };
                let (violation, _) = next.clients.answer(script, answer, content);
                next.resolved[place] = next.resolved[place].max(header);
                steps.add_checked(next, violation, || {
                    format!("{} answers r{read} for key {place}: {header}, {shown}", OWNERS[partition])
                });
            }
        }
    }

    /// A watch of key 0 that resumes at the first revision is told of every change from the logs.
    fn resume_watch(&self, state: &State, (partition, owner): (usize, Owner), steps: &mut Steps<State>) {
        let serves = partition == PARENT || CHILDREN[0] == partition;
        if state.watches == 0 || !serves || owner.phase != Phase::Idle {
            return;
        }
        let lineage = [partition, PARENT];
        let logs = if self.keeps(Rule::ResumeFollowsTheLineage) { &lineage[..] } else { &lineage[..1] };
        let told: Set = logs.iter().flat_map(|&log| state.batches(log)).map(|batch| batch.0).collect();
        let missing = self.content(state, 0, owner.published).without(told);
        let violation = (!missing.is_empty()).then(|| {
            let particulars = format!("it is told of {told} up to {}, and not of {missing}", owner.published);
            Violation::new(Promise::WatchesMissNothing, particulars)
        });
        let mut next = state.clone();
        next.watches -= 1;
        steps.add_checked(next, violation, || format!("a watch of key 0 resumes at {}", OWNERS[partition]));
    }
}

fn is_resolved(owner: Owner, revision: u8) -> bool {
    match owner.phase {
        Phase::Idle => true,
        Phase::Committing { revision: its, .. } | Phase::Filling { revision: its, .. } => its > revision,
        Phase::Asked { .. } | Phase::Allocated { .. } | Phase::Held | Phase::Breaking => false,
    }
}

/// The owner sends a record to its next slot.
fn sent(state: &State, (partition, owner): (usize, Owner), phase: Phase, record: Record) -> State {
    let mut next = state.clone();
    let mut slots = [0; PARTITIONS];
    slots[partition] = owner.tail + 1;
    next.flying.push(Commit { slots, system: 0, record });
    next.owners[partition] = Some(Owner { phase, ..owner });
    next
}

fn settle(
    state: &State,
    (partition, owner): (usize, Owner),
    (write, revision): (u8, u8),
    steps: &mut Steps<State>,
) {
    let (who, number, slot) = (OWNERS[partition], usize::from(write), owner.tail + 1);
    let moved = Owner { tail: slot, phase: Phase::Idle, ..owner };
    let mut next = state.clone();
    match state.occupant(partition, slot) {
        Some(Record::Batch { .. }) => {
            let known = owner.known.with(number);
            next.owners[partition] = Some(Owner { known, published: revision, ..moved });
            let violation = next.clients.acknowledge(number, revision);
            steps.add_checked(next, violation, || format!("{who} acknowledges w{number} at {revision}"));
        }
        Some(found) => {
            next.owners[partition] = (found == Record::Filler).then_some(moved);
            next.clients.writes[number].fate = Fate::Failed;
            steps.add(next, || format!("{who} finds slot {slot} taken: w{number} failed"));
        }
        None if matches!(owner.phase, Phase::Committing { .. }) => {
            let phase = Phase::Filling { write, revision };
            let next = sent(state, (partition, owner), phase, Record::Filler);
            steps.add(next, || format!("{who} finds slot {slot} empty, sends a filler"));
        }
        None => {}
    }
}

/// The parent's owner, which holds its next slot: it finds the split there, or breaks the hold.
fn break_hold(state: &State, owner: Owner, steps: &mut Steps<State>) {
    let slot = owner.tail + 1;
    let mut next = state.clone();
    match state.occupant(PARENT, slot) {
        Some(Record::Split) => {
            next.owners[PARENT] = None;
            steps.add(next, || "the parent's owner finds the split in its slot, and is done".to_owned());
        }
        Some(_) => {
            next.owners[PARENT] = Some(Owner { tail: slot, phase: Phase::Idle, ..owner });
            steps.add(next, || "the parent's owner has broken its hold".to_owned());
        }
        None if owner.phase == Phase::Held => {
            let next = sent(state, (PARENT, owner), Phase::Breaking, Record::Filler);
            steps.add(next, || "the parent's owner waits no longer, sends a filler".to_owned());
        }
        None => {}
    }
}
