//! The program `orlop-sim`: plays seeds, and says which of them went wrong.
#![expect(clippy::print_stdout, reason = "it speaks to the person or the program that started it")]

mod watchdog;

use std::process::ExitCode;

use base::{Clock, PlantedBug, SystemClock, plant};
use clap::Parser;
use sim::{Options, Report, run};

use crate::watchdog::Watchdog;

/// How much of a violation is printed in a list.
const VIOLATION_CHARS_MAX: usize = 100;

/// Plays seeds of the simulation; exits with 1 at the first one that goes wrong.
///
/// Example: orlop-sim --seeds 5000, and then orlop-sim --seed 1234 --words for one that went wrong.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Play this one seed
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// Play so many seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them; drawn when it is not given
    #[arg(long)]
    first: Option<u64>,
    /// Print what happened
    #[arg(long, requires = "seed")]
    words: bool,
    /// Kill the process before this step too
    #[arg(long, requires = "seed")]
    kill_at: Option<u64>,
    /// Play one seed once for each of its first so many steps, and kill the process before it
    #[arg(long, conflicts_with_all = ["kill_at", "words", "seeds"])]
    kill_at_each: Option<u64>,
    /// Plant a bug, which some seed then has to find
    #[arg(long, value_name = "BUG", value_parser = bug)]
    plant: Option<PlantedBug>,
    /// Plant one bug after the other, and play for each until a seed finds it: exits with 1 when none does
    #[arg(long, conflicts_with_all = ["seed", "plant", "kill_at_each"])]
    find_planted: bool,
}

/// A bug that the simulation can find: it plays on no disk.
fn bug(name: &str) -> Result<PlantedBug, String> {
    let names = || bugs().map(PlantedBug::name).collect::<Vec<_>>().join(", ");
    bugs()
        .find(|bug| bug.name() == name)
        .ok_or_else(|| format!("there is no such bug; there are {}", names()))
}

/// Every bug that it can find.
fn bugs() -> impl Iterator<Item = PlantedBug> {
    PlantedBug::ALL.into_iter().filter(|&bug| bug != PlantedBug::AckBeforeFsync)
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.find_planted {
        return find_planted(args.first.unwrap_or_else(drawn), args.seeds);
    }
    let _planted = args.plant.map(plant);
    let runs: Box<dyn Iterator<Item = (u64, Options)>> = match (args.seed, args.kill_at_each) {
        (seed, Some(steps)) => {
            let seed = seed.unwrap_or_else(drawn);
            println!("seed {seed}, killed before each of its first {steps} steps");
            Box::new(
                (0..steps).map(move |step| (seed, Options { kill_at: Some(step), ..Options::default() })),
            )
        }
        (Some(seed), None) => {
            Box::new(std::iter::once((seed, Options { words: args.words, kill_at: args.kill_at })))
        }
        (None, None) => {
            let first = args.first.unwrap_or_else(drawn);
            println!("seeds {first} to {}", first.saturating_add(args.seeds - 1));
            Box::new((first..first.saturating_add(args.seeds)).map(|seed| (seed, Options::default())))
        }
    };
    play(runs)
}

/// A seed that nobody has chosen: short enough to be typed.
fn drawn() -> u64 {
    base::Random::next_u64(&base::SystemRandom) % 1_000_000_000
}

fn play(runs: impl Iterator<Item = (u64, Options)>) -> ExitCode {
    let begun = SystemClock.now();
    let watchdog = Watchdog::start();
    let (mut count, mut steps, mut revisions, mut starts, mut owned) = (0u64, 0, 0, 0, 0);
    for (seed, options) in runs {
        watchdog.next(seed);
        let report = run(seed, options);
        print!("{}", report.words);
        count += 1;
        steps += report.steps;
        revisions += report.revision;
        starts += u64::from(report.starts);
        owned += report.owned;
        if let Some(violation) = &report.violation {
            println!("{}", wrong(&report, &options, violation));
            return ExitCode::FAILURE;
        }
    }
    let took = SystemClock.now().saturating_sub(begun).as_secs_f64();
    println!(
        "{count} runs passed, {steps} steps, {revisions} revisions, {owned} batches of owners beside the leader, {starts} starts of a \
         process, {took:.1} s, {:.0} runs a minute",
        count as f64 / took * 60.0
    );
    ExitCode::SUCCESS
}

/// Plays for each bug until a seed finds it, `seeds` of them at most.
fn find_planted(first: u64, seeds: u64) -> ExitCode {
    println!("seeds from {first} on, with a planted bug each:");
    let watchdog = Watchdog::start();
    // The last one takes thousands of seeds: a test of the partition finds it at once, and `--plant` whoever has time.
    for bug in bugs().filter(|&bug| bug != PlantedBug::UnpublishedShown) {
        let _planted = plant(bug);
        let play = |number| {
            let seed = first.saturating_add(number);
            watchdog.next(seed);
            (number + 1, run(seed, Options::default()))
        };
        let played = (0..seeds).map(play);
        let found = played.into_iter().find_map(|(number, report)| Some((number, report.violation?)));
        let Some((number, violation)) = found else {
            println!("{} was not found by {seeds} seeds", bug.name());
            return ExitCode::FAILURE;
        };
        let violation: String = violation.chars().take(VIOLATION_CHARS_MAX).collect();
        println!("  {:<22} seed {number:>4}: {violation}", bug.name());
    }
    ExitCode::SUCCESS
}

fn wrong(report: &Report, options: &Options, violation: &str) -> String {
    let kill = options.kill_at.map_or_else(String::new, |step| format!(" --kill-at {step}"));
    format!(
        "seed {} went wrong after {} steps: {violation}\nto see it again: cargo xtask sim --seed {}{kill} --words",
        report.seed, report.steps, report.seed
    )
}
