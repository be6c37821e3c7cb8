//! The tools that the checks need, looked for before anything is built. What is missing is a failure, with the way to
//! get it, never a reason to skip.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::Command;

use crate::context::{Context, output, run as run_command};

/// The oldest Go that builds the modules under `tests`.
const GO_MIN: (u32, u32) = (1, 26);

/// Checks every tool and reports all that are missing at once.
pub(crate) fn run(context: &Context) -> Result<(), String> {
    let checks = [
        go_is_recent(&output(Command::new("go").arg("version").current_dir(&context.root))),
        available("cc", "a C compiler and linker", "install gcc or clang from your system's packages"),
        fuse(),
        cpp_compiler(),
        component(context, "fmt", "rustfmt"),
        component(context, "clippy", "clippy"),
    ];
    let missing: Vec<String> = checks.into_iter().filter_map(Result::err).collect();
    if missing.is_empty() { Ok(()) } else { Err(missing.join("\n")) }
}

fn available(program: &str, what: &str, how: &str) -> Result<(), String> {
    output(Command::new(program).arg("--version"))
        .map(drop)
        .map_err(|error| format!("{what} is needed, and `{program}` cannot be run: {how} ({error})"))
}

/// The suite that cuts the power mounts a file system of its own.
fn fuse() -> Result<(), String> {
    const DEVICE: &str = "/dev/fuse";
    OpenOptions::new().read(true).write(true).open(DEVICE).map(drop).map_err(|error| {
        format!("FUSE is needed, and {DEVICE} cannot be opened: run `modprobe fuse`, as a user who may use it ({error})")
    })
}

/// libFuzzer is written in C++. Where it can be had for the asking, it is installed.
fn cpp_compiler() -> Result<(), String> {
    let how = "install g++ or clang from your system's packages, on Debian with `apt-get install g++`";
    let found = || available("c++", "a C++ compiler (for the fuzzer)", how);
    let is_debian_root = Path::new("/etc/debian_version").exists()
        && output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if found().is_ok() || !is_debian_root {
        return found();
    }
    println!("there is no C++ compiler: installing g++");
    let apt_get = |args: &[&str]| {
        run_command(Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt_get(&["update"])
        .and_then(|()| apt_get(&["install", "--yes", "--no-install-recommends", "g++"]))
        .map_err(|error| format!("{error}: {how}"))?;
    found()
}

fn component(context: &Context, subcommand: &str, name: &str) -> Result<(), String> {
    output(&mut context.cargo(&[subcommand, "--version"]))
        .map(drop)
        .map_err(|error| format!("{name} is needed: run `rustup component add {name}` ({error})"))
}

fn go_is_recent(version: &Result<String, String>) -> Result<(), String> {
    let wanted =
        format!("Go {}.{} or later is needed for the suites against real clients", GO_MIN.0, GO_MIN.1);
    let how = "get it from https://go.dev/dl and put its bin directory on the PATH";
    match version {
        Err(error) => Err(format!("{wanted}, and `go` cannot be run: {how} ({error})")),
        Ok(text) => match parse_go_version(text) {
            Some(found) if found >= GO_MIN => Ok(()),
            Some((major, minor)) => Err(format!("{wanted}, found Go {major}.{minor}: {how}")),
            None => Err(format!("{wanted}, and `go version` answers {:?}: {how}", text.trim())),
        },
    }
}

/// Reads `go version go1.26.8 linux/amd64`, also of a release candidate such as `go1.27rc1`.
fn parse_go_version(text: &str) -> Option<(u32, u32)> {
    let version = text.split_whitespace().nth(2)?.strip_prefix("go")?;
    let (major, rest) = version.split_once('.')?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, digits.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: &str, expected: Result<(), &str>) {
        let result = go_is_recent(&Ok(version.to_owned()));
        match (expected, &result) {
            (Ok(()), Ok(())) => {}
            (Err(part), Err(message)) => assert!(message.contains(part), "{message}"),
            _ => panic!("{version}: {result:?}"),
        }
    }

    #[test]
    fn go_is_old_enough_or_said_to_be_too_old() {
        check("go version go1.26.8 linux/amd64\n", Ok(()));
        check("go version go1.26 darwin/arm64", Ok(()));
        check("go version go1.27rc1 linux/amd64", Ok(()));
        check("go version go2.0.1 linux/amd64", Ok(()));
        check("go version go1.25.4 linux/amd64", Err("found Go 1.25"));
        check("something else", Err("answers"));
    }

    #[test]
    fn a_missing_go_is_named_with_the_way_to_get_it() {
        let message = go_is_recent(&Err("not found".to_owned())).expect_err("go is missing");
        assert!(message.contains("Go 1.26") && message.contains("https://go.dev/dl"), "{message}");
    }
}
