//! The simulation itself: it repeats, it reaches what it is there for, and it finds bugs that are there.

use base::{PlantedBug, plant};
use sim::{Options, Report, run};

/// Seeds that are played in this test; `cargo xtask sim` plays thousands of others.
const SEEDS: std::ops::Range<u64> = 0..60;

fn play(seeds: std::ops::Range<u64>) -> impl Iterator<Item = Report> {
    seeds.map(|seed| run(seed, Options::default()))
}

#[test]
fn a_seed_repeats_exactly() {
    let (first, second): (Vec<_>, Vec<_>) = (play(0..20).collect(), play(0..20).collect());
    assert_eq!(first, second);
    let mut fingerprints: Vec<_> = first.iter().map(|report| report.fingerprint).collect();
    fingerprints.sort_unstable();
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), first.len(), "and another seed is another run");
}

#[test]
fn telling_what_happens_changes_nothing() {
    let quiet = run(3, Options::default());
    let told = run(3, Options { words: true, ..Options::default() });
    assert_eq!((quiet.fingerprint, quiet.words.as_str()), (told.fingerprint, ""));
    assert!(told.words.contains("takeover") && told.words.contains("wrote revision"), "{}", told.words);
}

#[test]
fn seeds_pass_and_reach_crashes_compactions_and_writes() {
    let reports: Vec<_> = play(SEEDS).collect();
    for report in &reports {
        assert_eq!(report.violation, None, "seed {}", report.seed);
    }
    let count = |reaches: fn(&Report) -> bool| reports.iter().filter(|report| reaches(report)).count();
    assert!(count(|report| report.starts > 5) > 10, "processes crash");
    assert!(count(|report| report.compacted > 5) > 10, "history is compacted");
    assert!(count(|report| report.revision > 20) > 20, "clients write");
}

#[test]
fn a_process_may_be_killed_before_any_step() {
    for step in 0..200 {
        let report = run(1, Options { kill_at: Some(step), ..Options::default() });
        assert_eq!(report.violation, None, "killed before step {step}");
    }
}

/// How many seeds it takes until one finds the bug.
fn seeds_until_found(bug: PlantedBug, violation: &str) -> u64 {
    let _planted = plant(bug);
    let found =
        play(0..100).find(|report| report.violation.as_ref().is_some_and(|found| found.contains(violation)));
    found.expect("one of 100 seeds finds the bug").seed + 1
}

#[test]
fn a_skipped_slot_is_found() {
    assert!(seeds_until_found(PlantedBug::SkippedSlot, "is written behind slot") < 10);
}

#[test]
fn progress_before_its_event_is_found() {
    assert!(seeds_until_found(PlantedBug::ProgressBeforeEvent, "a watcher of") < 20);
}
