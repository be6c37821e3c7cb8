//! The command line. A parser of our own, because every wrong flag is to be named, not only the first.

use std::ffi::OsString;
use std::iter::Peekable;
use std::vec::IntoIter;

use super::nearest::nearest;
use super::problem::Problems;
use super::setting::{SWITCH, Setting};
use super::settings::find;
use crate::commands;

/// What a command line says.
#[derive(Default)]
pub(crate) struct Arguments {
    pub(crate) wants: Wants,
    /// Flags and their values, in their order.
    pub(crate) flags: Vec<(&'static Setting, String)>,
}

/// What the process is to do.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Wants {
    #[default]
    Serve,
    Help,
    Version,
}

const COMMANDS: [&str; 3] = ["serve", "help", "version"];

/// Reads a command line to its end, whatever is wrong with it.
pub(crate) fn parse(arguments: Vec<OsString>, problems: &mut Problems) -> Arguments {
    let mut parsed = Arguments::default();
    let mut words = utf8(arguments, problems).into_iter().peekable();
    if let Some(command) = words.next_if(|word| !word.starts_with('-')) {
        match command.as_str() {
            "serve" => {}
            "help" => parsed.wants = Wants::Help,
            "version" => parsed.wants = Wants::Version,
            other => {
                let hint = nearest(other, COMMANDS.into_iter().chain(commands::NAMES))
                    .map_or_else(String::new, |near| format!("; did you mean {near}?"));
                problems.add(format_args!("{other}: there is no such command{hint}"));
            }
        }
    }
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" | "-h" | "-help" => parsed.wants = Wants::Help,
            "--version" | "-V" | "-version" => parsed.wants = Wants::Version,
            _ => parsed.flags.extend(flag(&word, &mut words, problems)),
        }
    }
    parsed
}

/// Reads one flag, `--name=value` or `--name value`; one dash will do, as with etcd.
fn flag(
    word: &str,
    words: &mut Peekable<IntoIter<String>>,
    problems: &mut Problems,
) -> Option<(&'static Setting, String)> {
    let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-')).filter(|name| !name.is_empty());
    let Some(name) = name else {
        problems.add(format_args!("{word}: expected a flag, which begins with --"));
        return None;
    };
    let (name, value) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
    // A word that looks like a flag is taken for one: a forgotten value would otherwise swallow the next flag.
    let setting = find(name);
    let is_switch = setting.is_some_and(|setting| setting.value == SWITCH);
    let is_value = |word: &String| match is_switch {
        true => matches!(word.as_str(), "true" | "false"),
        false => !word.starts_with("--"),
    };
    let value = value.map(str::to_owned).or_else(|| words.next_if(is_value));
    match (setting, value.or_else(|| is_switch.then(|| "true".to_owned()))) {
        (None, _) => problems.unknown_flag(name),
        (Some(setting), None) => {
            problems.add(format_args!("--{name}: expected a {} behind it", setting.value))
        }
        (Some(setting), Some(value)) => return Some((setting, value)),
    }
    None
}

fn utf8(arguments: Vec<OsString>, problems: &mut Problems) -> Vec<String> {
    let mut words = Vec::with_capacity(arguments.len());
    for argument in arguments {
        match argument.into_string() {
            Ok(word) => words.push(word),
            Err(other) => problems.add(format_args!("{}: expected UTF-8", other.to_string_lossy())),
        }
    }
    words
}
