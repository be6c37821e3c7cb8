//! What an operator asks the program for, beside serving: one file for each command.
//!
//! A server's settings have a parser of their own ([`crate::config`]); a command has few arguments, and clap reads them.

mod backup;
mod bar;
mod check;
mod client;
mod completions;
mod dump;
mod import;
mod log;
mod man;
mod page;
mod restore;
mod store;
pub(crate) mod tree;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use layout::KeySpace;

use crate::config::{Problems, Source};
use crate::console;
pub use backup::BackupArguments;
pub use check::CheckArguments;
pub use completions::CompletionsArguments;
pub use dump::{DecodeArguments, DumpArguments};
pub use import::ImportArguments;
pub use log::LogArguments;
pub use man::ManArguments;
pub use page::commands_page;
pub use restore::RestoreArguments;

#[derive(Debug, Parser)]
#[command(name = "orlop", bin_name = "orlop", disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    command: OperatorCommand,
}

/// A command for operators.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum OperatorCommand {
    /// Write the state of a running store at one revision into a file
    #[command(long_about = backup::ABOUT, after_long_help = backup::DETAILS)]
    Backup(BackupArguments),
    /// Check every record of a store that no server changes
    #[command(long_about = check::ABOUT, after_long_help = check::DETAILS)]
    Check(CheckArguments),
    /// Print a script that makes a shell complete the command line
    #[command(long_about = completions::ABOUT, after_long_help = completions::DETAILS)]
    Completions(CompletionsArguments),
    /// Show which Kubernetes object a value holds
    #[command(long_about = dump::ABOUT_DECODE, after_long_help = dump::DETAILS_DECODE)]
    Decode(DecodeArguments),
    /// Print the records of a store as they are
    #[command(long_about = dump::ABOUT, after_long_help = dump::DETAILS)]
    Dump(DumpArguments),
    /// Make a data directory of a snapshot of etcd or Orlop
    #[command(long_about = import::ABOUT, after_long_help = import::DETAILS)]
    Import(ImportArguments),
    /// Print the revision log of a data directory as JSON lines
    #[command(long_about = log::ABOUT, after_long_help = log::DETAILS)]
    Log(LogArguments),
    /// Write the manual pages
    #[command(long_about = man::ABOUT, after_long_help = man::DETAILS)]
    Man(ManArguments),
    /// Make a new store of a backup
    #[command(long_about = restore::ABOUT, after_long_help = restore::DETAILS)]
    Restore(RestoreArguments),
}

/// The form of what a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people
    Text,
    /// JSON, one object in a line
    Json,
}

/// How a command line that a command's parser has read goes on.
pub(crate) enum Parsed {
    Run(Box<OperatorCommand>),
    Print(String),
}

/// The names of the commands.
pub(crate) fn names() -> Vec<String> {
    CommandLine::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

/// Reads the command line, if it names one of the commands. Where a flag is left out, its environment variable counts.
pub(crate) fn parse(source: &dyn Source, problems: &mut Problems) -> Option<Parsed> {
    let arguments = source.arguments();
    let name = arguments.first()?.to_str()?;
    if !names().iter().any(|known| known == name) {
        return None;
    }
    let line = [OsString::from("orlop")].into_iter().chain(arguments);
    match CommandLine::try_parse_from(line) {
        Ok(CommandLine { mut command }) => {
            match &mut command {
                OperatorCommand::Check(arguments) => arguments.store.complete(&source.variables(), problems),
                OperatorCommand::Backup(_) | OperatorCommand::Decode(_) => {}
                OperatorCommand::Dump(arguments) => arguments.store.complete(&source.variables(), problems),
                OperatorCommand::Import(arguments) => arguments.store.complete(&source.variables(), problems),
                OperatorCommand::Log(arguments) => arguments.complete(&source.variables(), problems),
                OperatorCommand::Completions(_) | OperatorCommand::Man(_) => {}
                // The place where a store is does not matter to who only looks at a backup.
                OperatorCommand::Restore(arguments) if arguments.is_dry_run() => {}
                OperatorCommand::Restore(arguments) => {
                    arguments.store.complete(&source.variables(), problems);
                }
            }
            Some(Parsed::Run(Box::new(command)))
        }
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            Some(Parsed::Print(error.to_string()))
        }
        Err(error) => {
            let text = error.to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            text.lines().filter(|line| !line.is_empty()).for_each(|line| problems.add(line));
            Some(Parsed::Print(String::new()))
        }
    }
}

/// Runs a command to its end.
pub fn operate(command: &OperatorCommand) -> ExitCode {
    match command {
        OperatorCommand::Backup(arguments) => backup::run(arguments),
        OperatorCommand::Check(arguments) => check::run(arguments),
        OperatorCommand::Completions(arguments) => console::print(&completions::script(arguments)),
        OperatorCommand::Decode(arguments) => dump::decode(arguments),
        OperatorCommand::Dump(arguments) => dump::run(arguments),
        OperatorCommand::Import(arguments) => end(import::run(arguments)),
        OperatorCommand::Log(arguments) => end(log::run(arguments)),
        OperatorCommand::Man(arguments) => end(man::run(arguments)),
        OperatorCommand::Restore(arguments) => restore::run(arguments),
    }
}

fn end(done: Result<(), impl std::fmt::Display>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => console::complain(&failure),
    }
}

/// Takes the data directory and the key prefix from the environment, where they were left out and it has them.
fn complete(
    (data_dir, key_prefix): (&mut Option<PathBuf>, &mut Option<KeySpace>),
    variables: &[(OsString, OsString)],
    problems: &mut Problems,
) {
    let set = |name: &str| {
        let found = variables.iter().find(|(variable, value)| variable == name && !value.is_empty());
        found.map(|(_, value)| value)
    };
    if data_dir.is_none() {
        *data_dir = Some(set("ORLOP_DATA_DIR").map_or_else(|| "./orlop-data".into(), PathBuf::from));
    }
    if let (None, Some(prefix)) = (&key_prefix, set("ORLOP_KEY_PREFIX")) {
        match key_space(&prefix.to_string_lossy()) {
            Ok(space) => *key_prefix = Some(space),
            Err(reason) => problems.add(format_args!("ORLOP_KEY_PREFIX: {reason}")),
        }
    }
}

/// Reads a key prefix for clap.
fn key_space(prefix: &str) -> Result<KeySpace, String> {
    KeySpace::new(prefix).map_err(|error| error.to_string())
}
