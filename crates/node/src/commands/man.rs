//! `orlop man`: the manual pages.

use std::io;
use std::path::PathBuf;

use clap::{Args, Command};
use clap_mangen::Man;
use thiserror::Error;

use super::tree;

pub(super) const ABOUT: &str = "\
Writes manual pages: orlop(1) and one for each command, such as orlop-serve(1). Pages of the same names are replaced,
nothing else is.";

pub(super) const DETAILS: &str = "\
Example: for everybody on this machine
  orlop man --to /usr/local/share/man/man1
  man orlop-serve

Exit codes: 0 all are written, 1 they could not be, 64 the command line is wrong.";

/// The arguments of `orlop man`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct ManArguments {
    /// The directory to write them to, made if it is missing
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

/// Why the pages are not all there.
#[derive(Debug, Error)]
#[error("{} cannot be written: {source}; choose another directory with --to", .path.display())]
pub(super) struct ManFailure {
    path: PathBuf,
    source: io::Error,
}

/// A page: the name of its file, and its text.
type Page = (String, Vec<u8>);

/// Writes the pages.
pub(super) fn run(arguments: &ManArguments) -> Result<(), ManFailure> {
    let dir = &arguments.to;
    let failed = |path: PathBuf| |source| ManFailure { path, source };
    std::fs::create_dir_all(dir).map_err(failed(dir.clone()))?;
    for (name, text) in pages().map_err(failed(dir.clone()))? {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(failed(path.clone()))?;
    }
    Ok(())
}

fn pages() -> io::Result<Vec<Page>> {
    let mut tree = tree::tree().disable_help_subcommand(true);
    // Names commands below others as their pages are called: orlop-serve.
    tree.build();
    let mut pages = Vec::new();
    add(tree, &mut pages)?;
    Ok(pages)
}

fn add(command: Command, pages: &mut Vec<Page>) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        add(below.clone(), pages)?;
    }
    let page = Man::new(command).manual("Orlop");
    let mut text = Vec::new();
    page.render(&mut text)?;
    pages.push((page.get_filename(), text));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_flags_example_and_exit_codes() {
        let dir = tempfile::tempdir().unwrap();
        let to = dir.path().join("man1");
        run(&ManArguments { to: to.clone() }).unwrap();
        let page = |name: &str| std::fs::read_to_string(to.join(name)).unwrap().replace("\\-", "-");
        assert!(page("orlop.1").contains("orlop-serve(1)"));
        let serve = page("orlop-serve.1");
        for part in ["--data-dir", "ORLOP_DATA_DIR", "./orlop-data", "Example:", "Exit codes:"] {
            assert!(serve.contains(part), "{part}: {serve}");
        }
        assert!(page("orlop-import.1").contains("--from-snapshot"));
        let commands = tree::tree().get_subcommands().count();
        assert_eq!(std::fs::read_dir(&to).unwrap().count(), commands + 1);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let failure = run(&ManArguments { to: file.path().join("man1") }).unwrap_err().to_string();
        assert!(failure.contains("man1 cannot be written") && failure.contains("--to"), "{failure}");
    }
}
