use std::time::Duration;

use base::Failure;
use server::Departure;

use crate::config::{Config, EngineKind};

/// The pause before a server comes back: doubled each time, up to the maximum, so that what fails at once again does not
/// fill the log.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// One that has served so long has not failed at once.
const LASTED_MIN: Duration = Duration::from_secs(60);
/// For how many leases a leader that was cut off from the others lets them lead.
const STAND_OFF_LEASES: u32 = 2;

/// Whether a server that has failed comes back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Return {
    /// After this pause.
    After(Duration),
    /// No: the process ends.
    Never,
}

/// Decides whether, when and how a server comes back.
#[derive(Debug)]
pub(super) struct Comeback {
    is_one_of_several: bool,
    leader_lease: Duration,
    pause: Duration,
    stand_after: Duration,
    is_first: bool,
}

impl Comeback {
    pub(super) fn new(config: &Config) -> Comeback {
        Comeback {
            is_one_of_several: config.engine == EngineKind::Tikv,
            leader_lease: config.leader_lease,
            pause: PAUSE_MIN,
            stand_after: Duration::ZERO,
            is_first: true,
        }
    }

    /// Whether the server has not failed yet.
    pub(super) fn is_first(&self) -> bool {
        self.is_first
    }

    /// For how long the next one lets others lead.
    pub(super) fn stand_after(&self) -> Duration {
        self.stand_after
    }

    /// What becomes of a server that failed, after it has served for `lasted`.
    pub(super) fn decide(
        &mut self,
        failure: &Failure,
        departure: Option<Departure>,
        lasted: Duration,
    ) -> Return {
        self.is_first = false;
        self.stand_after = Duration::ZERO;
        // A panic is a mistake in the program: what it knows is not believed any more.
        if !self.is_one_of_several || failure.reason.contains("panicked") {
            return Return::Never;
        }
        match departure {
            Some(Departure::Refused(_)) => return Return::Never,
            Some(Departure::CutOff) => self.stand_after = self.leader_lease * STAND_OFF_LEASES,
            None => {}
        }
        if lasted >= LASTED_MIN {
            self.pause = PAUSE_MIN;
        }
        let pause = self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Return::After(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(2);

    fn one_of_several() -> Comeback {
        Comeback {
            is_one_of_several: true,
            leader_lease: LEASE,
            pause: PAUSE_MIN,
            stand_after: Duration::ZERO,
            is_first: true,
        }
    }

    fn failure(reason: &str) -> Failure {
        Failure { task: "sequencer", reason: reason.to_owned() }
    }

    #[test]
    fn one_that_was_deposed_comes_back_ever_later_until_it_lasts() {
        let mut comeback = one_of_several();
        let mut decide = |secs| comeback.decide(&failure("deposed"), None, Duration::from_secs(secs));
        assert_eq!(decide(1), Return::After(PAUSE_MIN));
        assert_eq!(decide(1), Return::After(PAUSE_MIN * 2));
        for _ in 0..20 {
            decide(1);
        }
        assert_eq!(decide(1), Return::After(PAUSE_MAX));
        assert_eq!(decide(60), Return::After(PAUSE_MIN));
        assert!(!comeback.is_first() && comeback.stand_after().is_zero());
    }

    #[test]
    fn one_that_was_cut_off_lets_others_lead_once() {
        let mut comeback = one_of_several();
        comeback.decide(&failure("cut off"), Some(Departure::CutOff), Duration::ZERO);
        assert_eq!(comeback.stand_after(), LEASE * 2);
        comeback.decide(&failure("deposed"), None, Duration::ZERO);
        assert!(comeback.stand_after().is_zero());
    }

    #[test]
    fn one_that_is_alone_or_not_wanted_or_broken_does_not_come_back() {
        let refused = Some(Departure::Refused("two of one name".to_owned()));
        assert_eq!(one_of_several().decide(&failure("x"), refused, Duration::ZERO), Return::Never);
        let broken = failure("it panicked: an assertion");
        assert_eq!(one_of_several().decide(&broken, None, Duration::ZERO), Return::Never);
        let mut alone = Comeback { is_one_of_several: false, ..one_of_several() };
        assert_eq!(alone.decide(&failure("disk on fire"), None, Duration::ZERO), Return::Never);
    }
}
