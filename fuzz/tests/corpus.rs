//! Every input that was worth keeping, the regressions among them, through its target in an ordinary test run.

#![expect(clippy::unwrap_used, reason = "a corpus that cannot be read fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// All of them together: the corpus is minimised, not collected.
const CORPUS_BYTES_MAX: u64 = 1 << 20;
/// Those of one target, seeds and regressions beside them.
const CORPUS_INPUTS_MAX: usize = 50;

fn path(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of)
}

/// The names in a directory, in order.
fn names(dir: &Path) -> BTreeSet<String> {
    dir.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn nothing_is_found_in_the_corpus() {
    for (target, check) in fuzz::TARGETS {
        let dir = path("corpus").join(target);
        let inputs = names(&dir);
        assert!(!inputs.is_empty(), "{target} has no corpus");
        for name in inputs {
            let input = fs::read(dir.join(&name)).unwrap();
            // A panic names the place, not the input: this line does, where output is shown.
            println!("{target}/{name}");
            check(&input);
        }
    }
}

#[test]
fn every_target_has_a_program_and_every_program_a_target() {
    let programs: BTreeSet<String> = names(&path("fuzz_targets"));
    let targets = fuzz::TARGETS.iter().map(|(name, _)| *name).chain(["self_test"]);
    assert_eq!(programs, targets.map(|name| format!("{name}.rs")).collect());
    for name in &programs {
        let text = fs::read_to_string(path("fuzz_targets").join(name)).unwrap();
        let call = format!("fuzz::{}::check(data)", name.trim_end_matches(".rs"));
        assert!(text.contains(&call), "{name} does not run its own target");
    }
}

#[test]
fn the_corpus_is_small_and_belongs_to_targets() {
    let mut bytes = 0;
    for dir in names(&path("corpus")) {
        assert!(fuzz::TARGETS.iter().any(|(target, _)| *target == dir), "{dir} is no target");
        let inputs = names(&path("corpus").join(&dir));
        let is_found = |name: &&String| !name.starts_with("regression-") && !name.starts_with("seed-");
        let found = inputs.iter().filter(is_found).count();
        assert!(found <= CORPUS_INPUTS_MAX, "{dir} has {found} inputs: merge it");
        for name in inputs {
            bytes += fs::metadata(path("corpus").join(&dir).join(name)).unwrap().len();
        }
    }
    assert!(bytes <= CORPUS_BYTES_MAX, "{bytes} bytes: minimise it");
}
