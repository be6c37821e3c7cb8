//! Licences, sources and bans of everything that is built in, checked by cargo-deny as `deny.toml` says.
//!
//! Not against the list of known vulnerabilities: that is a git repository, and the checks need nothing but a registry.

use std::fs;
use std::path::PathBuf;

use crate::context::{Context, run};

/// One version, so that the checks are the same everywhere.
const VERSION: &str = "0.20.2";

/// Checks the dependencies; builds cargo-deny first where it is not there, which takes some minutes.
pub(crate) fn step(context: &Context) -> Result<(), String> {
    let program = install(context)?;
    let mut command = std::process::Command::new(program);
    command.current_dir(&context.root);
    run(command.args(["--locked", "check", "licenses", "bans", "sources"]))
}

fn install(context: &Context) -> Result<PathBuf, String> {
    let home = context.tool(&format!("cargo-deny-{VERSION}"));
    let program = home.join("bin").join("cargo-deny");
    if program.is_file() {
        return Ok(program);
    }
    println!("building cargo-deny {VERSION}");
    let build = home.join("build");
    let args = ["install", "cargo-deny", "--version", VERSION, "--locked", "--no-default-features"];
    // Not among the project's own results: it has other versions of the same crates.
    let mut command = context.cargo(&args);
    run(command.arg("--root").arg(&home).env("CARGO_TARGET_DIR", &build))?;
    fs::remove_dir_all(&build).map_err(|error| format!("removing {}: {error}", build.display()))?;
    Ok(program)
}
