//! The model of the fleet's protocol: it breaks no promise, and each of its rules is there for a reason.
//!
//! The small configurations are searched here, whole. `cargo xtask protocol` searches larger ones in a release build.

use std::collections::HashSet;

use sim::protocol::{Configuration, Promise, Report, Rule, Size, all, named};

/// More states than any small configuration has.
const STATES: usize = 100_000;

fn small() -> impl Iterator<Item = Configuration> {
    all().into_iter().filter(|config| config.size == Size::Small)
}

fn without(rule: Rule) -> Report {
    let name = rule.shown_in();
    named(name).expect(name).search(Some(rule), STATES)
}

#[test]
fn every_small_configuration_keeps_every_promise_in_every_state() {
    let mut timed = Vec::new();
    for config in small() {
        let report = config.search(None, STATES);
        let found = report.found.map_or_else(String::new, |found| found.to_string());
        assert_eq!(found, "", "{}", config.name);
        assert!(report.is_complete, "{} has more than {STATES} states", config.name);
        assert!(report.states > 500 && report.depth > 10, "{} does something", config.name);
        if !report.is_answerability_checked {
            timed.push(config.name);
        }
    }
    let why = "from every state clients can be answered, unless time ends";
    assert_eq!(timed, ["lease-clock", "ceiling", "leaders", "expiry"], "{why}");
}

#[test]
fn without_any_rule_its_promise_is_broken() {
    for rule in Rule::all() {
        let found = without(rule).found.unwrap_or_else(|| panic!("{} is there for nothing", rule.name()));
        assert_eq!(found.violation.promise, rule.breaks(), "without {}:\n{found}", rule.name());
    }
}

#[test]
fn a_trace_says_who_did_what_until_the_promise_is_broken() {
    let found = without(Rule::AbsentSlotIsFilled).found.expect("it is broken");
    let expected = [
        "a client sends w0",
        "F0 takes w0 to P1, asks for a revision",
        "the leader gives F0 revision 1",
        "F0 sends the batch of w0 at revision 1 to slot 2 of P1",
        "F0 finds slot 2 empty and calls w0 failed",
        "the engine applies the batch of w0 at revision 1 to slot 2 of P1",
    ];
    assert_eq!(found.trace, expected);
    assert_eq!(found.violation.promise, Promise::FailedNeverHappened);
}

#[test]
fn a_search_repeats_exactly() {
    let again = || format!("{:?}", without(Rule::EpochIsConfirmed));
    assert_eq!(again(), again());
}

#[test]
fn a_search_that_meets_its_limit_claims_nothing() {
    let report = named("moves").expect("it is there").search(None, 1000);
    assert!(!report.is_complete && !report.is_answerability_checked && report.found.is_none());
}

#[test]
fn rules_and_configurations_have_names_of_their_own() {
    let mut names: HashSet<_> = Rule::all().map(Rule::name).collect();
    names.extend(all().iter().map(|config| config.name));
    assert_eq!(names.len(), Rule::all().count() + all().len());
}

#[test]
fn the_page_of_the_protocol_names_every_rule() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    for rule in Rule::all() {
        assert!(page.contains(&format!("`{}`", rule.name())), "{} is not on the page", rule.name());
        assert!(page.contains(rule.number()), "{} is not on the page", rule.number());
    }
}
