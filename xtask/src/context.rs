//! Where things are, and how programs are run.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The checkout and the directory that build results go to.
pub(crate) struct Context {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

impl Context {
    /// The checkout that this program was built from; `CARGO_TARGET_DIR` is honoured as cargo does.
    pub(crate) fn from_env() -> Self {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().unwrap_or(manifest).to_path_buf();
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => env::current_dir().unwrap_or_else(|_| root.clone()).join(dir),
            None => root.join("target"),
        };
        Self { root, target }
    }

    /// The release build of the product.
    pub(crate) fn orlop(&self) -> PathBuf {
        self.target.join("release").join("orlop")
    }

    /// The product with bugs and faults that can be switched on, for suites that need them.
    pub(crate) fn planted(&self) -> PathBuf {
        self.target.join("planted").join("orlop")
    }

    /// A program built from a Go module, for tests.
    pub(crate) fn tool(&self, name: &str) -> PathBuf {
        self.target.join("tools").join(name)
    }

    /// A command of cargo, in the checkout, with the toolchain that runs this program.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target).args(args);
        if env::var_os("CI").is_some() {
            // Nobody builds there a second time, and what that would be good for takes as much space as all else.
            command.env("CARGO_INCREMENTAL", "0");
        }
        command
    }

    /// A command of go, in a module of the checkout.
    pub(crate) fn go(&self, module: &str, args: &[&str]) -> Command {
        let mut command = Command::new("go");
        command.current_dir(self.root.join(module)).args(args);
        command
    }

    /// The Go modules under `tests`, as paths relative to the checkout.
    pub(crate) fn go_modules(&self) -> Result<Vec<String>, String> {
        let tests = self.root.join("tests");
        let entries = tests.read_dir().map_err(|error| format!("reading {}: {error}", tests.display()))?;
        let mut modules: Vec<String> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.join("go.mod").is_file())
            .filter_map(|path| Some(format!("tests/{}", path.file_name()?.to_str()?)))
            .collect();
        modules.sort();
        Ok(modules)
    }
}

/// Runs a command with its output on the terminal; an error names the command, so that it can be repeated by hand.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{} ended with {status}", describe(command))),
        Err(error) => Err(format!("{} could not be started: {error}", describe(command))),
    }
}

/// Runs a command and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => Err(format!(
            "{} ended with {}: {}",
            describe(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Err(format!("{} could not be started: {error}", describe(command))),
    }
}

fn describe(command: &Command) -> String {
    let mut text = format!("`{}", command.get_program().to_string_lossy());
    for arg in command.get_args().map(OsStr::to_string_lossy) {
        // Writing to a string cannot fail.
        let _ = write!(text, " {arg}");
    }
    text.push('`');
    if let Some(dir) = command.get_current_dir() {
        let _ = write!(text, " in {}", dir.display());
    }
    text
}
