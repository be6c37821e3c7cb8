use std::fmt;

use super::nearest::nearest;
use super::setting::{Setting, VARIABLE_PREFIX};
use super::settings::SETTINGS;

/// Everything that is wrong with a configuration: displayed as one line for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<String>);

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.join("\n"))
    }
}

impl Problems {
    /// The problems, in the order of flags, environment and file.
    pub fn lines(&self) -> &[String] {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a problem. Whatever text a user's value brings along, it stays one line.
    pub(crate) fn add(&mut self, problem: impl fmt::Display) {
        let line: String =
            problem.to_string().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        self.0.push(line);
    }

    pub(crate) fn unknown_flag(&mut self, name: &str) {
        let hint = hint(name, SETTINGS.iter().map(|setting| setting.name), "--");
        self.add(format_args!("--{name}: there is no such flag{hint}"));
    }

    pub(crate) fn unknown_variable(&mut self, name: &str) {
        let variables: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
        // Only what differs is compared: otherwise everything would be near, for its prefix.
        let names = variables.iter().filter_map(|variable| variable.strip_prefix(VARIABLE_PREFIX));
        let hint = hint(name.trim_start_matches(VARIABLE_PREFIX), names, VARIABLE_PREFIX);
        self.add(format_args!("{name}: no setting has this environment variable{hint}"));
    }

    pub(crate) fn unknown_key(&mut self, file: &str, key: &str) {
        let hint = hint(key, SETTINGS.iter().map(|setting| setting.name), "");
        self.add(format_args!("{file}: {key}: there is no such setting{hint}"));
    }
}

/// What to do about a name that is not known.
fn hint<'a>(name: &str, candidates: impl Iterator<Item = &'a str>, before: &str) -> String {
    let folded = name.to_ascii_lowercase().replace('_', "-");
    if let Some((_, reason)) = NOT_HERE.iter().find(|(etcd, _)| *etcd == folded) {
        return format!("; {reason}");
    }
    nearest(name, candidates).map_or_else(String::new, |near| format!("; did you mean {before}{near}?"))
}

const OWN_CERTIFICATES: &str =
    "certificates are made elsewhere: say where they are with --cert-file and --key-file";
const ALONE: &str = "a server belongs to the store that it is started on: leave it out";
const PEERS: &str = "with TiKV say it with --advertise-peer-urls; otherwise leave it out";
const COMPACTION: &str =
    "history is compacted when a client asks for it, as kube-apiserver does every five minutes";

/// Flags of etcd that people bring along, and why they are not here.
const NOT_HERE: [(&str, &str); 7] = [
    ("auto-tls", OWN_CERTIFICATES),
    ("initial-advertise-peer-urls", PEERS),
    ("initial-cluster", ALONE),
    ("initial-cluster-state", ALONE),
    ("initial-cluster-token", ALONE),
    ("auto-compaction-mode", COMPACTION),
    ("auto-compaction-retention", COMPACTION),
];
