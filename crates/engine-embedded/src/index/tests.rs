use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use proptest::prelude::*;

use super::*;

fn entry(number: u32) -> Entry {
    let inline = number.is_multiple_of(3).then(|| vec![7; (number % 41) as usize].into());
    let value_len = inline.as_ref().map_or(number, |value: &bytes::Bytes| value.len() as u32);
    Entry { segment: number % 1000, offset: number, value_len, oldest: (number % 1000) / 2, inline }
}

fn ascending(index: &Index, start: Bound<&[u8]>, end: Option<&[u8]>) -> Vec<(Vec<u8>, Entry)> {
    let mut found = Vec::new();
    index.ascend(start, end, |key, payload| {
        found.push((key.to_vec(), Entry::decode(payload)));
        ControlFlow::Continue(())
    });
    found
}

fn descending(index: &Index, start: &[u8], end: Option<&[u8]>) -> Vec<(Vec<u8>, Entry)> {
    let mut found = Vec::new();
    index.descend(start, end, |key, payload| {
        found.push((key.to_vec(), Entry::decode(payload)));
        ControlFlow::Continue(())
    });
    found
}

/// Keys that share prefixes, are prefixes of each other, or are empty.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(prop::sample::select(vec![0u8, 1, b'a', 255]), 0..5),
        (0..400u32).prop_map(|number| format!("/registry/pods/ns-{}/pod-{number}", number % 7).into_bytes()),
        (0..3u8, 0..6000usize).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Vec<u8>, u32),
    Remove(Vec<u8>),
    RemoveSpan(Vec<u8>, Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (key(), any::<u32>()).prop_map(|(key, number)| Step::Insert(key, number % (1 << 30))),
        3 => key().prop_map(Step::Remove),
        1 => (key(), key()).prop_map(|(one, other)| Step::RemoveSpan(one, other)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_index_behaves_as_an_ordered_map(
        steps in prop::collection::vec(step(), 1..1500),
        spans in prop::collection::vec((key(), prop::option::of(key())), 8),
    ) {
        let mut index = Index::new();
        let mut model = BTreeMap::new();
        for step in steps {
            match step {
                Step::Insert(key, number) => {
                    prop_assert_eq!(index.insert(&key, &entry(number)), model.insert(key, entry(number)));
                }
                Step::Remove(key) => prop_assert_eq!(index.remove(&key), model.remove(&key)),
                Step::RemoveSpan(one, other) => {
                    let (low, high) = if one <= other { (one, other) } else { (other, one) };
                    let keys: Vec<_> = model.range(low..high).map(|(key, _)| key.clone()).collect();
                    for key in keys {
                        prop_assert_eq!(index.remove(&key), model.remove(&key));
                    }
                }
            }
            prop_assert_eq!(index.len(), model.len());
        }
        let all: Vec<_> = model.clone().into_iter().collect();
        prop_assert_eq!(&ascending(&index, Bound::Unbounded, None), &all);
        let mut builder = Builder::new();
        all.iter().for_each(|(key, entry)| builder.push(key, entry));
        let built = builder.finish();
        prop_assert_eq!(&ascending(&built, Bound::Unbounded, None), &all);
        for (start, end) in &spans {
            prop_assert_eq!(index.get(start), model.get(start).cloned());
            prop_assert_eq!(built.get(start), model.get(start).cloned());
            let inside = |key: &[u8]| key >= start.as_slice() && end.as_ref().is_none_or(|end| key < end.as_slice());
            let mut expected: Vec<_> = all.iter().filter(|(key, _)| inside(key)).cloned().collect();
            prop_assert_eq!(&ascending(&index, Bound::Included(start), end.as_deref()), &expected);
            let mut behind = expected.clone();
            behind.retain(|(key, _)| key != start);
            prop_assert_eq!(&ascending(&index, Bound::Excluded(start), end.as_deref()), &behind);
            expected.reverse();
            prop_assert_eq!(&descending(&index, start, end.as_deref()), &expected);
        }
    }
}

#[test]
fn keys_in_order_fill_their_leaves_and_trimming_frees_them() {
    let mut index = Index::new();
    for slot in 0..100_000u64 {
        index.insert(&slot.to_be_bytes(), &entry(1));
    }
    assert!(index.leaves.len() <= 100_000 / LEAF_ENTRIES_MAX + 2, "{}", index.leaves.len());
    for slot in 0..99_000u64 {
        index.remove(&slot.to_be_bytes());
    }
    assert!(index.leaves.len() <= 1_000 / LEAF_ENTRIES_MAX + 3, "{}", index.leaves.len());
}

#[test]
fn a_million_prefixed_keys_take_far_less_memory_than_their_bytes() {
    let mut index = Index::new();
    let mut bytes = 0;
    for number in 0..30_000u64 {
        // Neighbours arrive far apart, as they do when names are random.
        let key = format!(
            "/registry/pods/namespace-{:03}/some-deployment-name-{:016x}-abcde",
            number % 100,
            number
        );
        bytes += key.len();
        index.insert(
            key.as_bytes(),
            &Entry { segment: 9, offset: 1 << 25, value_len: 600, oldest: 9, inline: None },
        );
    }
    assert!(index.memory() < bytes * 3 / 4, "{} of {bytes}", index.memory());
}
