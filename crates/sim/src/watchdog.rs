//! Ends the program when a run does not end: code that spins takes no steps that could be counted.

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// After so many looks at the same run it is held for stuck: a run takes milliseconds, some seconds on a busy machine.
const LOOKS_MAX: u32 = 12;

/// Looks at the number of the run that is played.
pub(crate) struct Watchdog {
    run: Arc<AtomicU64>,
    seed: Arc<AtomicU64>,
}

impl Watchdog {
    pub(crate) fn start() -> Watchdog {
        let (run, seed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let watchdog = Watchdog { run: run.clone(), seed: seed.clone() };
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends with the program, which it may have to end itself"
        )]
        thread::spawn(move || look(&run, &seed));
        watchdog
    }

    /// Notes that the next run begins.
    pub(crate) fn next(&self, seed: u64) {
        self.seed.store(seed, Ordering::SeqCst);
        self.run.fetch_add(1, Ordering::SeqCst);
    }
}

fn look(run: &AtomicU64, seed: &AtomicU64) {
    let (mut last, mut looks) = (0, 0);
    loop {
        thread::sleep(LOOK_EVERY);
        let now = run.load(Ordering::SeqCst);
        looks = if now == last { looks + 1 } else { 0 };
        last = now;
        if looks >= LOOKS_MAX && now > 0 {
            let seed = seed.load(Ordering::SeqCst);
            println!(
                "seed {seed} does not end: something spins without a step; look at it with a debugger under\n\
                 cargo xtask sim --seed {seed}"
            );
            process::exit(1);
        }
    }
}
