//! Owners of the user partition. Each of their commits is one step with a known outcome; the core has the rest.

use super::state::{Assignment, Entry, Owner, PROCESSES, Phase, Seat, State, UserSlot};
use super::{Steps, System};
use crate::protocol::clients::{Answer, Fate, Progress};
use crate::protocol::rule::Rule;
use crate::protocol::set::Set;
use crate::protocol::violation::{Promise, Violation};

impl System {
    pub(crate) fn owner_steps(&self, state: &State, frontend: usize, steps: &mut Steps<State>) {
        self.take_over(state, frontend, steps);
        let Some(owner) = state.seats[frontend].owner else { return };
        match owner.phase {
            Phase::Idle => self.take_write(state, frontend, owner, steps),
            Phase::Asked { .. } => {}
            Phase::Allocated { write, revision } => {
                self.commit(state, (frontend, owner), write, revision, steps);
            }
        }
        self.answer(state, frontend, owner, steps);
    }

    /// A frontend that follows partition 0 takes over what is assigned to it.
    fn take_over(&self, state: &State, frontend: usize, steps: &mut Steps<State>) {
        let seat = state.seats[frontend];
        if seat.owner.is_some_and(|owner| owner.phase != Phase::Idle) {
            return;
        }
        let sent = state.flying.iter().filter_map(|commit| match commit.record.entry {
            Entry::Assign(assignment) if !self.keeps(Rule::AssignmentIsToldWhenDurable) => Some(assignment),
            _ => None,
        });
        let heard = sent
            .chain([state.durable().1])
            .filter(|assignment| usize::from(assignment.owner) == frontend && assignment.epoch > seat.told);
        let Some(Assignment { epoch, .. }) = heard.min() else { return };
        let mut next = state.clone();
        if state.last_epoch() >= epoch {
            next.seats[frontend] = Seat { told: epoch, owner: None };
            steps.add(next, || format!("F{frontend} gives epoch {epoch} up: the log is past it"));
            return;
        }
        next.user_log.push(UserSlot::Takeover { epoch });
        let owner = Owner { epoch, tail: next.user_end(), known: next.content(u8::MAX), phase: Phase::Idle };
        next.seats[frontend] = Seat { told: epoch, owner: Some(owner) };
        steps.add(next, || format!("F{frontend} takes the partition over at epoch {epoch}"));
    }

    fn take_write(&self, state: &State, frontend: usize, owner: Owner, steps: &mut Steps<State>) {
        for number in 0..self.config.script.writes.len() {
            if state.clients.writes[number].fate == Fate::Invoked {
                let write = u8::try_from(number).expect("there are few writes");
                let mut next = state.clone();
                next.clients.writes[number].fate = Fate::Taken;
                next.seats[frontend].owner = Some(Owner { phase: Phase::Asked { write }, ..owner });
                steps.add(next, || format!("F{frontend} takes w{number} and asks for a revision"));
            }
        }
    }

    fn commit(
        &self,
        state: &State,
        (frontend, owner): (usize, Owner),
        write: u8,
        revision: u8,
        steps: &mut Steps<State>,
    ) {
        let number = usize::from(write);
        let mut next = state.clone();
        if state.user_end() != owner.tail {
            next.seats[frontend].owner = None;
            next.clients.writes[number].fate = Fate::Failed;
            steps.add(next, || format!("F{frontend} finds its slot taken and is deposed: w{number} failed"));
            return;
        }
        let last = state.last_revision();
        let breach = if revision <= last {
            Some(Violation::new(Promise::RevisionsIncrease, format!("revision {revision} follows {last}")))
        } else if revision <= state.resolved {
            let particulars = format!("revision {revision}, and {} was resolved", state.resolved);
            Some(Violation::new(Promise::ResolvedStaysResolved, particulars))
        } else {
            None
        };
        next.user_log.push(UserSlot::Batch { write, revision });
        next.clients.writes[number].revision = revision;
        let known = owner.known.with(number);
        next.seats[frontend].owner = Some(Owner { tail: owner.tail + 1, known, phase: Phase::Idle, ..owner });
        let late = next.clients.acknowledge(number, revision);
        steps.add_checked(next, breach.or(late), || {
            format!("F{frontend} commits w{number} at revision {revision} and acknowledges it")
        });
    }

    fn answer(&self, state: &State, frontend: usize, owner: Owner, steps: &mut Steps<State>) {
        for read in 0..self.config.script.reads.len() {
            let granted = state.clients.reads[read];
            let is_its_own = granted.progress == Progress::Granted && granted.epochs[0] == owner.epoch;
            if !is_its_own || owner.phase != Phase::Idle {
                continue;
            }
            let header = granted.revision;
            let shown: Set =
                owner.known.iter().filter(|&w| state.clients.writes[w].revision <= header).collect();
            let answer = Answer { read, place: 0, header, shown };
            let mut next = state.clone();
            let content = |_, revision| state.content(revision);
            let (violation, _) = next.clients.answer(&self.config.script, answer, content);
            next.resolved = next.resolved.max(header);
            steps.add_checked(next, violation, || {
                format!("F{frontend} answers r{read}: revision {header}, writes {shown}")
            });
        }
    }

    /// An answer of the leader that no owner can use any more is dropped.
    pub(crate) fn ask_again(&self, state: &State, steps: &mut Steps<State>) {
        for read in 0..self.config.script.reads.len() {
            let granted = state.clients.reads[read];
            let is_outdated = granted.progress == Progress::Granted
                && (0..PROCESSES).any(|process| {
                    state.lead(process).is_some_and(|lead| lead.assignment.epoch > granted.epochs[0])
                });
            if is_outdated {
                let mut next = state.clone();
                next.clients.ask_again(read);
                steps.add(next, || format!("the ask of r{read} is made again"));
            }
        }
    }
}

impl State {
    fn user_end(&self) -> u8 {
        u8::try_from(self.user_log.len()).expect("a run is short")
    }

    fn last_epoch(&self) -> u8 {
        let epochs = self.user_log.iter().filter_map(|slot| match slot {
            UserSlot::Takeover { epoch } => Some(*epoch),
            UserSlot::Batch { .. } => None,
        });
        epochs.max().unwrap_or(0)
    }

    fn batches(&self) -> impl Iterator<Item = (u8, u8)> {
        self.user_log.iter().filter_map(|slot| match slot {
            UserSlot::Takeover { .. } => None,
            UserSlot::Batch { write, revision } => Some((*write, *revision)),
        })
    }

    /// The last revision in the user partition's log.
    pub(crate) fn last_revision(&self) -> u8 {
        self.batches().map(|batch| batch.1).max().unwrap_or(0)
    }

    /// The writes at or below a revision.
    pub(crate) fn content(&self, revision: u8) -> Set {
        self.batches().filter(|batch| batch.1 <= revision).map(|batch| usize::from(batch.0)).collect()
    }

    pub(crate) fn copies(&self, write: usize) -> usize {
        self.batches().filter(|batch| usize::from(batch.0) == write).count()
    }
}
