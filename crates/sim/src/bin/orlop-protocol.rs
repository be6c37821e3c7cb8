//! The program `orlop-protocol`: searches the model of the fleet's protocol.
#![expect(clippy::print_stdout, reason = "it speaks to the person or the program that started it")]

use std::process::ExitCode;

use base::{Clock, SystemClock};
use clap::Parser;
use sim::protocol::{Configuration, Report, Rule, Size, all, named};

/// Searches the model of the fleet's protocol, which must break no promise; and without each of its rules, which must.
///
/// Example: orlop-protocol --config moves --without takeover-compares-epochs
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Search this configuration only
    #[arg(long, value_parser = configuration)]
    config: Option<Configuration>,
    /// Take this rule out, and print how the promise is broken
    #[arg(long, value_parser = rule)]
    without: Option<Rule>,
    /// Search the large configurations too: minutes, and gigabytes of memory
    #[arg(long)]
    large: bool,
    /// Stop a search that has found so many states
    #[arg(long, default_value_t = 20_000_000)]
    states: usize,
    /// Print the configurations and the rules
    #[arg(long)]
    list: bool,
}

fn configuration(name: &str) -> Result<Configuration, String> {
    named(name).ok_or_else(|| {
        let names: Vec<_> = all().iter().map(|configuration| configuration.name).collect();
        format!("there is no such configuration; there are {}", names.join(", "))
    })
}

fn rule(name: &str) -> Result<Rule, String> {
    Rule::named(name).ok_or_else(|| "there is no such rule; --list prints them".to_owned())
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        list();
        return ExitCode::SUCCESS;
    }
    let is_good = match (&args.config, args.without) {
        (config, Some(rule)) => {
            let shown_in = || named(rule.shown_in()).into_iter().next();
            config.clone().or_else(shown_in).is_some_and(|config| without(&config, rule, args.states, true))
        }
        (Some(config), None) => keeping_all(config, args.states),
        (None, None) => everything(&args),
    };
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All configurations with all rules, then each rule taken out where that shows.
fn everything(args: &Args) -> bool {
    let configurations = all().into_iter().filter(|config| args.large || config.size < Size::Large);
    let mut is_good = true;
    for config in configurations {
        is_good &= keeping_all(&config, args.states);
    }
    println!();
    for rule in Rule::all() {
        is_good &=
            configuration(rule.shown_in()).is_ok_and(|config| without(&config, rule, args.states, false));
    }
    is_good
}

/// Whether a configuration breaks no promise.
fn keeping_all(config: &Configuration, states: usize) -> bool {
    let report = search(config, None, states);
    if let Some(found) = &report.found {
        println!("{found}");
    }
    report.found.is_none()
}

/// Whether a configuration breaks the promise that it has to break without a rule.
fn without(config: &Configuration, rule: Rule, states: usize, is_told: bool) -> bool {
    let report = search(config, Some(rule), states);
    let Some(found) = &report.found else {
        println!("nothing is broken without {}", rule.name());
        return false;
    };
    if is_told {
        println!("without the rule: {}\n{found}", rule.says());
    } else if found.violation.promise != rule.breaks() {
        println!("another promise was expected: {}\n{found}", rule.breaks().words());
        return false;
    }
    true
}

fn search(config: &Configuration, without: Option<Rule>, states: usize) -> Report {
    let begun = SystemClock.now();
    let report = config.search(without, states);
    let took = SystemClock.now().saturating_sub(begun).as_secs_f64();
    let name = without.map_or_else(|| config.name.to_owned(), |rule| format!("without {}", rule.name()));
    println!("{name:<44} {report}, {took:.1} s");
    report
}

fn list() {
    for config in all() {
        println!("{:<22} {:?}: {}", config.name, config.size, config.about);
    }
    println!();
    for rule in Rule::all() {
        println!("{:<38} {:<8} {} ({})", rule.name(), rule.number(), rule.says(), rule.shown_in());
    }
}
