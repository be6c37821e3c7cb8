//! A switch for faults of the engine, so that a suite can let a whole process meet them. Only in builds with the
//! feature `planted`, which no build that is meant to serve may have.

use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use engine::Engine;
use engine::fault::{CommitFault, FaultEngine, FaultRates, ReadFault};

/// The environment variable: `seed=1,refused=20,delayed=100,delay_max_ms=50`, names and rates as in [`FaultRates`].
const VARIABLE: &str = "ENGINE_FAULTS";

/// Founding is one batch, and each takeover is one.
const COMMITS_TO_OPEN: usize = 3;
/// More than opening a store of a few thousand records needs.
const READS_TO_OPEN: usize = 40;

/// Wraps `engine`, if the environment asks for faults.
pub(crate) fn wrap(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>) -> Result<Arc<dyn Engine>, String> {
    let Ok(text) = std::env::var(VARIABLE) else { return Ok(engine) };
    let (rates, seed) = parse(&text).map_err(|reason| format!("{VARIABLE}: {reason}"))?;
    let delay = move |time| {
        let clock = clock.clone();
        let sleep = async move { clock.sleep_until(clock.now() + time).await };
        Box::pin(sleep) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>
    };
    let engine = FaultEngine::with_delay(engine, Arc::new(delay));
    // A store is founded and opened first: a process that cannot start shows nothing.
    engine.script_commits([CommitFault::Pass; COMMITS_TO_OPEN]);
    engine.script_reads([ReadFault::Pass; READS_TO_OPEN]);
    engine.inject(rates, seed);
    Ok(Arc::new(engine))
}

fn parse(text: &str) -> Result<(FaultRates, u64), String> {
    let (mut rates, mut seed) = (FaultRates::default(), 0);
    for part in text.split(',') {
        let expected = || format!("{part:?}: expected the name of a rate, = and a number");
        let (name, number) = part.split_once('=').ok_or_else(expected)?;
        let number: u64 = number.parse().map_err(|_| expected())?;
        let rate = match name {
            "seed" => {
                seed = number;
                continue;
            }
            "delay_max_ms" => {
                rates.delay_max = Duration::from_millis(number);
                continue;
            }
            "refused" => &mut rates.refused,
            "no_space" => &mut rates.no_space,
            "undetermined_applied" => &mut rates.undetermined_applied,
            "undetermined_not_applied" => &mut rates.undetermined_not_applied,
            "undetermined_applied_later" => &mut rates.undetermined_applied_later,
            "read_unavailable" => &mut rates.read_unavailable,
            "delayed" => &mut rates.delayed,
            _ => return Err(expected()),
        };
        *rate = u16::try_from(number).ok().filter(|rate| *rate < 1000).ok_or_else(expected)?;
    }
    Ok((rates, seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_what_is_not_known_is_refused() {
        let rates = FaultRates {
            refused: 20,
            undetermined_applied: 5,
            delay_max: Duration::from_millis(30),
            ..FaultRates::default()
        };
        assert_eq!(parse("seed=7,refused=20,undetermined_applied=5,delay_max_ms=30"), Ok((rates, 7)));
        for wrong in ["", "refused", "refused=x", "refused=1000", "lost=1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
