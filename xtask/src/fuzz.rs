//! `cargo xtask fuzz`: builds the targets of `fuzz` with the instrumentation of libFuzzer, with the stable compiler, and
//! runs each for a bounded time.

use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::context::{Context, output, run};

/// What `cargo fuzz` gives the compiler, as far as the stable one takes it: counters for branches, and what is compared.
const INSTRUMENTATION: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// How long each target runs in `cargo xtask test`.
const STEP_SECONDS: u32 = 6;
/// An input that takes longer hangs: they take milliseconds. It is the machine's time, so that there is plenty.
const INPUT_SECONDS_MAX: u32 = 30;
/// What a target may take at all, and at once: they take a tenth of it.
const MEMORY_MIB_MAX: u32 = 1024;
const ALLOCATION_MIB_MAX: u32 = 256;
/// The target that is broken on purpose, and the number of inputs within which that must be found. With this seed it
/// takes about a hundredth of them, on any machine.
const SELF_TEST: &str = "self_test";
const SELF_TEST_RUNS: u32 = 10_000_000;

/// The most inputs of a target that the project keeps, seeds and regressions beside them: from so many the fuzzer gets to the
/// others within seconds.
const CORPUS_INPUTS_MAX: usize = 50;

/// How the names of inputs begin that stay although others reach as much: what they show is no branch.
const KEPT: [&str; 2] = ["seed-", "regression-"];

/// Which targets to run, and for how long.
#[derive(Args)]
pub(crate) struct FuzzArgs {
    /// The target; all of them if it is left out
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Begin with these random numbers
    #[arg(long)]
    seed: Option<u32>,
    /// Run this input alone, and show all that the target prints
    #[arg(long, value_name = "FILE", requires = "target")]
    replay: Option<PathBuf>,
    /// Put what was found worth keeping into the corpus, and take out what is not needed any more
    #[arg(long)]
    merge: bool,
}

/// The step of `cargo xtask test`: every target, begun with the corpus alone.
pub(crate) fn step(context: &Context) -> Result<(), String> {
    let fuzz = Fuzz::build(context)?;
    fuzz.self_test()?;
    for target in fuzz.targets()? {
        remove(&fuzz.found(&target))?;
        fuzz.run(&target, STEP_SECONDS, seed())?;
    }
    Ok(())
}

/// The command for people.
pub(crate) fn command(context: &Context, args: &FuzzArgs) -> Result<(), String> {
    let fuzz = Fuzz::build(context)?;
    if let (Some(target), Some(input)) = (&args.target, &args.replay) {
        return run(Command::new(fuzz.program(target)).args(limits()).arg(input));
    }
    let targets = match &args.target {
        Some(target) if fuzz.program(target).is_file() => vec![target.clone()],
        Some(target) => {
            return Err(format!("there is no target {target}; there are {}", fuzz.targets()?.join(", ")));
        }
        None => {
            fuzz.self_test()?;
            fuzz.targets()?
        }
    };
    for target in &targets {
        fuzz.run(target, args.seconds, args.seed.unwrap_or_else(seed))?;
        if args.merge {
            fuzz.merge(target)?;
        }
    }
    Ok(())
}

/// The programs, and where their files are.
struct Fuzz<'c> {
    context: &'c Context,
    programs: PathBuf,
}

impl Fuzz<'_> {
    /// Builds every target, with all assertions, in a directory of its own.
    fn build(context: &Context) -> Result<Fuzz<'_>, String> {
        let version = output(Command::new("rustc").arg("-vV").current_dir(&context.root))?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.ok_or("`rustc -vV` does not name its host")?.trim();
        let args = ["build", "--locked", "--quiet", "--package", "fuzz", "--bins", "--features", "libfuzzer"];
        let target_dir = context.target.join("fuzz");
        // With a target named, build scripts and macros are not instrumented: nothing would collect what they count.
        let more = ["--profile", "fuzz", "--target", host];
        run(context
            .cargo(&args)
            .args(more)
            .env("CARGO_TARGET_DIR", &target_dir)
            .env("RUSTFLAGS", INSTRUMENTATION)
            .env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
        Ok(Fuzz { context, programs: target_dir.join(host).join("fuzz") })
    }

    /// Every target but the broken one, in order.
    fn targets(&self) -> Result<Vec<String>, String> {
        let dir = self.context.root.join("fuzz").join("fuzz_targets");
        let entries = dir.read_dir().map_err(|error| format!("reading {}: {error}", dir.display()))?;
        let name = |path: PathBuf| Some(path.file_stem()?.to_str()?.to_owned());
        let mut names: Vec<String> = entries.filter_map(|entry| name(entry.ok()?.path())).collect();
        names.retain(|name| name != SELF_TEST);
        names.sort();
        Ok(names)
    }

    fn program(&self, target: &str) -> PathBuf {
        self.programs.join(target)
    }

    fn corpus(&self, target: &str) -> PathBuf {
        self.context.root.join("fuzz").join("corpus").join(target)
    }

    /// A directory or file of a target that is no part of the project.
    fn place(&self, what: &str, target: &str) -> PathBuf {
        self.context.target.join("fuzz").join(what).join(target)
    }

    /// The inputs that earlier runs found, beyond the corpus.
    fn found(&self, target: &str) -> PathBuf {
        self.place("found", target)
    }

    /// Shows that a mistake is found, and told as one: otherwise none of the others means anything.
    fn self_test(&self) -> Result<(), String> {
        let found = self.found(SELF_TEST);
        remove(&found)?;
        let runs = format!("-runs={SELF_TEST_RUNS}");
        match self.fuzz(SELF_TEST, &[runs, "-seed=1".to_owned()])? {
            Ended::Clean(_) => Err(format!("the mistake in {SELF_TEST} was not found: the fuzzer is blind")),
            Ended::Crashed { .. } => {
                println!("{SELF_TEST:<17} its mistake was found");
                Ok(())
            }
        }
    }

    fn run(&self, target: &str, seconds: u32, seed: u32) -> Result<(), String> {
        let args = [format!("-max_total_time={seconds}"), format!("-seed={seed}")];
        match self.fuzz(target, &args)? {
            Ended::Clean(done) => {
                println!("{target:<17} seed {seed:<10}  {done}");
                Ok(())
            }
            Ended::Crashed { log, input } => {
                println!("{}", panic_of(&log));
                Err(format!(
                    "{target} (seed {seed}) has found something; replay it with\n  \
                     cargo xtask fuzz {target} --replay {}\nand keep it as fuzz/corpus/{target}/regression-NAME",
                    input.display()
                ))
            }
        }
    }

    /// Runs a target on its corpus and what was found before.
    fn fuzz(&self, target: &str, args: &[String]) -> Result<Ended, String> {
        let (found, crashes, log) =
            (self.found(target), self.place("crashes", target), self.place("logs", target));
        create(&found)?;
        remove(&crashes)?;
        create(&crashes)?;
        create(log.parent().unwrap_or(&log))?;
        let file = File::create(&log).map_err(|error| format!("creating {}: {error}", log.display()))?;
        let also = file.try_clone().map_err(|error| format!("opening {}: {error}", log.display()))?;
        let mut command = Command::new(self.program(target));
        command.args(limits()).args(args).arg("-print_final_stats=1");
        command.arg(format!("-artifact_prefix={}/", crashes.display())).arg(&found);
        let corpus = self.corpus(target);
        if corpus.is_dir() {
            command.arg(corpus);
        }
        let status = command.env("RUST_BACKTRACE", "0").stdout(also).stderr(file).status();
        let status = status.map_err(|error| format!("starting {target}: {error}"))?;
        let text = fs::read(&log).map_err(|error| format!("reading {}: {error}", log.display()))?;
        let text = String::from_utf8_lossy(&text).into_owned();
        if status.success() {
            return Ok(Ended::Clean(done_of(&text)));
        }
        let input = crashes.read_dir().ok().and_then(|mut entries| entries.next()?.ok());
        match input {
            Some(entry) => Ok(Ended::Crashed { log: text, input: entry.path() }),
            None => Err(format!("{target} ended with {status}: see {}", log.display())),
        }
    }

    /// Makes a small corpus that reaches most of what the corpus and what was found reach together. What has a name of
    /// its own stays.
    fn merge(&self, target: &str) -> Result<(), String> {
        let (corpus, merged) = (self.corpus(target), self.place("merged", target));
        remove(&merged)?;
        create(&merged)?;
        create(&corpus)?;
        // How often a branch was taken does not count here: that would keep thousands.
        let args = ["-set_cover_merge=1", "-use_counters=0"];
        let dirs = [&merged, &corpus, &self.found(target)];
        output(Command::new(self.program(target)).args(limits()).args(args).args(dirs))?;
        for path in paths(&corpus)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_named = KEPT.iter().any(|kept| name.starts_with(kept));
            if !is_named {
                fs::remove_file(&path).map_err(|error| format!("removing {}: {error}", path.display()))?;
            }
        }
        for path in earliest(paths(&merged)?, CORPUS_INPUTS_MAX)? {
            let to = corpus.join(path.file_name().unwrap_or_default());
            fs::copy(&path, &to).map_err(|error| format!("copying {}: {error}", path.display()))?;
        }
        println!("{target:<17} the corpus has {} inputs", paths(&corpus)?.len());
        Ok(())
    }
}

/// How a run of a target ended.
enum Ended {
    /// Nothing was found; what was done.
    Clean(String),
    /// Something was found with this input.
    Crashed { log: String, input: PathBuf },
}

/// What an input may take, so that one that hangs or fills the memory is a finding.
fn limits() -> [String; 4] {
    [
        format!("-timeout={INPUT_SECONDS_MAX}"),
        format!("-rss_limit_mb={MEMORY_MIB_MAX}"),
        format!("-malloc_limit_mb={ALLOCATION_MIB_MAX}"),
        // There is no leak detector in the stable compiler.
        "-detect_leaks=0".to_owned(),
    ]
}

/// A new seed for each run: one that is always the same finds the same.
fn seed() -> u32 {
    // Zero would let libFuzzer choose by the clock.
    (RandomState::new().build_hasher().finish() as u32).max(1)
}

/// What libFuzzer says that it has done, from `#1234  DONE   cov: 56 ft: 78 …`.
fn done_of(log: &str) -> String {
    let last = log.lines().rfind(|line| line.contains("cov:")).unwrap_or_default();
    let words: Vec<&str> = last.split_whitespace().collect();
    let after = |name: &str| words.iter().skip_while(|word| **word != name).nth(1).copied().unwrap_or("?");
    let inputs = words.first().map_or("?", |word| word.trim_start_matches('#'));
    format!("{inputs:>9} inputs, {:>5} branches", after("cov:"))
}

/// The lines of a log that say what was found.
fn panic_of(log: &str) -> String {
    let is_telling = |line: &&str| {
        ["panicked at", "left:", "right:", "ERROR:", "SUMMARY:"].iter().any(|mark| line.contains(mark))
    };
    let lines: Vec<&str> = log.lines().collect();
    let mut telling: Vec<&str> = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let follows_panic =
            number > 0 && lines.get(number - 1).is_some_and(|line| line.contains("panicked at"));
        if is_telling(line) || follows_panic {
            telling.push(line);
        }
    }
    telling.join("\n")
}

fn paths(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = dir.read_dir().map_err(|error| format!("reading {}: {error}", dir.display()))?;
    Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
}

/// The files that were written first. libFuzzer writes those that reach the most that is new before the others.
fn earliest(files: Vec<PathBuf>, count: usize) -> Result<Vec<PathBuf>, String> {
    let written = |path: PathBuf| {
        let at = fs::metadata(&path).and_then(|it| it.modified());
        at.map(|at| (at, path.clone())).map_err(|error| format!("reading {}: {error}", path.display()))
    };
    let mut files = files.into_iter().map(written).collect::<Result<Vec<_>, String>>()?;
    files.sort();
    Ok(files.into_iter().take(count).map(|(_, path)| path).collect())
}

fn create(dir: &Path) -> Result<(), String> {
    fs::create_dir_all(dir).map_err(|error| format!("creating {}: {error}", dir.display()))
}

fn remove(dir: &Path) -> Result<(), String> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("removing {}: {error}", dir.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_and_found_is_read_from_the_log() {
        let log =
            "INFO: Seed: 1\n#2\tINITED cov: 3 ft: 4\n#12011\tDONE   cov: 5856 ft: 27883 corp: 972/308Kb\n";
        assert_eq!(done_of(log), "    12011 inputs,  5856 branches");
        assert_eq!(done_of(""), "        ? inputs,     ? branches");
        let log = "#9 NEW\nthread 'x' panicked at a.rs:1:2:\nit broke\nstack\n==1== ERROR: libFuzzer: deadly signal\n";
        let found = "thread 'x' panicked at a.rs:1:2:\nit broke\n==1== ERROR: libFuzzer: deadly signal";
        assert_eq!(panic_of(log), found);
    }
}
