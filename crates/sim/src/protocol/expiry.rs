//! When a lease runs out: a client keeps it alive, the leader renews it in memory, another leader takes over.
//!
//! Durable are the granted time to live and that the lease is live, and no clock reading. That a leader's own lease is
//! sound is the `system` model's matter: here another process leads when it is over, and not before.

use super::checker::{Model, Steps};
use super::rule::{Rule, Rules};
use super::violation::{Promise, Violation};

const PROCESSES: usize = 2;

/// How large a run is.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// How long the client's lease lives, how long a leader leads without a heartbeat, and how long the clock runs.
    pub(crate) ttl: u8,
    pub(crate) lead: u8,
    pub(crate) time: u8,
    pub(crate) keep_alives: u8,
}

/// Expiry with a configuration, and perhaps without a rule.
pub(crate) struct Expiry {
    pub(crate) config: Config,
    pub(crate) rules: Rules,
}

/// A keep-alive that a process deals with.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum KeepAlive {
    /// The lease is renewed in memory; whether the process still leads is looked at next.
    Renewed { at: u8 },
    /// It was looked at first, and the lease is renewed next (only without R13).
    Checked,
}

/// A process that leads, or did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Process {
    has_led: bool,
    /// When its lead ends, and when the client's lease runs out by its table.
    until: u8,
    runs_out: u8,
    keep_alive: Option<KeepAlive>,
}

/// The whole run.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    now: u8,
    processes: [Process; PROCESSES],
    /// Who wrote partition 0's last takeover.
    leader: usize,
    /// The last time at which the client's lease was renewed and the client knows it.
    kept: u8,
    keep_alives: u8,
    is_over: bool,
}

impl Expiry {
    fn lead_steps(&self, state: &State, steps: &mut Steps<State>) {
        let leader = state.leader;
        let Process { until, runs_out, .. } = state.processes[leader];
        if state.now < until && until < state.now + self.config.lead {
            let mut next = state.clone();
            next.processes[leader].until = state.now + self.config.lead;
            steps.add(next, || format!("L{leader} leads on until {}", state.now + self.config.lead));
        }
        if state.now < until && state.now >= runs_out {
            let mut next = state.clone();
            next.is_over = true;
            let promised = state.kept + self.config.ttl;
            let violation = (state.now < promised).then(|| {
                let particulars = format!("at {}, and it was kept alive until {promised}", state.now);
                Violation::new(Promise::KeptLeasesLive, particulars)
            });
            steps.add_checked(next, violation, || {
                format!("L{leader} revokes the lease: it ran out at {runs_out}")
            });
        }
        if state.now >= until && leader + 1 < PROCESSES {
            let mut next = state.clone();
            next.leader = leader + 1;
            let is_full = self.rules.keeps(Rule::NewLeaderGivesTheFullTime);
            let runs_out = self.config.ttl + if is_full { state.now } else { 0 };
            let until = state.now + self.config.lead;
            next.processes[leader + 1] = Process { has_led: true, until, runs_out, keep_alive: None };
            steps.add(next, || format!("L{} leads until {until}, the lease until {runs_out}", leader + 1));
        }
    }

    /// A keep-alive reaches a process that leads, or believes it.
    fn keep_alive_steps(&self, state: &State, process: usize, steps: &mut Steps<State>) {
        let (ttl, now) = (self.config.ttl, state.now);
        let Process { until, keep_alive, has_led, .. } = state.processes[process];
        if !has_led {
            return;
        }
        let mut next = state.clone();
        let renews_first = self.rules.keeps(Rule::LeadIsCheckedAfterRenewing);
        match keep_alive {
            None if state.keep_alives > 0 => {
                if renews_first {
                    next.processes[process].runs_out = now + ttl;
                    next.processes[process].keep_alive = Some(KeepAlive::Renewed { at: now });
                } else if now < until {
                    next.processes[process].keep_alive = Some(KeepAlive::Checked);
                } else {
                    return;
                }
                next.keep_alives -= 1;
                steps.add(next, || format!("a keep-alive comes to L{process}"));
            }
            None => {}
            Some(KeepAlive::Renewed { at }) => {
                next.processes[process].keep_alive = None;
                if now < until {
                    next.kept = state.kept.max(at);
                }
                let word = if now < until { "acknowledges" } else { "refuses" };
                steps.add(next, || format!("L{process} {word} the keep-alive of {at}"));
            }
            Some(KeepAlive::Checked) => {
                next.processes[process].keep_alive = None;
                next.processes[process].runs_out = now + ttl;
                next.kept = now;
                steps.add(next, || {
                    format!("L{process} renews the lease, acknowledges the keep-alive of {now}")
                });
            }
        }
    }
}

impl Model for Expiry {
    type State = State;

    fn start(&self) -> State {
        let first =
            Process { has_led: true, until: self.config.lead, runs_out: self.config.ttl, keep_alive: None };
        State {
            now: 0,
            processes: [first, Process::default()],
            leader: 0,
            kept: 0,
            keep_alives: self.config.keep_alives,
            is_over: false,
        }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        if state.is_over {
            return;
        }
        if state.now < self.config.time {
            let mut next = state.clone();
            next.now += 1;
            steps.add(next, || format!("it is {}", state.now + 1));
        }
        self.lead_steps(state, steps);
        for process in 0..PROCESSES {
            self.keep_alive_steps(state, process, steps);
        }
    }

    fn is_answered(&self, state: &State) -> bool {
        state.is_over
    }

    fn must_stay_answerable(&self) -> bool {
        false
    }
}
