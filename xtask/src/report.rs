//! Runs steps one after the other and says what came of them.

use std::time::{Duration, Instant};

use crate::context::Context;
use crate::steps::Step;

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
        let outcome = match (step.run)(context) {
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

#[expect(clippy::disallowed_methods, reason = "tells people how long a step took; nothing to simulate")]
fn now() -> Instant {
    Instant::now()
}
