//! How a process comes to lead: it sees the end of partition 0's log, waits a whole lease, and takes the next slot.

use super::state::{Commit, Entry, Lead, PROCESSES, Process, Slot, State};
use super::{Steps, System, name};
use crate::protocol::rule::Rule;

impl System {
    pub(crate) fn candidate_steps(&self, state: &State, process: usize, steps: &mut Steps<State>) {
        let now = state.now;
        let become_ = |new| {
            let mut next = state.clone();
            next.processes[process] = new;
            next
        };
        match state.processes[process] {
            Process::Following => {
                let next = become_(Process::Polling { begun: now });
                steps.add(next, || format!("L{process} begins to look at the end of partition 0"));
            }
            Process::Polling { begun } => {
                let end = state.end();
                let next = become_(Process::Polled { begun, end });
                steps
                    .add(next, || format!("the engine shows L{process} that partition 0 ends at slot {end}"));
            }
            Process::Polled { begun, end } => {
                let since = if self.keeps(Rule::SilenceIsTimedFromThePollsEnd) { now } else { begun };
                let next = become_(Process::Waiting { end, since });
                steps.add(next, || format!("L{process} has seen slot {end}, and waits from {since} on"));
            }
            Process::Waiting { end, since } => {
                let is_released = state.log[usize::from(end) - 1].entry == Entry::Released;
                let waits = !is_released && self.keeps(Rule::LeaderFollowsSilence);
                let silence = if waits { self.config.lease } else { 0 };
                if now >= since + silence {
                    let next = self.stand(state, process, end + 1);
                    steps.add(next, || format!("L{process} sends its takeover to slot {}", end + 1));
                }
            }
            Process::Standing { slot, begun } => self.learn_takeover(state, process, (slot, begun), steps),
            Process::Leading(_) => {}
        }
    }

    fn stand(&self, state: &State, process: usize, slot: u8) -> State {
        let mut next = state.clone();
        next.processes[process] = Process::Standing { slot, begun: state.now };
        let record = Slot { by: name(process), entry: Entry::Takeover };
        next.flying.push(Commit { slot, record });
        next
    }

    fn learn_takeover(
        &self,
        state: &State,
        process: usize,
        (slot, begun): (u8, u8),
        steps: &mut Steps<State>,
    ) {
        let Some(found) = state.log.get(usize::from(slot) - 1) else { return };
        let mut next = state.clone();
        if *found != (Slot { by: name(process), entry: Entry::Takeover }) {
            if self.keeps(Rule::ConflictWaitsAgain) {
                next.processes[process] = Process::Following;
                steps.add(next, || format!("L{process} finds slot {slot} taken, and begins again"));
            } else {
                let slot = state.end() + 1;
                let next = self.stand(state, process, slot);
                steps.add(next, || format!("L{process} finds its slot taken, tries slot {slot} at once"));
            }
            return;
        }
        if state.end() != slot {
            next.processes[process] = Process::Following;
            steps.add(next, || format!("L{process} gives up: its takeover is not the last slot"));
            return;
        }
        let (ceiling, assignment) = state.durable();
        let current =
            if self.keeps(Rule::NewLeaderStartsAboveTheCeiling) { ceiling } else { state.last_revision() };
        let until = begun + self.config.lease;
        let lead = Lead { until, tail: slot, current, ceiling, assignment, flight: None };
        next.processes[process] = Process::Leading(lead);
        steps.add(next, || format!("L{process} leads until {until}, its last revision is {current}"));
    }

    /// Time passes, for everybody, or for all but a process whose machine is stopped.
    pub(crate) fn tick(&self, state: &State, steps: &mut Steps<State>) {
        if state.now == self.config.time {
            return;
        }
        let mut next = state.clone();
        next.now += 1;
        let now = next.now;
        steps.add(next.clone(), || format!("it is {now}"));
        if self.keeps(Rule::ClocksRunThroughSuspends) {
            return;
        }
        for process in 0..PROCESSES {
            if let Some(lead) = state.lead(process) {
                let mut next = next.clone();
                next.processes[process] = Process::Leading(Lead { until: lead.until + 1, ..lead });
                steps.add(next, || format!("it is {now}, and L{process}'s clock stood still"));
            }
        }
    }
}
