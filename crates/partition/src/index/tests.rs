use std::collections::BTreeMap;

use model::{ChangeKind, LeaseId};
use proptest::prelude::*;

use super::*;

/// The states that the index must tell, each written out whole.
#[derive(Default)]
struct States(BTreeMap<Revision, BTreeMap<Key, KeyMeta>>);

impl States {
    fn at(&self, revision: Revision) -> BTreeMap<Key, KeyMeta> {
        self.0.range(..=revision).next_back().map(|(_, state)| state.clone()).unwrap_or_default()
    }
}

fn key(number: u16) -> Key {
    Key::new(format!("/registry/pods/{number:03}")).unwrap()
}

fn change(state: &BTreeMap<Key, KeyMeta>, key: Key, delete: bool, revision: Revision) -> Change {
    let before = state.get(&key);
    let previous = before.map_or(Revision::NONE, |meta| meta.mod_revision);
    let kind = if delete {
        ChangeKind::Delete
    } else {
        ChangeKind::Put(KeyMeta {
            create_revision: before.map_or(revision, |meta| meta.create_revision),
            mod_revision: revision,
            version: before.map_or(1, |meta| meta.version + 1),
            lease: LeaseId::NONE,
            value_len: 3,
        })
    };
    Change { revision, key, kind, previous }
}

fn step(state: &mut BTreeMap<Key, KeyMeta>, change: &Change) {
    match change.kind {
        ChangeKind::Put(meta) => drop(state.insert(change.key.clone(), meta)),
        ChangeKind::Delete => drop(state.remove(&change.key)),
    }
}

fn listed(index: &Index, range: &KeyRange, revision: Revision) -> Vec<(Key, KeyMeta)> {
    let mut found = Vec::new();
    index.visit(range, revision, |key, meta| {
        found.push((Key::new(key.to_vec()).unwrap(), meta));
        ControlFlow::Continue(())
    });
    found
}

fn assert_tells(index: &Index, state: &BTreeMap<Key, KeyMeta>, revision: Revision, bounds: (u16, u16)) {
    let some = KeyRange::between(&key(bounds.0), key(bounds.1).bytes().clone());
    for range in [KeyRange::all(), some, KeyRange::from(&key(bounds.0)), KeyRange::single(&key(bounds.1))] {
        let expected: Vec<_> = state
            .iter()
            .filter(|(key, _)| range.contains(key.as_slice()))
            .map(|(key, meta)| (key.clone(), *meta))
            .collect();
        assert_eq!(listed(index, &range, revision), expected, "{range:?} at {revision}");
        assert_eq!(index.count(&range, revision), expected.len(), "{range:?} at {revision}");
    }
    assert_eq!(index.at(key(bounds.0).as_slice(), revision), state.get(&key(bounds.0)).copied());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever was put, deleted, taken back and forgotten: every revision from the floor on is told exactly.
    #[test]
    fn the_index_tells_every_state_that_history_still_holds(
        steps in proptest::collection::vec((0..600u16, 0..10u8), 1..1500),
        bounds in (0..600u16, 0..600u16),
    ) {
        let mut index = Index::default();
        let (mut states, mut state, mut history) = (States::default(), BTreeMap::new(), Vec::new());
        let (mut revision, mut floor) = (Revision::FIRST, Revision::FIRST);
        for (number, action) in steps {
            let next = revision.next();
            let delete = action < 3;
            if delete && !state.contains_key(&key(number)) {
                continue;
            }
            let change = change(&state, key(number), delete, next);
            let replaced = index.apply(&change);
            prop_assert_eq!(replaced.version, state.get(&change.key).copied());
            if action == 9 {
                index.revert(&change);
                continue;
            }
            step(&mut state, &change);
            revision = next;
            states.0.insert(revision, state.clone());
            history.push(change);
            if action == 8 {
                let forgotten = history.remove(0);
                floor = forgotten.revision;
                index.forget(&forgotten);
            }
        }
        prop_assert_eq!(index.len(), state.len());
        for look in [floor, Revision::new((floor.get() + revision.get()) / 2), revision, Revision::MAX] {
            assert_tells(&index, &states.at(look), look, bounds);
        }
        for change in &history {
            index.forget(change);
        }
        assert_tells(&index, &state, revision, bounds);
        let entries: usize = index.blocks.iter().map(Block::len).sum();
        prop_assert_eq!(entries, state.len(), "nothing is left of what nobody can ask for");
    }
}

#[test]
fn a_loaded_index_tells_what_was_loaded() {
    let mut state = BTreeMap::new();
    for number in 0..999 {
        let change = change(&state, key(number), false, Revision::new(i64::from(number) + 2));
        step(&mut state, &change);
    }
    let mut loader = Index::loader();
    for (key, meta) in &state {
        loader.add(key, *meta);
    }
    let index = loader.finish();
    assert_tells(&index, &state, Revision::new(1000), (10, 700));
    assert!(index.blocks.len() > 2);
}

#[test]
fn blocks_that_empty_are_joined() {
    let mut state = BTreeMap::new();
    let mut index = Index::default();
    let mut revision = Revision::FIRST;
    for delete in [false, true] {
        for number in 0..5000 {
            revision = revision.next();
            let change = change(&state, key(number), delete, revision);
            index.apply(&change);
            index.forget(&change);
            step(&mut state, &change);
            assert!(index.blocks.len() <= index.len() / 60 + 1);
        }
    }
    assert!(index.blocks.is_empty());
}
