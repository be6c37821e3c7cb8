//! Runs steps one after the other and says what came of them.

use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{process, thread};

use crate::context::Context;
use crate::steps::Step;

/// No step takes half as long, also with nothing built before and on a busy machine. Who waits for the checks should be
/// told which step hangs, and not only that time is up.
const STEP_TIME_MAX: Duration = Duration::from_secs(40 * 60);

enum Outcome {
    Passed(Duration),
    Failed(Duration, String),
    NotRun,
}

/// Runs the steps in order and returns whether all of them passed.
pub(crate) fn run(context: &Context, steps: &[&'static Step], keep_going: bool) -> bool {
    let mut outcomes = Vec::with_capacity(steps.len());
    let mut failed = false;
    for step in steps {
        if failed && !keep_going {
            outcomes.push(Outcome::NotRun);
            continue;
        }
        println!("\n==> {}: {}", step.name, step.about);
        let begin = now();
        let watched = watch(step.name);
        let result = (step.run)(context);
        drop(watched);
        let outcome = match result {
            Ok(()) => Outcome::Passed(begin.elapsed()),
            Err(error) => Outcome::Failed(begin.elapsed(), error),
        };
        if let Outcome::Failed(_, error) = &outcome {
            failed = true;
            println!("{error}");
        }
        outcomes.push(outcome);
    }
    println!("\nSummary");
    for (step, outcome) in steps.iter().zip(&outcomes) {
        match outcome {
            Outcome::Passed(took) => println!("  {:<11} passed   {:>7.1} s", step.name, took.as_secs_f64()),
            Outcome::Failed(took, error) => {
                let first = error.lines().next().unwrap_or_default();
                println!("  {:<11} FAILED   {:>7.1} s  {first}", step.name, took.as_secs_f64());
            }
            Outcome::NotRun => println!("  {:<11} not run", step.name),
        }
    }
    !failed
}

/// Ends the program with a word about the step, unless what is returned is dropped before the step's time is up.
fn watch(step: &'static str) -> mpsc::Sender<()> {
    let (running, ended) = mpsc::channel();
    #[expect(clippy::disallowed_methods, reason = "it ends with the step, or ends the program")]
    thread::spawn(move || {
        if ended.recv_timeout(STEP_TIME_MAX) == Err(mpsc::RecvTimeoutError::Timeout) {
            println!("\nstep {step} is not over after {} minutes: it hangs", STEP_TIME_MAX.as_secs() / 60);
            process::exit(1);
        }
    });
    running
}

#[expect(clippy::disallowed_methods, reason = "tells people how long a step took; nothing to simulate")]
fn now() -> Instant {
    Instant::now()
}
