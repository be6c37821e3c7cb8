//! A leader writes heartbeats, ceilings and assignments into partition 0, and answers while its lease lasts.

use super::state::{Assignment, Commit, Entry, Lead, PROCESSES, Phase, Process, Slot, State};
use super::{Steps, System, name};
use crate::protocol::clients::Progress;
use crate::protocol::rule::Rule;

/// How far a leader raises its ceiling at once.
const CEILING_STEP: u8 = 1;

impl System {
    pub(crate) fn leader_steps(&self, state: &State, process: usize, steps: &mut Steps<State>) {
        let Some(lead) = state.lead(process) else { return };
        match lead.flight {
            None => self.propose(state, process, lead, steps),
            Some((entry, begun)) => self.learn(state, (process, lead), entry, begun, steps),
        }
        let has_lease = state.now < lead.until || !self.keeps(Rule::LeaseIsCheckedAtTheAnswer);
        if has_lease {
            self.allocate(state, process, lead, steps);
            self.grant_reads(state, process, lead, steps);
        }
    }

    fn propose(&self, state: &State, process: usize, lead: Lead, steps: &mut Steps<State>) {
        let Assignment { epoch, owner } = lead.assignment;
        let heartbeat = (state.heartbeats > 0).then_some(Entry::Heartbeat);
        let is_asked = state
            .seats
            .iter()
            .any(|seat| seat.owner.is_some_and(|owner| matches!(owner.phase, Phase::Asked { .. })));
        let ceiling = (is_asked && lead.current >= lead.ceiling)
            .then_some(Entry::Ceiling(lead.current.max(lead.ceiling) + CEILING_STEP));
        let assign =
            (state.moves > 0).then_some(Entry::Assign(Assignment { epoch: epoch + 1, owner: 1 - owner }));
        let release = (state.releases > 0).then_some(Entry::Released);
        for entry in [heartbeat, ceiling, assign, release].into_iter().flatten() {
            let mut next = state.clone();
            match entry {
                Entry::Heartbeat => next.heartbeats -= 1,
                Entry::Assign(_) => next.moves -= 1,
                Entry::Released => next.releases -= 1,
                Entry::Ceiling(_) | Entry::Takeover => {}
            }
            let slot = lead.tail + 1;
            next.flying.push(Commit { slot, record: Slot { by: name(process), entry } });
            let stops = entry == Entry::Released && self.keeps(Rule::LeaderStopsBeforeItReleases);
            next.processes[process] = match stops {
                true => Process::Following,
                false => Process::Leading(Lead { flight: Some((entry, state.now)), ..lead }),
            };
            steps.add(next, || format!("L{process} sends {} to slot {slot}", told(entry)));
        }
    }

    /// The leader reads in its slot what became of its batch.
    fn learn(
        &self,
        state: &State,
        (process, lead): (usize, Lead),
        entry: Entry,
        begun: u8,
        steps: &mut Steps<State>,
    ) {
        let slot = lead.tail + 1;
        let Some(found) = state.log.get(usize::from(slot) - 1) else { return };
        let mut next = state.clone();
        if *found != (Slot { by: name(process), entry }) {
            next.processes[process] = Process::Following;
            steps.add(next, || format!("L{process} finds slot {slot} taken: it leads no more"));
            return;
        }
        let start = if self.keeps(Rule::LeaseRunsFromTheStart) { begun } else { state.now };
        let until = lead.until.max(start + self.config.lease);
        let mut learned = Lead { until, tail: slot, flight: None, ..lead };
        match entry {
            Entry::Ceiling(ceiling) => learned.ceiling = ceiling,
            Entry::Assign(assignment) => learned.assignment = assignment,
            Entry::Heartbeat | Entry::Takeover | Entry::Released => {}
        }
        next.processes[process] = Process::Leading(learned);
        steps.add(next, || format!("L{process} learns that slot {slot} is its own, leads until {until}"));
    }

    fn allocate(&self, state: &State, process: usize, lead: Lead, steps: &mut Steps<State>) {
        if lead.current >= lead.ceiling && self.keeps(Rule::CeilingIsDurableFirst) {
            return;
        }
        for frontend in 0..PROCESSES {
            let Some(owner) = state.seats[frontend].owner else { continue };
            let Phase::Asked { write } = owner.phase else { continue };
            let mut next = state.clone();
            let revision = lead.current + 1;
            next.processes[process] = Process::Leading(Lead { current: revision, ..lead });
            if let Some(owner) = &mut next.seats[frontend].owner {
                owner.phase = Phase::Allocated { write, revision };
            }
            steps.add(next, || format!("L{process} gives F{frontend} revision {revision}"));
        }
    }

    fn grant_reads(&self, state: &State, process: usize, lead: Lead, steps: &mut Steps<State>) {
        let moves = matches!(lead.flight, Some((Entry::Assign(_), _)));
        if moves && self.keeps(Rule::OldEpochIsNotConfirmed) {
            return;
        }
        for read in 0..self.config.script.reads.len() {
            if state.clients.reads[read].progress == Progress::Invoked {
                let (revision, epoch) = (lead.current, lead.assignment.epoch);
                let mut next = state.clone();
                next.clients.grant(read, revision, [epoch, 0]);
                steps.add(next, || {
                    format!("L{process} answers the ask of r{read}: R={revision}, epoch {epoch}")
                });
            }
        }
    }
}

/// An entry, in words.
pub(crate) fn told(entry: Entry) -> String {
    match entry {
        Entry::Takeover => "its takeover".to_owned(),
        Entry::Heartbeat => "a heartbeat".to_owned(),
        Entry::Released => "that it has stopped".to_owned(),
        Entry::Ceiling(ceiling) => format!("the ceiling {ceiling}"),
        Entry::Assign(Assignment { epoch, owner }) => format!("the assignment of epoch {epoch} to F{owner}"),
    }
}
