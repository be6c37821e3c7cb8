use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::fs::Fs;
use crate::fs::sim::SimFs;

fn state(segments: u32) -> State {
    let fs = SimFs::default();
    let file = |id: u32| fs.create(&id.to_string()).unwrap();
    let segments: BTreeMap<_, _> = (1..=segments).map(|id| (id, Segment::new(file(id)))).collect();
    State::new(Index::new(), segments, 0)
}

fn put(state: &mut State, seq: u64, key: &'static str, segment: u32) {
    let entry = Entry { segment, offset: seq as u32, value_len: 100, oldest: segment, inline: None };
    let change = Change { key: Bytes::from_static(key.as_bytes()), entry: Some(entry), deletion: None };
    state.apply(seq, &change, false);
    state.applied = seq;
}

fn relocate(state: &mut State, key: &'static str, from: (u32, u32), to: (u32, u32)) {
    state.partly_copied.insert(from.0);
    state.relocate(&Move { key: Bytes::from_static(key.as_bytes()), from, to });
}

fn covers(state: &State, key: &str) -> (u32, u32) {
    state.cover(&state.index.get(key.as_bytes()).unwrap())
}

#[test]
fn a_deletion_covers_every_segment_that_holds_a_version() {
    let mut state = state(5);
    put(&mut state, 1, "key", 2);
    assert_eq!(covers(&state, "key"), (2, 2));
    put(&mut state, 2, "key", 4);
    assert_eq!(covers(&state, "key"), (2, 4));
    // Segment 2 goes: only from segment 4 on there are versions of a record put later.
    state.retire(2, 3);
    put(&mut state, 4, "key", 5);
    assert_eq!(covers(&state, "key"), (3, 5));
}

#[test]
fn a_deletion_covers_the_copy_left_behind_until_its_segment_is_retired() {
    let mut state = state(5);
    put(&mut state, 1, "key", 2);
    relocate(&mut state, "key", (2, 1), (5, 9));
    assert_eq!(covers(&state, "key"), (2, 5));
    assert_eq!(state.segments[&2].live, 0);
    state.retire(2, 2);
    assert_eq!(covers(&state, "key"), (5, 5));
}

#[test]
fn a_record_that_changed_meanwhile_is_not_moved_back() {
    let mut state = state(5);
    put(&mut state, 1, "key", 2);
    put(&mut state, 2, "key", 4);
    relocate(&mut state, "key", (2, 1), (5, 9));
    assert_eq!(state.index.get(b"key").unwrap().segment, 4);
}

#[test]
fn a_retired_file_stays_open_for_the_snapshots_before_only() {
    let mut state = state(3);
    put(&mut state, 1, "key", 2);
    let old = state.open_snapshot();
    state.retire(2, 2);
    state.applied = 2;
    let new = state.open_snapshot();
    state.forget(8);
    assert!(state.segments.contains_key(&2));
    state.close_snapshot(old);
    state.forget(8);
    assert!(!state.segments.contains_key(&2));
    state.close_snapshot(new);
}

#[test]
fn versions_are_kept_only_while_a_snapshot_needs_them() {
    let mut state = state(3);
    put(&mut state, 1, "key", 1);
    let first = state.open_snapshot();
    for seq in 2..100 {
        put(&mut state, seq, "key", 2);
    }
    assert_eq!(state.get(b"key", first).unwrap().segment, 1);
    assert_eq!(state.undo.len(), 1, "one snapshot needs one version of a key, however often it changes");
    state.close_snapshot(first);
    assert!(!state.forget(8));
    assert_eq!(state.undo.len(), 0);
}
