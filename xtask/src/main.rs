//! The project's own commands, run as `cargo xtask COMMAND`.
//!
//! `test` is the one command that decides whether a change is good; CI runs it and nothing else. It needs Rust, Go, a
//! C and a C++ compiler, and nothing that has to be running. It depends on no crate of the product.
#![expect(clippy::print_stdout, reason = "a command for people at a terminal")]

mod bench;
mod context;
mod deny;
mod fuzz;
mod report;
mod steps;
mod tidy;
mod tikv;
mod tools;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::context::Context;
use crate::steps::{STEPS, Step};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The project's own commands")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run every check: format, lints, unit tests, documentation, and the suites against real clients
    Test(TestArgs),
    /// Play seeds of the simulation: `cargo xtask sim --help` says how
    #[command(disable_help_flag = true)]
    Sim {
        /// Arguments of the simulation
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Search the model of the fleet's protocol: `cargo xtask protocol --help` says how
    #[command(disable_help_flag = true)]
    Protocol {
        /// Arguments of the search
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Look for inputs that break what parses bytes from outside or from disk, or replay one
    Fuzz(fuzz::FuzzArgs),
    /// Measure Orlop beside etcd, kine and others: `cargo xtask bench --help` says how
    #[command(disable_help_flag = true)]
    Bench {
        /// Arguments of the measuring
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Check the rules of the house: file sizes, leftovers, paths, links
    Tidy,
    /// Start a TiKV cluster for trying things out: in memory, on loopback, until Ctrl-C
    Tikv(tikv::TikvArgs),
}

#[derive(Args)]
struct TestArgs {
    /// Run only these steps, in their usual order
    #[arg(long, value_delimiter = ',', value_name = "STEP", value_parser = steps::parse)]
    only: Vec<&'static Step>,
    /// Run the steps after a failed one too
    #[arg(long)]
    keep_going: bool,
    /// Print the names of the steps and what each does
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let context = Context::from_env();
    let passed = match Cli::parse().command {
        Command::Test(args) if args.list => {
            for step in STEPS {
                println!("{:<11} {}", step.name, step.about);
            }
            true
        }
        Command::Test(args) => {
            let chosen: Vec<_> =
                STEPS.iter().filter(|step| args.only.is_empty() || args.only.contains(step)).collect();
            report::run(&context, &chosen, args.keep_going)
        }
        Command::Sim { args } => told(steps::play(&context, &args)),
        Command::Protocol { args } => told(steps::check_protocol(&context, &args)),
        Command::Fuzz(args) => told(fuzz::command(&context, &args)),
        Command::Tikv(args) => told(tikv::run(&context, &args)),
        Command::Bench { args } => told(bench::command(&context, &args)),
        Command::Tidy => told(tidy::run(&context)),
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints what is wrong, and whether nothing was.
fn told(result: Result<(), String>) -> bool {
    if let Err(problems) = &result {
        println!("{problems}");
    }
    result.is_ok()
}
