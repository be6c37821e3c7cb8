//! Clients invoke; reads are answered at one revision, by who can prove that it is exact there.

use super::log::Kind;
use super::state::{FRONTENDS, Owner, Phase, Proposal, State};
use super::{Core, Steps};
use crate::protocol::clients::{Answer, PLACES, Progress};
use crate::protocol::rule::Rule;
use crate::protocol::set::Set;

impl Core {
    pub(crate) fn client_steps(&self, state: &State, steps: &mut Steps<State>) {
        let script = &self.config.script;
        for write in state.clients.next_writes(script) {
            let mut next = state.clone();
            next.clients.invoke_write(write);
            steps.add(next, || format!("a client sends w{write}"));
        }
        for read in state.clients.next_reads(script) {
            let mut next = state.clone();
            next.clients.invoke_read(read);
            steps.add(next, || format!("a client sends r{read}"));
        }
        for read in 0..script.reads.len() {
            self.ask_leader(state, read, steps);
            self.drop_outdated(state, read, steps);
            for place in (0..PLACES).filter(|&place| state.clients.is_owed(script, read, place)) {
                match state.clients.reads[read].progress {
                    Progress::Granted => {
                        self.answer_by_owner(state, (read, place), steps);
                        self.answer_by_others(state, (read, place), steps);
                    }
                    Progress::Invoked => self.answer_an_observer(state, (read, place), steps),
                    _ => {}
                }
            }
        }
    }

    /// The leader answers an ask for a read: its last revision, and the epochs that it confirms.
    fn ask_leader(&self, state: &State, read: usize, steps: &mut Steps<State>) {
        let may_ask = match state.clients.reads[read].progress {
            Progress::Invoked => true,
            Progress::NotInvoked => !self.keeps(Rule::AskServesOnlyThoseBefore),
            _ => false,
        };
        let places = self.config.script.reads[read];
        let is_confirmed = |p: usize| {
            let is_quiet = state.leader.proposals[p] == Proposal::None;
            is_quiet || !self.keeps(Rule::OldEpochIsNotConfirmed)
        };
        if !may_ask || !places.iter().all(is_confirmed) {
            return;
        }
        let mut next = state.clone();
        let mut epochs = [0; PLACES];
        for p in places.iter() {
            epochs[p] = state.leader.believed[p].epoch;
        }
        let revision = state.leader.current;
        next.clients.grant(read, revision, epochs);
        steps.add(next, || format!("the leader answers an ask for r{read}: R={revision}, epochs {epochs:?}"));
    }

    /// The confirmed epoch is over: nobody will answer this ask.
    fn drop_outdated(&self, state: &State, read: usize, steps: &mut Steps<State>) {
        let granted = &state.clients.reads[read];
        let is_outdated = granted.progress == Progress::Granted
            && (0..PLACES).any(|p| {
                state.clients.is_owed(&self.config.script, read, p)
                    && granted.epochs[p] != state.leader.believed[p].epoch
            });
        if is_outdated {
            let mut next = state.clone();
            next.clients.ask_again(read);
            steps.add(next, || format!("the ask of r{read} is made again"));
        }
    }

    fn answer_by_owner(&self, state: &State, (read, place): (usize, usize), steps: &mut Steps<State>) {
        let granted = &state.clients.reads[read];
        for frontend in 0..FRONTENDS {
            let Some(owner) = state.seats[frontend][place].owner() else { continue };
            let is_its_epoch = owner.epoch == granted.epochs[place];
            let may = is_its_epoch || !self.keeps(Rule::EpochIsConfirmed);
            if !may || !self.is_resolved(owner, granted.revision) {
                continue;
            }
            let is_newest = !self.keeps(Rule::OneRevisionForAllPartitions);
            let header = if is_newest { granted.revision.max(owner.published) } else { granted.revision };
            let shown = owner.known.iter().filter(|&w| state.clients.writes[w].revision <= header);
            let answer = Answer { read, place, header, shown: shown.collect() };
            let epoch = owner.epoch;
            self.answer(state, answer, steps, || format!("F{frontend} of epoch {epoch}"));
        }
    }

    /// Whether nothing of what the owner has begun can appear at or below a revision.
    fn is_resolved(&self, owner: Owner, revision: u8) -> bool {
        match owner.phase {
            Phase::Idle => true,
            Phase::Asked { .. } | Phase::Allocated { .. } => !self.keeps(Rule::OpenAskBlocksResolving),
            Phase::Committing { revision: its, .. } | Phase::Filling { revision: its, .. } => its > revision,
            Phase::Held { .. } | Phase::Breaking { .. } => !self.keeps(Rule::HolderDoesNotResolve),
        }
    }

    /// A replica that is resolved so far already needs to ask nobody.
    fn answer_by_others(&self, state: &State, (read, place): (usize, usize), steps: &mut Steps<State>) {
        let revision = state.clients.reads[read].revision;
        let shown = self.content(state, place, revision);
        let answer = Answer { read, place, header: revision, shown };
        if self.config.has_replicas && state.partitions[place].resolved >= revision {
            self.answer(state, answer, steps, || "a replica that is resolved so far".to_owned());
        }
        if !self.keeps(Rule::ResolveThenSnapshot) {
            self.answer(state, answer, steps, || "a frontend with a snapshot of the engine".to_owned());
        }
    }

    /// Without R1: an idle owner answers from its index, and asks nobody.
    fn answer_an_observer(&self, state: &State, (read, place): (usize, usize), steps: &mut Steps<State>) {
        if self.keeps(Rule::ObserverNeedsProof) {
            return;
        }
        for frontend in 0..FRONTENDS {
            let owner = state.seats[frontend][place].owner();
            if let Some(owner) = owner.filter(|owner| owner.phase == Phase::Idle) {
                let answer = Answer { read, place, header: owner.published, shown: owner.known };
                self.answer(state, answer, steps, || format!("F{frontend}, which asks nobody,"));
            }
        }
    }

    fn answer(&self, state: &State, answer: Answer, steps: &mut Steps<State>, who: impl FnOnce() -> String) {
        let script = &self.config.script;
        let mut next = state.clone();
        let content = |place, revision| self.content(state, place, revision);
        let (violation, header) = next.clients.answer(script, answer, content);
        let resolved = &mut next.partitions[answer.place].resolved;
        *resolved = answer.header.max(*resolved);
        for place in header.iter().flat_map(|_| script.reads[answer.read].iter()) {
            let resolved = &mut next.partitions[place].resolved;
            *resolved = header.unwrap_or(0).max(*resolved);
        }
        steps.add_checked(next, violation, || {
            let Answer { read, place, header, shown } = answer;
            format!("{} answers r{read} for P{}: revision {header}, writes {shown}", who(), place + 1)
        });
    }

    /// The writes that a partition has at or below a revision.
    pub(crate) fn content(&self, state: &State, place: usize, revision: u8) -> Set {
        let log = state.partitions[place].log.iter();
        log.filter(|record| record.kind == Kind::Batch && record.revision <= revision)
            .map(|record| usize::from(record.write))
            .filter(|&write| self.config.script.writes[write].writes.has(place))
            .collect()
    }
}
