//! The commands as somebody at a terminal meets them: help, codes, completions, manual pages.

#![allow(clippy::unwrap_used, reason = "a test whose equipment breaks has failed")]

mod program;

use std::process::Command;

use program::{output, text};

/// The commands that `orlop --help` names.
fn commands() -> Vec<String> {
    let help = output(&["--help"], &[]);
    let names = text(&help.stdout).lines().filter_map(|line| line.strip_prefix("  orlop "));
    let names = names.filter_map(|rest| rest.split_whitespace().next());
    names.filter(|name| name.chars().all(char::is_lowercase)).map(str::to_owned).collect()
}

#[test]
fn every_command_has_help_with_code_0_and_refuses_what_it_does_not_know_with_64() {
    let commands = commands();
    assert!(commands.iter().any(|name| name == "import") && commands.len() >= 4, "{commands:?}");
    for name in &commands {
        let help = output(&[name, "--help"], &[]);
        assert_eq!((help.status.code(), text(&help.stderr)), (Some(0), ""), "{name}");
        assert!(text(&help.stdout).contains("Example"), "{name}: {}", text(&help.stdout));
        let refused = output(&[name, "--no-such-flag"], &[]);
        assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(64), ""), "{name}");
        assert!(text(&refused.stderr).contains("--no-such-flag"), "{name}: {}", text(&refused.stderr));
    }
}

#[test]
fn a_command_that_was_nearly_named_is_suggested() {
    let refused = output(&["imprt"], &[]);
    assert!(text(&refused.stderr).contains("did you mean import?"), "{}", text(&refused.stderr));
}

/// What bash offers for the last of these words.
fn completed(words: &[&str]) -> Vec<String> {
    let script = output(&["completions", "bash"], &[]);
    assert_eq!(script.status.code(), Some(0));
    let last = words.len() - 1;
    let complete = format!(
        "{}\nCOMP_WORDS=({}); COMP_CWORD={last}; _orlop orlop '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        text(&script.stdout),
        words.join(" "),
        words[last],
        words[last - 1],
    );
    let shell = Command::new("bash").args(["--norc", "-c", &complete]).output().unwrap();
    assert!(shell.status.success(), "{}", text(&shell.stderr));
    text(&shell.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_and_values() {
    assert_eq!(completed(&["orlop", "imp"]), ["import"]);
    assert_eq!(completed(&["orlop", "--pd"]), ["--pd-endpoints"]);
    assert_eq!(completed(&["orlop", "serve", "--adv"]), ["--advertise-client-urls", "--advertise-peer-urls"]);
    assert_eq!(completed(&["orlop", "completions", "po"]), ["powershell"]);
}

#[test]
fn manual_pages_are_written_and_a_place_that_cannot_be_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("man1");
    let written = output(&["man", "--to", dir.to_str().unwrap()], &[]);
    assert_eq!((written.status.code(), text(&written.stderr)), (Some(0), ""));
    for name in commands() {
        assert!(dir.join(format!("orlop-{name}.1")).is_file(), "{name}");
    }
    let page = std::fs::read_to_string(dir.join("orlop-serve.1")).unwrap();
    assert!(page.starts_with(".ie") && page.contains(".TH orlop"), "{page}");
    let refused = output(&["man", "--to", "/dev/null/man1"], &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("/dev/null/man1 cannot be written"), "{}", text(&refused.stderr));
}
